//! The OpenFaaS door over HTTP, against the running program on a real engine: archives made by GNU tar
//! and signed as its clients sign them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod archive;
mod asks;
mod bases;
mod builds;
mod callbacks;
mod crowds;
mod dialects;
mod drop_in;
mod early;
mod endings;
mod engines;
mod hostile;
mod refusals;
mod same;
mod secrets;
mod signatures;
mod sources;
mod streamed;
mod tenants;
mod unproved;

use std::{path::Path, time::Duration};

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, wait};
use reqwest::{Method, RequestBuilder};

use archive::Archive;

/// The key of every gateway of these suites.
const KEY: &str = "key-goes-here";
/// Whose the door's builds are.
const USER: &str = "openfaas";
/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway whose door is open to those who sign, and that shows their builds to the same user.
fn signed() -> Launch {
    signed_on(Engine::Buildkitd)
}

/// The same on another engine.
fn signed_on(engine: Engine) -> Launch {
    let launch = Launch::on(engine).user(USER);
    let key = launch.folder().join("payload-secret");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    // The file's user of that name is to see what the door's user builds.
    let launch = launch.set("KILN_IDENTITY__SHARED_NAMES", "true").set("KILN_OPENFAAS__UNBOUNDED", "true");
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

/// What `look` finds, as soon as it finds something.
async fn until<T>(look: impl AsyncFnMut() -> Option<T>) -> T {
    wait::until(PATIENCE, "it happens", look).await
}

/// Files of the spool that the gateway holds; they have no names.
fn spooled(kiln: &Kiln) -> usize {
    let spool = kiln.folder().join("data/spool");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0, "a body has a name");
    let open = std::fs::read_dir(Path::new("/proc").join(kiln.pid().unwrap().to_string()).join("fd")).unwrap();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(&spool)).count()
}

/// The answer's log, one text.
fn log(answer: &Answer) -> String {
    answer.json()["log"].as_array().expect("a log").iter().map(|line| line.as_str().unwrap()).collect()
}
