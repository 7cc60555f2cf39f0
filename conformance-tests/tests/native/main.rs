//! Kiln's own API, over HTTP against the running program. Its engine is nowhere, so that builds wait until
//! they are cancelled.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod cli;
mod context;
mod folder;
mod idempotency;
mod list;
mod log;
mod login;
mod one;
mod openapi;
mod strangers;
mod table;

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer};
use serde_json::{Value, json};

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(30);
const BUILDS: &str = "/v1/builds";
/// One that nobody may build on: it is looked up nowhere, and so no build of it is shared.
const UNKNOWN_BASE: &str = "nowhere.invalid/base";

async fn idle() -> Kiln {
    let launch = Launch::on(Engine::Buildkitd).user("devel").user("other");
    let rates = "{ per_minute = 6000, burst = 6000 }";
    let launch = launch.set("KILN_LIMITS__RATES__SUBMIT", rates).set("KILN_LIMITS__RATES__READ", rates);
    launch.set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock").start().await
}

/// A build that waits, and its id.
async fn create(client: &Client, target: &str) -> String {
    let answer = client.post(BUILDS, &json!({ "source": UNKNOWN_BASE, "target": target })).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("{BUILDS}/{id}"));
    id
}

async fn cancel(client: &Client, id: &str) {
    let answer = client.post(&format!("{BUILDS}/{id}/cancel"), &Value::Null).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// That a request was refused so, as a problem.
fn assert_problem(answer: &Answer, status: u16, what: &str) {
    let said = (answer.status.as_u16(), answer.header("content-type"));
    assert_eq!(said, (status, "application/problem+json"), "{what}: {}", answer.text);
    assert_eq!(answer.json()["status"], status, "{what}");
}
