//! Who is let in how often and how many at once, over HTTP against the running program: nothing is ever built here.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod attempts;
mod audit;
mod edges;
mod load;
mod rates;
mod raw;
mod reload;
mod streams;

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, wait};

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(30);

const STATUS: &str = "/system/api/v1/build/status?id=x";
const BUILDS: &str = "/v1/builds";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// A gateway whose engine is nowhere, with two users.
fn idle() -> Launch {
    let launch = Launch::on(Engine::Buildkitd).user("devel").user("other");
    launch.set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock")
}

/// Starts a build that waits for ever, and gives its id.
async fn start(client: &Client, user: &str) -> String {
    client.start("python", &format!("{user}:t"), "python", None).await
}

/// That a request was refused with this status in the door's dialect, and told when to come back.
fn assert_refused(answer: &Answer, status: u16, path: &str) {
    let kind = if path.starts_with("/v1") { PROBLEM } else { JSON };
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, kind), "{path}: {}", answer.text);
    let field = if kind == PROBLEM { "title" } else { "message" };
    assert!(answer.json()[field].is_string(), "{path}: {}", answer.text);
    let seconds: u64 = answer.header("retry-after").parse().unwrap_or_else(|_| panic!("{path}: no Retry-After"));
    assert!(seconds >= 1, "{path}");
}

/// That probes are answered, whatever else is going on.
async fn assert_probed(kiln: &Kiln) {
    for path in ["/healthz", "/readyz"] {
        let answer = kiln.anonymous().get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
}

/// The first thing that `look` finds.
async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    wait::until(PATIENCE, what, look).await
}
