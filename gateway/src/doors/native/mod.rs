//! Kiln's own API: builds as JSON, logs as server-sent events, lines or text, errors as problem details.

mod asked;
mod build;
mod create;
mod document;
mod fault;
mod images;
mod list;
pub(super) mod log;
mod upload;
mod view;
mod webhook;

use std::sync::Arc;

use axum::{Extension, Json, Router, routing::post};
use http::StatusCode;
use kiln_auth::Identity;
use serde::Serialize;
use utoipa::{ToSchema, openapi::OpenApi};
use utoipa_axum::routes;

pub use self::document::PATH as DOCUMENT;
use self::document::Routes;
use crate::{
    admission::Class,
    builds::{Builds, Sharing},
    config::Sizes,
    images::Images,
    registry::ProcessRegistry,
    rescue::problem,
    stack::Guard,
    webhooks::Webhooks,
};
pub(super) use webhook::told;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Native {
    /// Builds.
    pub builds: Builds,
    /// Takes builds that may be shared.
    pub sharing: Sharing,
    /// Images.
    pub images: Images,
    /// Where images go.
    pub registry: Arc<ProcessRegistry>,
    /// The size classes.
    pub sizes: Arc<Sizes>,
    /// Who may be told of builds.
    pub webhooks: Webhooks,
}

/// The door's routes.
pub fn routes(native: &Native, guard: &Guard) -> Router {
    described(guard).0.with_state(native.clone())
}

/// The door's routes, and the document of them. A new one is added here, and says what it is: see [`document`].
fn described(guard: &Guard) -> (Router<Native>, OpenApi) {
    let (router, document) = Routes::behind(guard)
        .add(Class::Read, routes!(whoami))
        .add_either(Class::Submit, routes!(create::create), upload::is_tar, post(upload::upload))
        .add(Class::Read, routes!(list::list))
        .add(Class::Read, routes!(build::one))
        .add(Class::Stream, routes!(log::log))
        .add(Class::Stream, routes!(build::wait))
        .add(Class::Read, routes!(webhook::look))
        .add(Class::Read, routes!(build::cancel))
        .add(Class::Submit, routes!(build::retry))
        .add(Class::Read, routes!(images::catalogues))
        .add(Class::Submit, routes!(images::copy))
        .add(Class::Read, routes!(images::look))
        .add(Class::Submit, routes!(images::remove))
        .with_document();
    let elsewhere = async || problem(StatusCode::METHOD_NOT_ALLOWED, "no such method here");
    (router.method_not_allowed_fallback(elsewhere), document)
}

/// Who the caller is to Kiln.
#[derive(Debug, Serialize, ToSchema)]
struct Caller {
    user: String,
    /// Who knows them: `users_file`, `couchdb`, …
    provider: String,
    /// Whether they may see and cancel everybody's builds.
    operator: bool,
}

/// Whose token this is.
#[utoipa::path(get, path = "/v1/whoami", tag = "caller", responses((status = 200, body = Caller)))]
async fn whoami(Extension(identity): Extension<Identity>) -> Json<Caller> {
    Json(Caller {
        user: identity.user().to_string(),
        provider: identity.provider().to_owned(),
        operator: identity.is_operator(),
    })
}
