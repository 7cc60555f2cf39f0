//! The page that people look at: builds with their steps and logs, and images, rendered here, with a script of
//! its own for what is live. Errors are pages, too.

mod actions;
mod answer;
mod asked;
mod assets;
mod build;
mod fault;
mod images;
mod list;
mod outline;
mod same_origin;
mod session;
mod shown;
mod sign_in;
mod tail;
mod waterfall;
mod when;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use http::Uri;

use crate::{
    admission::Class, around::around, builds::Builds, images::Images, registry::ProcessRegistry, stack::Guard,
};

pub(crate) use answer::error;
pub use session::Sessions;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Page {
    /// Builds.
    pub builds: Builds,
    /// Images.
    pub images: Images,
    /// Where images go.
    pub registry: Arc<ProcessRegistry>,
    /// Who has signed in.
    pub sessions: Sessions,
}

/// Whether a path is of this door; the root is for who reads it: what is posted there is OpenFaaS's.
pub(super) fn has(uri: &Uri, reads: bool) -> bool {
    let path = uri.path();
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (path == "/" && reads) || ["/builds", "/images", "/sign-in", "/sign-out", "/assets"].into_iter().any(below)
}

/// The door's routes.
pub fn routes(page: &Page, guard: &Guard) -> Router {
    // Above the guard: who isn't signed in is asked to, and comes back to what they asked for.
    let or_sign_in = around(sign_in::asked, sign_in::or_sign_in);
    let own = Router::new()
        // It reads the build's log to its end, as who asks for that.
        .route("/builds/{id}", guard.protect(Class::Stream, get(build::build)))
        .route("/builds/{id}/log", guard.protect(Class::Stream, get(build::raw)))
        .route("/builds/{id}/cancel", guard.protect(Class::Read, post(actions::cancel)))
        .route("/builds/{id}/retry", guard.protect(Class::Submit, post(actions::retry)))
        .route("/images", guard.protect(Class::Read, get(images::catalogues)))
        .route("/images/{*name}", guard.protect(Class::Read, get(images::look)))
        // A method router of its own: it counts as a submission.
        .route("/images/{*name}", guard.protect(Class::Submit, post(images::remove)))
        .route_layer(or_sign_in.clone());
    // The root is shared with a door that has a word of its own for other methods.
    let root = Router::new().route("/", guard.protect(Class::Read, get(list::list))).route_layer(or_sign_in);
    Router::new()
        .merge(own)
        .merge(sign_in::routes(page, guard))
        .merge(assets::routes())
        .method_not_allowed_fallback(answer::no_such_method)
        .merge(root)
        .with_state(page.clone())
}
