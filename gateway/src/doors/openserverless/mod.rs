//! The builder API of OpenServerless: what its clients send and read, field by field.

mod catalog;
mod cleanup;
mod ensure;
mod envelope;
mod fields;
mod shallow;
mod start;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use http::StatusCode;
use kiln_auth::Identity;
use serde_json::Value;

use crate::{
    admission::Class,
    builds::{Builds, Refused},
    registry::ProcessRegistry,
    rescue::{self, PLACES_AFTER, retry_after},
    stack::Guard,
};
pub use catalog::{Catalog, CatalogError};
use envelope::ko;
use fields::Fault;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct OpenServerless {
    /// Builds.
    pub builds: Builds,
    /// Where images go.
    pub registry: Arc<ProcessRegistry>,
    /// What `ensure` may build on.
    pub catalog: Arc<Catalog>,
    /// The registry's name as the cluster's nodes know it.
    pub pull_host: Option<Arc<str>>,
}

/// Both spellings of the API's root: the documented one, and the one that the shipped task
/// variables lead to.
const ROOTS: [&str; 2] = ["/system/api/v1/build", "/api/v1/build"];

/// The door's routes; `guard` proves who calls, and stands on every route but `info`.
pub fn routes(door: &OpenServerless, guard: &Guard) -> Router {
    let mut router = Router::new().route("/system/info", with_fallback(get(info)));
    for root in ROOTS {
        let routes = Router::new()
            .route("/start", guard.protect(Class::Submit, with_fallback(post(start::start))))
            .route("/status", guard.protect(Class::Read, with_fallback(get(status::status))))
            .route("/cleanup", guard.protect(Class::Read, with_fallback(post(cleanup::cleanup))))
            .route("/capabilities", guard.protect(Class::Read, with_fallback(get(ensure::capabilities))))
            .route("/ensure", guard.protect(Class::Submit, with_fallback(post(ensure::ensure))))
            .route("/{id}", guard.protect(Class::Read, with_fallback(get(ensure::build))));
        router = router.nest(root, routes.with_state(door.clone()));
    }
    router
}

fn with_fallback<S: Clone + Send + Sync + 'static>(methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.fallback(|| async { envelope::method_not_allowed() })
}

async fn info() -> Response {
    envelope::ok(StatusCode::OK, "Welcome to OpenServerless system admin API.", serde_json::Map::new())
}

/// The page for a path that the door doesn't know.
#[must_use]
pub fn not_found() -> Response {
    envelope::not_found()
}

/// An error of the layers above the handlers, in this dialect.
#[must_use]
pub fn error(status: StatusCode, message: &str) -> Response {
    ko(status, message)
}

/// Refuses an identity whose metadata holds no environment, as the real service does.
fn require_environment(identity: &Identity, merged: bool) -> Result<(), Fault> {
    let environment = if merged { identity.environment() } else { identity.operator_environment() };
    if identity.environment_known() && environment.is_empty() {
        return Err(Fault(StatusCode::UNAUTHORIZED, "User environment not found".to_owned()));
    }
    Ok(())
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        ko(self.0, &self.1)
    }
}

/// A build that wasn't accepted: what the caller may do about it.
fn refused(refused: &Refused) -> Response {
    match rescue::refused(refused) {
        Some(status) => retry_after(ko(status, &refused.to_string()), PLACES_AFTER),
        None => ko(StatusCode::INTERNAL_SERVER_ERROR, "Build process failed."),
    }
}

/// The ledger failed while answering a question.
fn internal(error: &crate::ledger::LedgerError, message: &str) -> Response {
    tracing::error!(%error, "the ledger failed");
    ko(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// A time as Kubernetes writes it, or null.
fn time(at: Option<jiff::Timestamp>) -> Value {
    at.map_or(Value::Null, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
}
