//! The same body sent more than once: one build while it is under way, and an answer for each who waits.

use std::time::Duration;

use futures_util::future::join_all;
use kiln_conformance_tests::{Client, registry};
use reqwest::RequestBuilder;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Archive, KEY, PATIENCE, USER, archive,
    endings::{in_its_step, lasting, lasting_dockerfile, taking},
    request, signed, unsigned, until,
};

/// A request as the newer builder's clients send it.
fn newer(client: &Client, archive: &Archive) -> RequestBuilder {
    let signature = archive::sha256(archive.bytes(), KEY);
    unsigned(client, archive).header("x-build-signature", signature)
}

async fn builds(client: &Client) -> usize {
    client.get("/v1/builds").await.json()["builds"].as_array().unwrap().len()
}

#[tokio::test]
async fn those_who_send_the_same_at_once_share_a_build_and_each_has_an_answer() {
    let kiln = signed().start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let archive = taking(2);
    let answers = join_all((0..6).map(|_| anonymous.send(newer(&anonymous, &archive))));
    let lines = newer(&anonymous, &archive).header("accept", "application/x-ndjson");
    let (answers, streamed) = tokio::join!(answers, anonymous.send(lines));
    for answer in &answers {
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["status"]), (200, &json!("success")), "{}", answer.text);
        assert_eq!(body["log"], answers[0].json()["log"]);
        assert!(answer.text.contains("begun"), "{}", answer.text);
    }
    let last: serde_json::Value = serde_json::from_str(streamed.text.lines().last().unwrap()).unwrap();
    assert_eq!(last["status"], "success", "{}", streamed.text);
    assert!(streamed.text.contains("begun"), "{}", streamed.text);
    assert_eq!(builds(&client).await, 1);
    assert!(registry::digest(&archive.repository, &archive.tag).await.is_some());
    // What has ended answers for nothing: the tag may have been moved since, and bases, too.
    assert_eq!(anonymous.send(newer(&anonymous, &archive)).await.status, 200);
    assert_eq!(builds(&client).await, 2);
}

#[tokio::test]
async fn it_goes_on_while_one_of_them_waits() {
    let mut kiln = signed().start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let archive = taking(4);
    let first = tokio::spawn(newer(&anonymous, &archive).send());
    let id = in_its_step(&client).await;
    let second = tokio::spawn(newer(&anonymous, &archive).send());
    let line = kiln.line(PATIENCE, |line| line["target"] == "kiln::audit" && line["fields"]["what"] == "join").await;
    assert_eq!((&line["fields"]["who"], &line["fields"]["build"]), (&json!(USER), &json!(id)));
    first.abort();
    assert!(first.await.is_err(), "the connection is gone");
    assert_eq!(second.await.unwrap().expect("an answer").status(), 200);
    assert_eq!((client.build(&id).await["state"].as_str(), builds(&client).await), (Some("succeeded"), 1));
}

#[tokio::test]
async fn it_ends_within_two_seconds_of_the_last_one_who_goes() {
    let mut kiln = signed().start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let archive = lasting();
    let first = tokio::spawn(newer(&anonymous, &archive).send());
    let id = in_its_step(&client).await;
    let second = tokio::spawn(newer(&anonymous, &archive).send());
    kiln.line(PATIENCE, |line| line["target"] == "kiln::audit" && line["fields"]["what"] == "join").await;
    first.abort();
    second.abort();
    let gone = Instant::now();
    assert_eq!(client.ended(&id).await["state"], "cancelled");
    assert!(gone.elapsed() <= Duration::from_secs(2), "{:?}", gone.elapsed());
}

#[tokio::test]
async fn what_could_be_something_else_is_built_by_itself() {
    let kiln = signed().set("KILN_LIMITS__CONCURRENCY", "1").start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let (archive, mut waiting) = (Archive::of(&lasting_dockerfile(60)), Vec::new());
    let mut send = async |request: RequestBuilder, count: usize| {
        waiting.push(tokio::spawn(request.send()));
        until(|| async { (builds(&client).await == count).then_some(()) }).await;
    };
    send(newer(&anonymous, &archive), 1).await;
    // SHA-1 says of no two bodies that they are the same.
    send(request(&anonymous, &archive), 2).await;
    // Another one is to have the same tag, and whoever comes behind it wants it back.
    let other = Archive::asking(&lasting_dockerfile(60), &json!({ "Ref": archive.image() }), &[]);
    send(newer(&anonymous, &other), 3).await;
    send(newer(&anonymous, &archive), 4).await;
    // One that is to be cancelled is nobody's answer.
    let last = client.get("/v1/builds").await.json()["builds"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.post(&format!("/v1/builds/{last}/cancel"), &json!({})).await.status, 202);
    send(newer(&anonymous, &archive), 5).await;
    for request in waiting {
        request.abort();
    }
}
