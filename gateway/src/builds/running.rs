//! The attempts that run in this process, and the ways to stop one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use kiln_auth::UserName;
use kiln_backends::{AttemptName, BuildId};
use tokio_util::sync::CancellationToken;

/// Running builds and what stops them.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    stops: HashMap<BuildId, Stop>,
    draining: bool,
}

/// Why an attempt was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Somebody wants it so: the build ends.
    Cancelled,
    /// The process stops: the build runs again.
    Draining,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// Fires for whatever reason.
    pub(super) token: CancellationToken,
    cancelled: CancellationToken,
    /// Who cancelled it, for its owner to read.
    by: Arc<OnceLock<String>>,
    draining: CancellationToken,
    /// The attempt that is on the engine, 0 before the first.
    attempt: Arc<AtomicU32>,
}

impl Running {
    pub(super) fn enter(&self, id: BuildId) -> Stop {
        let stop = Stop::default();
        let mut inside = self.lock();
        if inside.draining {
            stop.drain();
        }
        inside.stops.insert(id, stop.clone());
        stop
    }

    pub(super) fn leave(&self, id: BuildId) {
        self.lock().stops.remove(&id);
    }

    /// Cancels a build; `by` says in a sentence who did it.
    pub(super) fn cancel(&self, id: BuildId, by: &str) {
        if let Some(stop) = self.lock().stops.get(&id) {
            stop.by.get_or_init(|| by.to_owned());
            stop.cancelled.cancel();
            stop.token.cancel();
        }
    }

    /// Whether exactly this attempt is this process's: an earlier one is a leftover.
    pub(super) fn has(&self, name: &AttemptName) -> bool {
        self.lock().stops.get(&name.build).is_some_and(|stop| stop.attempt.load(Ordering::Relaxed) == name.attempt)
    }

    /// Stops what runs, and what begins from now on.
    pub(super) fn drain(&self) {
        let mut inside = self.lock();
        inside.draining = true;
        inside.stops.values().for_each(Stop::drain);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop {
    /// Notes which attempt is on the engine from now on.
    pub(super) fn begin(&self, attempt: u32) {
        self.attempt.store(attempt, Ordering::Relaxed);
    }

    /// Returns once the process gives the build up, whatever its owner wants.
    pub(super) async fn drained(&self) {
        self.draining.cancelled().await;
    }

    /// Who cancelled it; its owner where that isn't known, as after a restart.
    pub(super) fn by(&self, owner: &UserName) -> String {
        self.by.get().cloned().unwrap_or_else(|| format!("{owner} cancelled the build"))
    }

    fn drain(&self) {
        self.draining.cancel();
        self.token.cancel();
    }

    /// Why it was stopped, if it was.
    pub(super) fn why(&self) -> Option<Why> {
        match (self.token.is_cancelled(), self.cancelled.is_cancelled()) {
            (_, true) => Some(Why::Cancelled),
            (true, false) => Some(Why::Draining),
            (false, false) => None,
        }
    }
}
