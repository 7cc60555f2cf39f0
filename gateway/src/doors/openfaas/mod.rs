//! The builder API of OpenFaaS: an archive in, its image in the registry and the log out.

mod answer;
mod build;
mod callback;
mod dialect;
mod in_flight;
mod lines;
mod ndjson;
mod proof;
mod request;
mod secrets;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use axum::{
    Router, middleware,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use http::StatusCode;
use kiln_backends::BuildArg;

use super::probes;
use crate::{
    admission::{Admission, Class},
    archive::Spool,
    builds::Builds,
    config::OnDisconnect,
    registry::ProcessRegistry,
    stack::Guard,
    webhooks::Webhooks,
};
pub(super) use callback::told;
use dialect::{Dialect, Fault};
pub use in_flight::InFlightBound;
pub use proof::{InvalidProof, Proof};

/// Where archives are taken: of-builder's path, what its clients made of it, and the root, to which a
/// client posts who was given no path.
const BUILD: [&str; 4] = ["/build", "/", "/build/", "/build/build"];
const READY: &str = "/ready";
/// The key for build secrets: the real one's path, and what its documentation says.
const PUBLIC_KEY: [&str; 2] = ["/publickey", "/public-key"];
/// The door's paths.
pub(super) const PATHS: [&str; 7] = [BUILD[0], BUILD[1], BUILD[2], BUILD[3], READY, PUBLIC_KEY[0], PUBLIC_KEY[1]];

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct OpenFaas {
    /// Builds.
    pub builds: Builds,
    /// Where images go by default.
    pub registry: Arc<ProcessRegistry>,
    /// Patterns over the other registries that archives may name.
    pub registries: Arc<[String]>,
    /// Build arguments of every archive, below its own.
    pub build_args: Arc<BTreeMap<BuildArg, String>>,
    /// Who may send how much.
    pub admission: Admission,
    /// Where bodies are while they are builds.
    pub spool: Spool,
    /// The longest body, bytes.
    pub body_at_most: u64,
    /// The keys that open build secrets.
    pub build_secrets: Option<Arc<Path>>,
    /// Who may sign.
    pub proof: Arc<Proof>,
    /// How many builds at once.
    pub in_flight: InFlightBound,
    /// What becomes of a build whose caller hangs up.
    pub on_disconnect: OnDisconnect,
    /// Who may be sent the answer.
    pub webhooks: Webhooks,
}

/// The door's routes.
pub fn routes(door: &OpenFaas, guard: &Guard) -> Router {
    let mut router = Router::new();
    for path in BUILD {
        let methods: MethodRouter<OpenFaas> = guard.receive(Class::Archive, post(build::build));
        router = router.route(path, methods.fallback(async || StatusCode::METHOD_NOT_ALLOWED.into_response()));
    }
    for path in PUBLIC_KEY {
        router = router.route(path, guard.receive(Class::Read, get(secrets::public_key)));
    }
    let full = middleware::from_fn_with_state(door.in_flight.clone(), in_flight::ready);
    router.with_state(door.clone()).merge(probes::ready_at(READY, door.builds.clone()).layer(full))
}

/// An error of the layers above the handlers, in the dialect that most clients speak.
#[must_use]
pub fn error(status: StatusCode, message: &str) -> Response {
    Dialect::default().fault(&Fault::new(status, message))
}
