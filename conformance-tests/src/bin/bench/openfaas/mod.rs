//! The door of OpenFaaS beside what it stands for: `tar` and `buildctl` on the same daemon, and the bare disk.

mod archive;
mod large;
mod lasting;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use kiln_conformance_tests::engine;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    Result, buildctl,
    gateway::Gateway,
    report::{Report, Row},
    stats::{PAIRS, median, ms},
};
use archive::Archive;
pub(crate) use archive::KEY;

/// Pairs of builds, one after the other: they are short.
const SINGLE: usize = PAIRS * 3;
/// Callers at once, and what each of them builds in a round.
pub(crate) const CALLERS: usize = 8;
const EACH: usize = 3;

/// Measures on a gateway of its own.
pub(crate) async fn measure(report: &mut Report) -> Result<()> {
    let gateway = Gateway::with_openfaas().await?;
    let pack = |caller| Archive::pack(gateway.folder(), &config(&format!("tiny-{caller}")), 0).map(Arc::new);
    // One for each caller, all with the same context.
    let tiny = (0..CALLERS).map(pack).collect::<Result<Vec<_>>>()?;
    alone(&gateway, &tiny[0], report).await?;
    at_once(&gateway, &tiny, report).await?;
    large::measure(&gateway, report).await?;
    lasting::measure(&gateway, &tiny, report).await
}

async fn alone(gateway: &Gateway, tiny: &Archive, report: &mut Report) -> Result<()> {
    let ours = || tiny.build(&gateway.address);
    let theirs = || by_buildctl(tiny.context(), 0);
    // Both caches are filled first: the gateway's steps are salted by owner.
    ours().await?;
    theirs().await?;
    let pairs = in_turns(SINGLE, ours, theirs).await?;
    let what = "Tiny archive, fully cached, through the door of OpenFaaS, over `buildctl`";
    report.add(Row::at_most(what, ratio(&pairs), 1.1, "×").beside(&medians(&pairs)));
    Ok(())
}

async fn at_once(gateway: &Gateway, tiny: &[Arc<Archive>], report: &mut Report) -> Result<()> {
    let what = format!("The same from {CALLERS} callers at once, p50, over that of {CALLERS} `buildctl` at once");
    let (ratio, medians) = crowds(gateway, tiny, |_| 0).await?;
    report.add(Row::at_most(what, ratio, 0.8, "×").beside(&medians));
    let what =
        format!("{CALLERS} callers at once who build an image of their own each, p50, over {CALLERS} such `buildctl`");
    let (ratio, medians) = crowds(gateway, tiny, |caller| caller).await?;
    report.add(Row::scale(what, format!("{ratio:.2} × ({medians})")));
    Ok(())
}

/// Rounds of callers who build what `which` says, beside as many `buildctl`: how many times longer ours took.
async fn crowds(gateway: &Gateway, tiny: &[Arc<Archive>], which: fn(usize) -> usize) -> Result<(f64, String)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        ours.extend(callers(EACH, |caller| post(gateway, &tiny[which(caller)])).await?);
        theirs.extend(callers(EACH, |caller| by_buildctl(tiny[0].context(), which(caller))).await?);
    }
    let (ours, theirs) = (median(&ours), median(&theirs));
    Ok((ours / theirs, format!("{ours:.0} ms beside {theirs:.0} ms")))
}

/// Callers who ask so often each, again as soon as they have an answer: their times, ms.
async fn callers<F>(often: usize, ask: impl Fn(usize) -> F) -> Result<Vec<f64>>
where
    F: Future<Output = Result<Duration>> + Send + 'static,
{
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let asks: Vec<F> = (0..often).map(|_| ask(caller)).collect();
        callers.spawn(async move {
            let mut times = Vec::with_capacity(asks.len());
            for ask in asks {
                times.push(ms(ask.await?));
            }
            Result::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = callers.join_next().await {
        times.extend(ended??);
    }
    Ok(times)
}

/// Both sides so often, in pairs that take turns in going first.
async fn in_turns<A, B>(pairs: usize, ours: impl Fn() -> A, theirs: impl Fn() -> B) -> Result<Vec<(Duration, Duration)>>
where
    A: Future<Output = Result<Duration>>,
    B: Future<Output = Result<Duration>>,
{
    let mut times = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        times.push(if pair % 2 == 0 {
            (ours().await?, theirs().await?)
        } else {
            let theirs = theirs().await?;
            (ours().await?, theirs)
        });
    }
    Ok(times)
}

/// One build, as a task of its own can make it.
fn post(gateway: &Gateway, archive: &Arc<Archive>) -> impl Future<Output = Result<Duration>> + Send + 'static {
    let (archive, address) = (Arc::clone(archive), gateway.address.clone());
    async move { archive.build(&address).await }
}

async fn by_buildctl(context: PathBuf, caller: usize) -> Result<Duration> {
    buildctl::build(&context, &image(&format!("buildctl-{caller}"))).await
}

/// The image in the archive's configuration.
fn config(tag: &str) -> String {
    json!({ "image": image(tag) }).to_string()
}

fn image(tag: &str) -> String {
    format!("{}/functions/bench:{tag}", engine("KILN_TEST_REGISTRY"))
}

/// The median of how many times longer ours took.
fn ratio(pairs: &[(Duration, Duration)]) -> f64 {
    let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
    median(&ratios)
}

/// The medians of both sides, for people.
fn medians(pairs: &[(Duration, Duration)]) -> String {
    let of = |side: fn(&(Duration, Duration)) -> Duration| median(&pairs.iter().map(side).map(ms).collect::<Vec<_>>());
    format!("{:.0} ms beside {:.0} ms", of(|pair| pair.0), of(|pair| pair.1))
}
