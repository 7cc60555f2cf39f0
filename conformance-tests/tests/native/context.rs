//! A folder with a Dockerfile, sent as a tar: built by a real engine, kept through a crash, refused where it is hostile.

use std::path::Path;

use kiln_conformance_tests::{
    Client, Engine, Kiln, Launch,
    client::Answer,
    corpus::{
        Case, bounds, cases,
        writer::{Tar, gzip, zstd},
    },
    kiln::base,
    registry,
    wait::until,
};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::{BUILDS, PATIENCE, assert_problem, idle};

const TAR: &str = "application/x-tar";
const NO_ENGINE: &str = "unix:///nonexistent/engine.sock";

fn gateway() -> Launch {
    Launch::on(Engine::Buildkitd).user("devel").user("other")
}

/// A context whose image says what argument and file said.
fn context() -> Tar {
    let dockerfile = format!(
        "FROM {}\nARG WORD=none\nCOPY hello /hello\nRUN grep -q moin /hello\nLABEL word=$WORD\n",
        base("waiting")
    );
    Tar::default().file("Dockerfile", dockerfile.as_bytes()).file("hello", b"moin\n")
}

fn tag() -> String {
    format!("t{}", Uuid::new_v4().simple())
}

async fn send(client: &Client, query: &str, body: Vec<u8>) -> Answer {
    let request = client.request(Method::POST, &format!("{BUILDS}?{query}"));
    client.send(request.header("content-type", TAR).body(body)).await
}

