//! Who may call, over HTTP against the running program: tokens of issuers, an OpenWhisk, CouchDB, and
//! whatever else stands in an `Authorization` header. Nothing is ever built here.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod bad_input;
mod couchdb;
mod issuer;
mod jwks;
mod names;
mod openwhisk;
mod operators;
mod questions;

use std::process::Output;

use kiln_conformance_tests::{Engine, Launch, client::Answer};
use serde_json::json;

const STATUS: &str = "/system/api/v1/build/status?id=x";
const BUILDS: &str = "/v1/builds";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// A gateway whose engine is nowhere: what is accepted stays queued.
fn idle() -> Launch {
    Launch::on(Engine::Buildkitd).set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock")
}

/// The exact refusal of a door.
fn refusal(path: &str, title: &str) -> (u16, &'static str, String) {
    if path.starts_with("/v1") {
        (401, PROBLEM, json!({ "type": "about:blank", "status": 401, "title": title }).to_string())
    } else {
        (401, JSON, format!("{{\"message\":\"{title}\",\"status\":\"ko\"}}\n"))
    }
}

/// The exact answer of a door to a caller who has built nothing.
fn welcome(path: &str) -> (u16, &'static str, String) {
    if path.starts_with("/v1") {
        (200, JSON, json!({ "builds": [] }).to_string())
    } else {
        (404, JSON, "{\"message\":\"Build job not found\",\"status\":\"ko\"}\n".to_owned())
    }
}

fn parts(answer: &Answer) -> (u16, &str, String) {
    let (status, kind, text) = answer.parts();
    (status, kind, text.to_owned())
}

/// What a command of the program says, on both streams, and whether it succeeded.
fn said(launch: &Launch, arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } = launch.command(arguments).output().expect("kiln runs");
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}
