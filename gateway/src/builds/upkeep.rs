//! What goes on beside builds: recovery at start, free space, retention.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use kiln_auth::audit;
use kiln_backends::{Failure, Reason};
use tokio_util::sync::CancellationToken;

use super::{Builds, Sharing, attached, sharing::Follower};
use crate::ledger::{Change, LedgerError, State};

/// A build that was cut off by so many crashes isn't begun again.
const CRASHES: u32 = 3;
/// How often free space is looked at; a request looks at the result only.
const DISK_EVERY: Duration = Duration::from_secs(5);
/// How often retention is applied.
const RETENTION_EVERY: Duration = Duration::from_secs(600);

/// Takes up what an earlier process left: queued builds wait again, cut off ones are begun again,
/// pushed ones are committed, those that wait for another's image do so again, attached ones are ended. Returns how
/// many go on.
///
/// # Errors
/// When the ledger failed.
pub async fn recover(builds: &Builds, sharing: &Sharing) -> Result<usize, LedgerError> {
    let shared = &builds.0;
    let interrupted = Failure::new(
        Reason::Interrupted,
        format!("the build was begun {CRASHES} times and cut off each time; start it again, or ask the operator why"),
    );
    let before = shared.ledger.unfinished().await?;
    shared.ledger.recover(CRASHES, interrupted.clone()).await?;
    let after = shared.ledger.unfinished().await?;
    for build in &before {
        if !after.iter().any(|b| b.id == build.id) {
            shared.end_log(build.id, State::Failed, Some(&interrupted)).await;
            shared.logs.seal(build.id);
            shared.metrics.ended(State::Failed, Some(&interrupted));
        }
    }
    if let Err(error) = shared.stored.recover(&after).await {
        tracing::error!(%error, "contexts that nobody needs any more may lie in the data folder");
    }
    // Whoever waited for these has gone with the process that held their contexts.
    let (attached, detached): (Vec<_>, Vec<_>) = after.into_iter().partition(|build| build.request.attached);
    for build in &attached {
        let failure = attached::interrupted();
        shared.finish(build.id, Change::Failed(failure.clone()), Some(&failure)).await?;
    }
    for build in &detached {
        if build.state == State::Queued && build.follows.is_some() {
            sharing.spawn(Follower { id: build.id, place: shared.queue.hold(build.owner()) });
        } else {
            shared.queue.restore(build.owner(), build.id);
        }
    }
    Ok(detached.len())
}

/// Watches the space below `folder` until `stop`; with less than `min_free` nothing is accepted.
pub async fn watch_disk(builds: Builds, folder: PathBuf, min_free: u64, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let free = rustix::fs::statvfs(&folder).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        let enough = match free {
            Ok(free) => free >= min_free,
            Err(error) => {
                tracing::warn!(%error, "free space is unknown");
                true
            }
        };
        if builds.0.disk_free.swap(enough, Ordering::Relaxed) != enough {
            tracing::warn!(enough, min_free, "free space passed the mark");
        }
        let _ = tokio::time::timeout(DISK_EVERY, stop.cancelled()).await;
    }
}

/// Removes finished builds older than `keep` until `stop`.
pub async fn watch_retention(builds: Builds, keep: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let before = Timestamp::now().checked_sub(keep).unwrap_or(Timestamp::MIN);
        match builds.0.remove(None, before).await {
            Ok(0) => {}
            Ok(builds) => {
                let which = format!("{builds} finished before {before}");
                audit::Line::of("delete", "retention").build(&which).done();
            }
            Err(error) => tracing::error!(%error, "retention failed"),
        }
        let _ = tokio::time::timeout(RETENTION_EVERY, stop.cancelled()).await;
    }
}
