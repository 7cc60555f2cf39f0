//! The page, as it is fetched and as it is seen: over HTTP, and in a real browser, against the running program.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod answers;
mod browser;
mod elsewhere;
mod hostile;
mod keys;
mod live;
mod seen;
mod sessions;
mod visitor;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, Engine, Kiln, Launch, kiln::base, registry};
use serde_json::{Value, json};
use uuid::Uuid;

const NO_ENGINE: &str = "unix:///nonexistent/engine.sock";

/// A gateway with two users, and no engine: builds wait until they are cancelled.
async fn idle() -> Kiln {
    launch().set("KILN_ENGINE__BUILDKIT", NO_ENGINE).start().await
}

fn launch() -> Launch {
    Launch::on(Engine::Buildkitd).user("devel").user("other")
}

/// A build that waits, and its id.
async fn create(client: &Client, target: &str) -> String {
    accepted(client, &json!({ "source": "python", "target": target })).await
}

/// A build whose step runs this shell script, and makes a layer of its own.
async fn run(client: &Client, target: &str, script: &str) -> String {
    let file = BASE64_STANDARD.encode(format!("{script}\n# {}\n", Uuid::new_v4()));
    let body = json!({ "source": base("waiting"), "target": target, "kind": "python", "file": file });
    accepted(client, &body).await
}

/// A user whom nobody else has: the registry is everybody's.
fn somebody() -> String {
    format!("u{}", Uuid::new_v4().simple())
}

/// Uploads an image under a tag, another one each time.
async fn pushed(repository: &str, tag: &str) {
    let image = registry::image(repository, "amd64").await;
    registry::put_manifest(repository, tag, &image.manifest).await;
}

async fn accepted(client: &Client, body: &Value) -> String {
    let answer = client.post("/v1/builds", body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}
