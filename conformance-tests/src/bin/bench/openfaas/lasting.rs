//! What a thousand builds leave behind in the gateway.

use std::{fs, io, sync::Arc, time::Duration};

use super::{Archive, CALLERS, callers, large::spooled, post};
use crate::{
    Result,
    gateway::Gateway,
    report::{Report, Row},
};

const BUILDS: usize = 1_000;
/// What makes the gateway as large as this load does: connections to engine and registry, threads.
const WARM: usize = 10 * CALLERS;
/// Until what waits for more work has gone: threads wait ten seconds.
const SETTLED: Duration = Duration::from_secs(15);

/// What a process holds.
struct Held {
    descriptors: usize,
    threads: usize,
    files: usize,
}

pub(super) async fn measure(gateway: &Gateway, tiny: &[Arc<Archive>], report: &mut Report) -> Result<()> {
    callers(WARM / CALLERS, |caller| post(gateway, &tiny[caller])).await?;
    let before = settled(gateway).await?;
    callers(BUILDS / CALLERS, |caller| post(gateway, &tiny[caller])).await?;
    let after = settled(gateway).await?;
    // A connection to the registry that is kept or isn't makes a difference of a few.
    let most = CALLERS as f64;
    for (what, before, after, most) in [
        (format!("Descriptors, growth by {BUILDS} builds"), before.descriptors, after.descriptors, most),
        ("Threads".to_owned(), before.threads, after.threads, most),
        ("Temporary files".to_owned(), before.files, after.files, 0.0),
    ] {
        let seen = format!("{before} before");
        report.add(Row::at_most(what, after as f64 - before as f64, most, "").beside(&seen));
    }
    Ok(())
}

async fn settled(gateway: &Gateway) -> Result<Held> {
    tokio::time::sleep(SETTLED).await;
    let count = |kind: &str| Ok::<_, io::Error>(fs::read_dir(format!("/proc/{}/{kind}", gateway.pid()))?.count());
    let named = fs::read_dir(gateway.temporary())?.count();
    Ok(Held { descriptors: count("fd")?, threads: count("task")?, files: named + spooled(gateway)? })
}
