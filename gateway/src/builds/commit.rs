//! The commit: the tag is moved by Kiln alone, in the order of acceptance, and only then the build has succeeded.

use std::{sync::Arc, time::Duration};

use super::{
    Builds,
    attempt::Materials,
    running::{Stop, Why},
};
use crate::{
    ledger::{Build, Change, LedgerError, State},
    log::RecordKind,
    registry::RegistryError,
};
use kiln_backends::{Failure, Reason};

/// How often a tag is tried to be put, with growing pauses, before the build fails.
const TRIES: u32 = 5;
/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Moves tags.
pub struct Committer {
    builds: Builds,
    materials: Arc<Materials>,
}

impl Committer {
    /// Moves tags with these credentials.
    #[must_use]
    pub fn new(builds: Builds, materials: Arc<Materials>) -> Self {
        Self { builds, materials }
    }

    /// Commits a pushed build, or ends it as cancelled if its owner was faster.
    pub(super) async fn commit(&self, build: &Build, stop: &Stop) -> Result<(), LedgerError> {
        let shared = &self.builds.0;
        // Of two builds of one target only one looks and puts at a time.
        let _turn = self.builds.turn_of_tag(&build.registry, &build.target).await;
        let Some(now) = shared.ledger.load(build.id).await? else { return Ok(()) };
        if now.state != State::Pushed {
            return Ok(());
        }
        let change = if now.cancelled {
            cancelled(&now, stop)
        } else if shared.ledger.later_committed(&now).await? {
            let text = format!("a later build of {} was committed first; the tag stays with it", now.target);
            shared.note(now.id, RecordKind::Note, text).await;
            Change::Succeeded
        } else {
            match self.put(&now, stop).await {
                Some(change) => change,
                // The process stops; the next one commits.
                None => return Ok(()),
            }
        };
        let failure = match &change {
            Change::Failed(failure) | Change::Cancelled(failure) => Some(failure.clone()),
            _ => None,
        };
        let state = change.state();
        if shared.finish(now.id, change, failure.as_ref()).await? {
            tracing::info!(build = %now.id, owner = %now.owner(), state = state.as_str(), target = %now.target, "build committed");
        }
        Ok(())
    }

    /// Puts the tag, unless the build is cancelled before; `None` when the process stops first.
    async fn put(&self, build: &Build, stop: &Stop) -> Option<Change> {
        let failed = |reason, message: String| Some(Change::Failed(Failure::new(reason, message)));
        let Some(digest) = build.digest.as_deref() else {
            return failed(Reason::Internal, "the pushed image's digest is unknown".to_owned());
        };
        let push = match self.materials.push(build).await {
            Ok(push) => push,
            Err(failure) => return Some(Change::Failed(failure)),
        };
        let mut pause = PAUSE;
        for tried in 1.. {
            // A put that has begun is not broken off by a cancel: nobody could say what became of it.
            let put = tokio::select! {
                biased;
                () = stop.drained() => return None,
                put = self.materials.registry.put_tag(&push, &build.target, digest) => put,
            };
            let error = match put {
                Ok(()) => return Some(Change::Succeeded),
                Err(error) => error,
            };
            tracing::warn!(build = %build.id, %error, tried, "the tag was not put");
            match error {
                RegistryError::Forbidden { .. } => {
                    return failed(Reason::PushDenied, format!("the registry refused the tag: {error}"));
                }
                _ if tried >= TRIES => {
                    return failed(
                        Reason::RegistryUnavailable,
                        format!("the image is pushed as {digest}, but its tag can't be put: {error}"),
                    );
                }
                _ => {}
            }
            let _ = stop.token.run_until_cancelled(tokio::time::sleep(pause)).await;
            match stop.why() {
                Some(Why::Cancelled) => return Some(cancelled(build, stop)),
                Some(Why::Draining) => return None,
                None => pause *= 2,
            }
        }
        None
    }
}

fn cancelled(build: &Build, stop: &Stop) -> Change {
    let message = format!("{} before its tag was moved", stop.by(build.owner()));
    Change::Cancelled(Failure::new(Reason::CancelledByUser, message))
}
