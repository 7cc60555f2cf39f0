//! What holds when something breaks: the gateway is killed, the engine goes away, the registry refuses, the disk is full.
//!
//! To hit an exact moment no test waits a while and hopes: a proxy before the real registry, or before the real engine,
//! holds what passes there until the test has done what it wants to do at that moment.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod bounds;
mod cancel;
mod disk;
mod engine_away;
mod engine_proxy;
mod follower;
mod killed;
mod order;
mod registry_away;
mod registry_proxy;
mod sharing;
mod stop;

use std::time::Duration;

use kiln_conformance_tests::{Client, kiln::base, registry, wait};
use serde_json::Value;
use uuid::Uuid;

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address at which no engine is.
const NO_ENGINE: &str = "unix:///nonexistent/engine.sock";

/// A tag of this user's that nobody else has.
fn tag() -> String {
    format!("t{}", Uuid::new_v4().simple())
}

/// A build whose step takes so many seconds, and makes a layer of its own.
async fn start_lasting(client: &Client, user: &str, tag: &str, seconds: &str) -> String {
    let script = format!("sleep {seconds} # {}\n", Uuid::new_v4());
    client.start(&base("waiting"), &format!("{user}:{tag}"), "python", Some(&script)).await
}

/// A build that takes no time, and makes a layer of its own.
async fn start_quick(client: &Client, user: &str, tag: &str) -> String {
    start_lasting(client, user, tag, "0").await
}

/// Waits until the step of [`start_lasting`] runs.
async fn in_its_step(client: &Client, id: &str, attempt: usize) {
    let begun = || async {
        let log = client.log(id).await;
        let latest = log.iter().rposition(|(kind, text)| kind == "attempt" && *text == attempt.to_string());
        let latest = latest.map_or(&log[..0], |at| &log[at..]);
        latest.iter().any(|(kind, text)| kind == "stdout" && text.contains("extend: waits")).then_some(())
    };
    until("the step runs", begun).await;
}

/// The first thing that `look` finds.
async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look).await
}

async fn until_within<T>(within: Duration, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    wait::until(within, what, look).await
}

/// The status and the word of `/readyz`.
async fn ready(client: &Client) -> (u16, String) {
    let answer = client.get("/readyz").await;
    (answer.status.as_u16(), answer.json()["status"].as_str().unwrap_or_default().to_owned())
}

/// That a build has succeeded, and that its tag stands where it says.
async fn assert_tagged(build: &Value, user: &str, tag: &str) {
    assert_eq!(build["state"], "succeeded", "{build:#}");
    let digest = registry::digest(user, tag).await;
    assert!(digest.is_some() && digest.as_deref() == build["digest"].as_str(), "{digest:?} {build:#}");
}

/// The texts of a log's records of one kind.
async fn texts(client: &Client, id: &str, kind: &str) -> Vec<String> {
    client.log(id).await.into_iter().filter(|(is, _)| is == kind).map(|(_, text)| text).collect()
}
