//! `/healthz`: the process answers. `/readyz`: it accepts builds. `/metrics`: on the admin listener.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::{sync::Mutex, time::timeout};

use crate::{builds::Builds, metrics::Metrics};

/// How long an answer of `/readyz` holds: each one is a write to the ledger, and anybody may ask.
const READY_FOR: Duration = Duration::from_secs(1);

/// How long the ledger may take for that write; a disk that takes longer accepts no builds.
const LEDGER_WITHIN: Duration = Duration::from_secs(5);

/// What `/readyz` knows, and since when.
#[derive(Clone)]
struct Ready {
    builds: Builds,
    /// When the ledger was last asked, and whether it could be written. Locked while it is asked, so
    /// that those who come meanwhile share the answer.
    ledger: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// The probes of the public listener; they need no identity, and no load sheds them.
pub fn routes(builds: Builds) -> Router {
    let ready = Ready { builds, ledger: Arc::default() };
    Router::new().route("/healthz", get(|| async { "OK" })).route("/readyz", get(public)).with_state(ready)
}

/// The same answer as `/readyz` under another door's path.
pub fn ready_at(path: &str, builds: Builds) -> Router {
    Router::new().route(path, get(public)).with_state(Ready { builds, ledger: Arc::default() })
}

/// The admin listener's routes: there `/readyz` names the engine and its version.
pub fn admin_routes(metrics: Metrics, builds: Builds) -> Router {
    let ready = Ready { builds, ledger: Arc::default() };
    let metrics = Router::new().route("/metrics", get(encode)).with_state(metrics);
    let probes = Router::new().route("/healthz", get(|| async { "OK" })).route("/readyz", get(admin));
    probes.with_state(ready).merge(metrics)
}

async fn public(State(ready): State<Ready>) -> Response {
    let (status, word) = ready.ask().await;
    (status, Json(json!({ "status": word }))).into_response()
}

async fn admin(State(ready): State<Ready>) -> Response {
    let (status, word) = ready.ask().await;
    let engine = ready.builds.engine().capabilities;
    let engine = engine.map_or_else(|| "unavailable".to_owned(), |c| format!("{} {}", c.engine, c.version));
    (status, Json(json!({ "status": word, "engine": engine }))).into_response()
}

impl Ready {
    /// Engine trouble doesn't make Kiln unready: builds queue until the engine is back.
    async fn ask(&self) -> (StatusCode, &'static str) {
        let ready = self.builds.ready() && self.ledger_is_writable().await;
        match (ready, self.builds.engine().capabilities.is_some()) {
            (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
            (true, false) => (StatusCode::OK, "degraded"),
            (true, true) => (StatusCode::OK, "ready"),
        }
    }

    async fn ledger_is_writable(&self) -> bool {
        let mut last = self.ledger.lock().await;
        match *last {
            Some((at, writable)) if at.elapsed() < READY_FOR => writable,
            _ => {
                let writable = matches!(timeout(LEDGER_WITHIN, self.builds.check()).await, Ok(Ok(())));
                *last = Some((Instant::now(), writable));
                writable
            }
        }
    }
}

async fn encode(State(metrics): State<Metrics>) -> Response {
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, openmetrics)], metrics.encode()).into_response()
}
