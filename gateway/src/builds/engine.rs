//! Watches the engine: nothing runs on one that hasn't proved that it keeps tenants apart.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kiln_backends::{AttemptName, BuildBackend};
use tokio_util::sync::CancellationToken;

use super::{Builds, EngineHealth, Shared};

/// How often a good engine is proved again, and a bad one tried.
const WHILE_GOOD: Duration = Duration::from_secs(60);
const WHILE_BAD: Duration = Duration::from_secs(2);
/// How long a proof may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Probes the engine until `stop`, and sweeps what earlier processes left on it when it (re)appears.
pub async fn watch_engine(builds: Builds, backend: Arc<dyn BuildBackend>, stop: CancellationToken) {
    let mut was_good = false;
    while !stop.is_cancelled() {
        let before = builds.engine();
        let Some(health) = stop.run_until_cancelled(probe(&*backend, before.missing_since)).await else { return };
        let good = health.capabilities.is_some();
        if good && !was_good && stop.run_until_cancelled(sweep(&builds, &*backend)).await.is_none() {
            return;
        }
        report(&health, before.trouble.as_deref());
        builds.0.metrics.engine(good);
        builds.0.engine.send_replace(health);
        was_good = good;
        let wait = if good { WHILE_GOOD } else { WHILE_BAD };
        tokio::select! {
            () = stop.cancelled() => {}
            () = builds.0.engine_lost.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Shared {
    /// An attempt found the engine gone: the next ones wait until it was proved again.
    pub(super) fn lost_engine(&self, trouble: &str) {
        let missing_since = self.engine.borrow().missing_since.or_else(|| Some(Timestamp::now()));
        let health = EngineHealth { capabilities: None, trouble: Some(trouble.to_owned()), missing_since };
        tracing::warn!(trouble, "the engine went away; builds wait");
        self.metrics.engine(false);
        self.engine.send_replace(health);
        self.engine_lost.notify_one();
    }
}

async fn probe(backend: &dyn BuildBackend, missing_since: Option<Timestamp>) -> EngineHealth {
    let trouble = match tokio::time::timeout(WITHIN, backend.probe()).await {
        Ok(Ok(capabilities)) => {
            return EngineHealth { capabilities: Some(capabilities), trouble: None, missing_since: None };
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no proof within {WITHIN:?}"),
    };
    let missing_since = missing_since.or_else(|| Some(Timestamp::now()));
    EngineHealth { capabilities: None, trouble: Some(trouble), missing_since }
}

async fn sweep(builds: &Builds, backend: &dyn BuildBackend) {
    let ours = |name: &AttemptName| builds.0.running.has(name);
    match backend.sweep(&ours).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "leftovers of earlier attempts were removed from the engine"),
        Err(error) => tracing::warn!(%error, "the engine's leftovers were not removed"),
    }
}

/// One line when something changed, none while it stays.
fn report(health: &EngineHealth, before: Option<&str>) {
    match (&health.capabilities, &health.trouble) {
        (Some(capabilities), _) if before.is_some() => {
            tracing::info!(engine = capabilities.engine, version = capabilities.version, "the engine is back");
        }
        (None, Some(trouble)) if before != Some(trouble) => {
            tracing::warn!(trouble, "the engine can't be used; builds wait");
        }
        _ => {}
    }
}
