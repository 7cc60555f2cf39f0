//! Images of one's own: listed, looked at, removed and copied, by Kiln's API, in real registries.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod cli;
mod copy;
mod look;
mod pages;
mod proxy;
mod remove;
mod strangers;

use std::time::Duration;

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, registry};
use proxy::Proxy;
use reqwest::Method;
use uuid::Uuid;

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(60);
const IMAGES: &str = "/v1/images";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A user whom nobody else has: the registry is everybody's.
fn somebody() -> String {
    format!("u{}", Uuid::new_v4().simple())
}

/// A gateway for this user without an engine, whose registry is behind the proxy.
async fn gateway(proxy: &Proxy, user: &str) -> Kiln {
    launch(proxy, user).set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock").start().await
}

fn launch(proxy: &Proxy, user: &str) -> Launch {
    let rates = "{ per_minute = 6000, burst = 6000 }";
    let launch = Launch::on(Engine::Buildkitd).user(user).set("KILN_LIMITS__RATES__SUBMIT", rates);
    launch.set("KILN_LIMITS__RATES__READ", rates).set("REGISTRY_HOST", &*proxy.address)
}

/// Uploads an image under a tag and gives its digest.
async fn pushed(repository: &str, tag: &str) -> String {
    let image = registry::image(repository, "amd64").await;
    registry::put_manifest(repository, tag, &image.manifest).await;
    registry::digest(repository, tag).await.unwrap()
}

async fn delete(client: &Client, name: &str) -> Answer {
    client.send(client.request(Method::DELETE, &format!("{IMAGES}/{name}"))).await
}

/// That a request was refused so, as a problem.
fn assert_problem(answer: &Answer, status: u16, what: &str) {
    let said = (answer.status.as_u16(), answer.header("content-type"));
    assert_eq!(said, (status, "application/problem+json"), "{what}: {}", answer.text);
    assert_eq!(answer.json()["status"], status, "{what}");
}
