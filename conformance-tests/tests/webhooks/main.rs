//! Webhooks: receivers on loopback, which these gateways are permitted to send to, and the running program.
//! Its engine is nowhere, so that builds wait until they are cancelled.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod deliveries;
mod receiver;
mod refusals;

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, Launch, client::Answer};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a state is looked at that announces itself nowhere.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const BUILDS: &str = "/v1/builds";
/// A secret that a caller brings.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A gateway that may send to loopback, and tries again soon.
fn launch() -> Launch {
    let launch = Launch::on(Engine::Buildkitd).user("devel").user("other");
    let launch = launch.set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock");
    launch
        .set("KILN_WEBHOOKS__ALLOW_NETWORKS", "[\"127.0.0.0/8\", \"::1/128\"]")
        .set("KILN_WEBHOOKS__PLAIN_HTTP", "true")
        .set("KILN_WEBHOOKS__BACKOFF", "50ms")
        .set("KILN_WEBHOOKS__BACKOFF_AT_MOST", "200ms")
}

/// A request for a build that is told of at `url`.
fn body(url: &str) -> Value {
    json!({ "source": "python", "target": "devel:t", "webhook": { "url": url, "secret": SECRET } })
}

/// A build by this request that waits; its id.
async fn create(client: &Client, body: &Value) -> String {
    let answer = client.post(BUILDS, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn cancel(client: &Client, id: &str) {
    let answer = client.post(&format!("{BUILDS}/{id}/cancel"), &Value::Null).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

async fn webhook(client: &Client, id: &str) -> Answer {
    client.get(&format!("{BUILDS}/{id}/webhook")).await
}

/// What became of a build's last message, once `wanted` holds of it.
async fn message(client: &Client, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = async {
        loop {
            last = webhook(client, id).await.json();
            if let Some(message) = last["deliveries"].as_array().and_then(|all| all.last()).filter(|m| wanted(m)) {
                return message.clone();
            }
            sleep(LOOK_EVERY).await;
        }
    };
    match timeout(PATIENCE, found).await {
        Ok(message) => message,
        Err(_) => panic!("it didn't come to that: {last}"),
    }
}
