//! The OpenFaaS door over HTTP, against the running program on a real engine: archives made by GNU tar
//! and signed as its clients sign them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod archive;
mod asks;
mod bases;
mod builds;
mod endings;
mod engines;
mod hostile;
mod refusals;
mod secrets;
mod signatures;
mod sources;
mod streamed;

use kiln_conformance_tests::{Client, Engine, Launch, client::Answer};
use reqwest::{Method, RequestBuilder};

use archive::Archive;

/// The key of every gateway of these suites.
const KEY: &str = "key-goes-here";
/// Whose the door's builds are.
const USER: &str = "openfaas";

/// A gateway whose door is open to those who sign, and that shows their builds to the same user.
fn signed() -> Launch {
    signed_on(Engine::Buildkitd)
}

/// The same on another engine.
fn signed_on(engine: Engine) -> Launch {
    let launch = Launch::on(engine).user(USER);
    let key = launch.folder().join("payload-secret");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    launch.set("KILN_OPENFAAS__PAYLOAD_SECRET_FILE", key.display().to_string())
}

/// A request as of-builder's clients send it.
fn request(client: &Client, archive: &Archive) -> RequestBuilder {
    let signature = archive::sha1(archive.bytes(), KEY);
    unsigned(client, archive).header("x-cloud-signature", signature)
}

fn unsigned(client: &Client, archive: &Archive) -> RequestBuilder {
    let body = archive.bytes().to_vec();
    client.request(Method::POST, "/build").header("content-type", "application/octet-stream").body(body)
}

async fn post(client: &Client, archive: &Archive) -> Answer {
    client.send(request(client, archive)).await
}

/// The answer's log, one text.
fn log(answer: &Answer) -> String {
    answer.json()["log"].as_array().expect("a log").iter().map(|line| line.as_str().unwrap()).collect()
}