async fn accepted(client: &Client, query: &str, body: Vec<u8>) -> String {
    let answer = send(client, query, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn stored(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("data/contexts")).unwrap().count()
}

/// Waits until so many are left: a file goes a moment after its build's state is there.
async fn left(kiln: &Kiln, count: usize) {
    let they_are = async || (stored(kiln.folder()) == count).then_some(());
    until(PATIENCE, &format!("{count} contexts are kept"), they_are).await;
}

#[tokio::test]
async fn a_folder_is_built_however_it_is_compressed_and_nothing_of_it_is_left() {
    let kiln = gateway().start().await;
    let client = kiln.client("devel");
    let plain = context().end();
    for (body, options) in [
        (gzip(&plain), "&build-arg=WORD%3Da%26b%3Dc"),
        (zstd(&plain), "&build-arg=WORD%3Da%26b%3Dc&platform=linux/amd64"),
        (plain, "&build-arg=WORD%3Da%26b%3Dc&dockerfile=./Dockerfile"),
    ] {
        let tag = tag();
        let id = accepted(&client, &format!("target=devel:{tag}{options}"), body).await;
        let build = client.ended(&id).await;
        assert_eq!(build["state"], "succeeded", "{build:#}");
        assert_eq!(registry::digest("devel", &tag).await.as_deref(), build["digest"].as_str());
        let retried = client.post(&format!("{BUILDS}/{id}/retry"), &json!(null)).await;
        assert_problem(&retried, 409, "its context is gone");
    }
    left(&kiln, 0).await;
}

#[tokio::test]
async fn a_context_that_was_accepted_is_built_after_a_kill() {
    let (variable, address) = Engine::Buildkitd.variable();
    let kiln = gateway().set(variable, NO_ENGINE).start().await;
    let tag = tag();
    let id = accepted(&kiln.client("devel"), &format!("target=devel:{tag}"), gzip(&context().end())).await;
    let launch = kiln.kill().await;
    assert_eq!(stored(launch.folder()), 1);
    // What a process leaves that was killed amid an upload.
    std::fs::write(launch.folder().join("data/contexts/.tmpLeft"), "half").unwrap();
    let kiln = launch.set(variable, address).start().await;
    let build = kiln.client("devel").ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert!(registry::digest("devel", &tag).await.is_some());
    left(&kiln, 0).await;
}

#[tokio::test]
async fn a_cancelled_builds_context_goes_and_gives_its_owners_bytes_back() {
    let body = Tar::default().file("Dockerfile", b"FROM scratch\n").file("noise", &[b'x'; 6000]).end();
    let kiln = gateway().set("BUILDKIT_HOST", NO_ENGINE).set("KILN_CONTEXTS__PER_OWNER", "10000").start().await;
    let (client, other) = (kiln.client("devel"), kiln.client("other"));
    let id = accepted(&client, "target=devel:a", body.clone()).await;
    let refused = send(&client, "target=devel:b", body.clone()).await;
    assert_problem(&refused, 429, "the owner has too much here");
    assert!(!refused.header("retry-after").is_empty());
    accepted(&other, "target=other:b", body.clone()).await;
    for path in ["", "/log", "/wait?timeout=0"] {
        assert_problem(&other.get(&format!("{BUILDS}/{id}{path}")).await, 404, path);
    }
    crate::cancel(&client, &id).await;
    left(&kiln, 1).await;
    // The bytes are given back a moment after the file has gone.
    let answered = async || Some(send(&client, "target=devel:b", body.clone()).await).filter(|said| said.status != 429);
    let answer = until(PATIENCE, "the owner's bytes are given back", answered).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn every_hostile_archive_is_refused_for_what_is_wrong_with_it_and_leaves_nothing() {
    let kiln = gateway()
        .set("BUILDKIT_HOST", NO_ENGINE)
        .set("KILN_CONTEXTS__BODY", bounds::BODY.to_string())
        .set("KILN_CONTEXTS__UNPACKED", bounds::UNPACKED.to_string())
        .set("KILN_CONTEXTS__RATIO", bounds::RATIO.to_string())
        .set("KILN_CONTEXTS__ENTRIES", bounds::ENTRIES.to_string())
        .start()
        .await;
    let client = kiln.client("devel");
    let mut wrong = Vec::new();
    for Case { name, body, expected } in cases() {
        let answer = send(&client, "target=devel:a", body).await;
        let said = answer.json()["title"].as_str().unwrap_or_default().to_owned();
        // A good archive, of which none holds a Dockerfile.
        let nothing_to_build = said.contains("has no file \"Dockerfile\"");
        let as_it_must = match expected {
            Ok(_) => nothing_to_build,
            Err(fault) => said.contains(&fault.to_string()) || (fault.is_of_fixed_bounds() && nothing_to_build),
        };
        if answer.status != 400 || !as_it_must {
            wrong.push(format!("{name}: {} {said}, not {expected:?}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stored(kiln.folder()), 0);
    let long = send(&client, "target=devel:a", vec![0; usize::try_from(bounds::BODY).unwrap() + 1]).await;
    assert_problem(&long, 413, "a body that is too long");
}

#[tokio::test]
async fn options_that_can_not_be_used_are_refused_before_the_body_is_read() {
    let kiln = idle().await;
    let client = kiln.client("devel");
    for (query, status) in [
        ("", 400),
        ("target=devel:%20", 400),
        ("target=other:a", 403),
        ("target=devel:a&target=devel:b", 400),
        ("target=devel:a&size=vast", 400),
        ("target=devel:a&platform=amiga", 400),
        ("target=devel:a&build-arg=WORD", 400),
        ("target=devel:a&build-arg=BUILDKIT_SYNTAX%3Dx", 400),
        ("target=devel:a&dockerfile=../Dockerfile", 400),
        ("target=devel:a&dockerfile=other", 400),
        ("target=devel:a&fresh=yes", 400),
        ("target=devel:a&secret=x", 400),
    ] {
        assert_problem(&send(&client, query, context().end()).await, status, query);
    }
    let encoded = client.request(Method::POST, &format!("{BUILDS}?target=devel:a")).header("content-type", TAR);
    let encoded = client.send(encoded.header("content-encoding", "br").body(context().end())).await;
    assert_problem(&encoded, 415, "an encoding that isn't known");
    let body = json!({ "source": "python", "target": "devel:a" });
    let json = client.post(&format!("{BUILDS}?target=devel:a"), &body).await;
    assert_problem(&json, 400, "the query belongs to a tar");
    let builds = client.get(BUILDS).await.json();
    assert_eq!(builds["builds"].as_array().unwrap().len(), 0, "{builds:#}");
    assert_eq!(stored(kiln.folder()), 0);
}

#[tokio::test]
async fn a_tar_that_is_sent_twice_with_one_key_is_one_build() {
    let kiln = idle().await;
    let client = kiln.client("devel");
    let keyed = async |query: &str, body: Vec<u8>| {
        let request = client.request(Method::POST, &format!("{BUILDS}?{query}")).header("content-type", TAR);
        client.send(request.header("idempotency-key", "one").body(body)).await
    };
    let first = keyed("target=devel:a", context().end()).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let again = keyed("target=devel:a", context().end()).await;
    assert_eq!((again.status.as_u16(), &again.json()["id"]), (200, &first.json()["id"]));
    for (query, body) in [("target=devel:b", context().end()), ("target=devel:a", context().file("x", b"").end())] {
        assert_problem(&keyed(query, body).await, 422, "another request");
    }
    left(&kiln, 1).await;
}
