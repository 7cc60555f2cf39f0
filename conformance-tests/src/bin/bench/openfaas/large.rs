//! Archives of hundreds of megabytes: what of them nobody wants, what is signed by nobody, and the disk they go to.

use std::{
    fs, io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Archive,
    archive::{Answer, FORGED, SMALL, done},
    by_buildctl, config, in_turns, medians, ratio,
};
use crate::{
    Result,
    gateway::Gateway,
    memory,
    report::{Report, Row},
};

/// Of which a Dockerfile copies 1 KB.
const UNWANTED: u64 = 300_000_000;
const LARGEST: u64 = 2 << 30;
/// Pairs, where each takes seconds.
const PAIRS: usize = 5;

pub(super) async fn measure(gateway: &Gateway, report: &mut Report) -> Result<()> {
    let archive = Archive::pack(gateway.folder(), &config("large"), UNWANTED)?;
    unwanted(gateway, &archive, report).await?;
    forged(gateway, &archive, report).await?;
    ingest(gateway, report).await
}

async fn unwanted(gateway: &Gateway, archive: &Archive, report: &mut Report) -> Result<()> {
    let ours = || archive.build(&gateway.address);
    let theirs = || unpacked(gateway.folder(), archive);
    let idle = memory::resident(gateway.pid())?;
    memory::reset_peak(gateway.pid())?;
    ours().await?;
    theirs().await?;
    let pairs = in_turns(PAIRS, ours, theirs).await?;
    let grown = memory::peak(gateway.pid())? - idle;
    let what = format!(
        "Archive of {} MB of which {SMALL} bytes are copied, from its first byte to the answer, over `tar -x` and `buildctl`",
        UNWANTED / 1_000_000
    );
    report.add(Row::at_most(what, ratio(&pairs), 1.5, "×").beside(&medians(&pairs)));
    report.add(Row::at_most("Memory, peak beyond idle meanwhile", grown, 16.0, "MiB"));
    Ok(())
}

/// What a user would do without the gateway.
async fn unpacked(below: &Path, archive: &Archive) -> Result<Duration> {
    let folder = TempDir::new_in(below)?;
    let began = Instant::now();
    done(Command::new("tar").arg("-C").arg(folder.path()).arg("-xf").arg(archive.path()))?;
    let unpacked = began.elapsed();
    Ok(unpacked + by_buildctl(folder.path().join("context"), 0).await?)
}

async fn forged(gateway: &Gateway, archive: &Archive, report: &mut Report) -> Result<()> {
    let Answer { status, text, took } = archive.send_as(&gateway.address, FORGED).await?;
    if status != 401 {
        return Err(format!("a forged signature was not refused: {text}").into());
    }
    let what = format!("Files left of an archive of {} MB with a bad signature", UNWANTED / 1_000_000);
    let seen = format!("refused after {:.0} ms", took.as_secs_f64() * 1e3);
    report.add(Row::at_most(what, spooled(gateway)? as f64, 0.0, "").beside(&seen));
    Ok(())
}

/// Files of the spool: those that the gateway holds open have no names.
pub(super) fn spooled(gateway: &Gateway) -> io::Result<usize> {
    let spool = gateway.folder().join("data/spool");
    let mut files = fs::read_dir(&spool)?.count();
    for descriptor in fs::read_dir(format!("/proc/{}/fd", gateway.pid()))? {
        // One that is closed meanwhile is none.
        files += usize::from(fs::read_link(descriptor?.path()).is_ok_and(|target| target.starts_with(&spool)));
    }
    Ok(files)
}

async fn ingest(gateway: &Gateway, report: &mut Report) -> Result<()> {
    // Nothing is built: the configuration, which is read once the signature is right, names no image.
    let archive = Archive::pack(gateway.folder(), "{}", LARGEST)?;
    let ours = || async {
        synced()?;
        let Answer { status, text, took } = archive.send(&gateway.address).await?;
        match status {
            400 if text.contains("no target reference to push") => Ok(took),
            _ => Err(text.into()),
        }
    };
    let theirs = || async {
        synced()?;
        copied(gateway.folder(), &archive)
    };
    let pairs = in_turns(PAIRS, ours, theirs).await?;
    let what = "Signed archive of 2 GiB taken in, times the rate of `dd conv=fdatasync` on the same disk";
    report.add(Row::at_least(what, 1.0 / ratio(&pairs), 0.7, "×").beside(&medians(&pairs)));
    Ok(())
}

fn copied(below: &Path, archive: &Archive) -> Result<Duration> {
    let folder = TempDir::new_in(below)?;
    let (from, to) = (archive.path(), folder.path().join("copy"));
    let began = Instant::now();
    let operands = [format!("if={}", from.display()), format!("of={}", to.display())];
    done(Command::new("dd").args(operands).args(["bs=1M", "conv=fdatasync"]))?;
    Ok(began.elapsed())
}

/// Neither side is to wait for what the other has left to write.
fn synced() -> Result<()> {
    done(&mut Command::new("sync"))
}
