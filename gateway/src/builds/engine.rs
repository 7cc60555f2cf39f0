//! Watches the engine: nothing runs on one that hasn't proved that it keeps tenants apart.

use std::{sync::Arc, time::Duration};

use kiln_backends::{AttemptName, BuildBackend};
use tokio_util::sync::CancellationToken;

use super::{Builds, EngineHealth};

/// How often a good engine is proved again, and a bad one tried.
const WHILE_GOOD: Duration = Duration::from_secs(60);
const WHILE_BAD: Duration = Duration::from_secs(2);
/// How long a proof may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Probes the engine until `stop`, and sweeps what earlier processes left on it when it (re)appears.
pub async fn watch_engine(builds: Builds, backend: Arc<dyn BuildBackend>, stop: CancellationToken) {
    let mut was_good = false;
    while !stop.is_cancelled() {
        let Some(health) = stop.run_until_cancelled(probe(&*backend)).await else { return };
        let good = health.capabilities.is_some();
        if good && !was_good {
            sweep(&builds, &*backend).await;
        }
        report(&health, builds.engine().trouble.as_deref());
        builds.0.metrics.engine(good);
        builds.0.engine.send_replace(health);
        was_good = good;
        let wait = if good { WHILE_GOOD } else { WHILE_BAD };
        let _ = tokio::time::timeout(wait, stop.cancelled()).await;
    }
}

async fn probe(backend: &dyn BuildBackend) -> EngineHealth {
    match tokio::time::timeout(WITHIN, backend.probe()).await {
        Ok(Ok(capabilities)) => EngineHealth { capabilities: Some(capabilities), trouble: None },
        Ok(Err(error)) => EngineHealth { capabilities: None, trouble: Some(error.to_string()) },
        Err(_) => EngineHealth { capabilities: None, trouble: Some(format!("no proof within {WITHIN:?}")) },
    }
}

async fn sweep(builds: &Builds, backend: &dyn BuildBackend) {
    // At this moment nothing of this process is on the engine: what is there was left behind.
    let ours = |name: &AttemptName| builds.0.running.has(name.build);
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
