//! `/healthz`: the process answers. `/readyz`: it accepts builds. `/metrics`: on the admin listener.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{builds::Builds, metrics::Metrics};

/// The probes of the public listener; they need no identity.
pub fn routes(builds: Builds) -> Router {
    Router::new().route("/healthz", get(|| async { "OK" })).route("/readyz", get(ready)).with_state(builds)
}

/// The admin listener's routes.
pub fn admin_routes(metrics: Metrics, builds: Builds) -> Router {
    let metrics = Router::new().route("/metrics", get(encode)).with_state(metrics);
    routes(builds).merge(metrics)
}

/// Engine trouble doesn't make Kiln unready: builds queue until the engine is back.
async fn ready(State(builds): State<Builds>) -> Response {
    let ledger = builds.check().await;
    let ready = builds.ready() && ledger.is_ok();
    let engine = builds.engine();
    let word = match (ready, engine.capabilities.is_some()) {
        (false, _) => "unready",
        (true, false) => "degraded",
        (true, true) => "ready",
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let engine =
        engine.capabilities.map_or_else(|| json!("unavailable"), |c| json!(format!("{} {}", c.engine, c.version)));
    (status, Json(json!({ "status": word, "engine": engine }))).into_response()
}

async fn encode(State(metrics): State<Metrics>) -> Response {
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, openmetrics)], metrics.encode()).into_response()
}
