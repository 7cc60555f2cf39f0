//! The attempts that run in this process, and the ways to stop one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use kiln_backends::BuildId;
use tokio_util::sync::CancellationToken;

/// Running builds and what stops them.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<BuildId, Stop>>);

/// Why an attempt was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Its owner, or an operator, wants it so: the build ends.
    Cancelled,
    /// The process stops: the build runs again.
    Draining,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    pub(super) token: CancellationToken,
    cancelled: CancellationToken,
}

impl Running {
    pub(super) fn enter(&self, id: BuildId) -> Stop {
        let stop = Stop::default();
        self.lock().insert(id, stop.clone());
        stop
    }

    pub(super) fn leave(&self, id: BuildId) {
        self.lock().remove(&id);
    }

    pub(super) fn cancel(&self, id: BuildId) {
        if let Some(stop) = self.lock().get(&id) {
            stop.cancelled.cancel();
            stop.token.cancel();
        }
    }

    pub(super) fn has(&self, id: BuildId) -> bool {
        self.lock().contains_key(&id)
    }

    pub(super) fn drain(&self) {
        for stop in self.lock().values() {
            stop.token.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BuildId, Stop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop {
    /// Why it was stopped, if it was.
    pub(super) fn why(&self) -> Option<Why> {
        match (self.token.is_cancelled(), self.cancelled.is_cancelled()) {
            (_, true) => Some(Why::Cancelled),
            (true, false) => Some(Why::Draining),
            (false, false) => None,
        }
    }
}
