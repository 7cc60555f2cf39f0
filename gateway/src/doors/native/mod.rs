//! Kiln's own API: builds as JSON, logs as server-sent events, lines or text, errors as problem details.

mod asked;
mod build;
mod create;
mod fault;
mod list;
pub(super) mod log;
mod view;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http::StatusCode;
use kiln_auth::Identity;
use serde_json::json;

use crate::{
    admission::Class, builds::Builds, config::Sizes, registry::ProcessRegistry, rescue::problem, stack::Guard,
};

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Native {
    /// Builds.
    pub builds: Builds,
    /// Where images go.
    pub registry: Arc<ProcessRegistry>,
    /// The size classes.
    pub sizes: Arc<Sizes>,
}

/// The door's routes.
pub fn routes(native: &Native, guard: &Guard) -> Router {
    Router::new()
        .route("/v1/whoami", guard.protect(Class::Read, get(whoami)))
        .route("/v1/builds", guard.protect(Class::Submit, post(create::create)))
        .route("/v1/builds", guard.protect(Class::Read, get(list::list)))
        .route("/v1/builds/{id}", guard.protect(Class::Read, get(build::one)))
        .route("/v1/builds/{id}/log", guard.protect(Class::Stream, get(log::log)))
        .route("/v1/builds/{id}/wait", guard.protect(Class::Stream, get(build::wait)))
        .route("/v1/builds/{id}/cancel", guard.protect(Class::Read, post(build::cancel)))
        .route("/v1/builds/{id}/retry", guard.protect(Class::Submit, post(build::retry)))
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED, "no such method here"))
        .with_state(native.clone())
}

/// Who the caller is to Kiln.
async fn whoami(Extension(identity): Extension<Identity>) -> Response {
    Json(json!({
        "user": identity.user().as_str(),
        "provider": identity.provider(),
        "operator": identity.is_operator(),
    }))
    .into_response()
}
