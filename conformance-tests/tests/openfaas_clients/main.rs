//! The OpenFaaS door called by the programs that call the real builders: OpenFaaS's SDK, as faas-cli
//! drives it, the bytes of its cloud's pipeline, npm's tar, Python's, GNU's with curl. What comes out is
//! looked at in the registry. `conformance-tests/clients/fetch` gets the programs.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod curl;
mod endings;
mod engines;
mod image;
mod node;
mod pipeline;
mod program;
mod project;
mod python;
mod sdk;
mod sealed;

use kiln_conformance_tests::{Engine, Launch};

/// The key of every gateway of this suite.
const KEY: &str = "key-goes-here";
/// Whose the door's builds are.
const USER: &str = "openfaas";

/// A gateway on `engine` that takes what is signed with [`KEY`], and shows the builds to [`USER`].
/// One owner gets four places, so that what is sent at once runs at once.
fn signed(engine: Engine) -> Launch {
    let launch = Launch::on(engine).user(USER).set("KILN_LIMITS__CONCURRENCY", "5");
    let key = secret(&launch);
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let launch = launch.set("KILN_IDENTITY__SHARED_NAMES", "true").set("KILN_OPENFAAS__UNBOUNDED", "true");
    launch.set("KILN_OPENFAAS__PAYLOAD_SECRET_FILE", key)
}

/// The file that the gateway and its callers have the key from.
fn secret(launch: &Launch) -> String {
    launch.folder().join("payload-secret").display().to_string()
}
