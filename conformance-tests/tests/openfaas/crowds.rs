//! More callers than builds at once: they wait, or are refused where that is configured.

use kiln_conformance_tests::Client;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Archive, KEY, USER, archive,
    endings::{in_its_step, lasting, taking},
    post, request, signed, unsigned, until,
};

const COPIES: &str = "FROM scratch\nCOPY hello /hello\n";

#[tokio::test]
async fn beyond_max_inflight_the_answer_is_the_real_ones_and_the_door_is_unready() {
    let kiln = signed().set("max_inflight", "1").start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    assert_eq!(anonymous.get("/ready").await.status, 200);
    let waiting = tokio::spawn(request(&anonymous, &lasting()).send());
    in_its_step(&client).await;

    let answer = post(&anonymous, &Archive::of(COPIES)).await;
    let text = "Concurrent request limit exceeded. Max concurrent requests: 1\n";
    assert_eq!(answer.parts(), (429, "text/plain; charset=utf-8", text));
    assert_eq!((answer.header("content-length"), answer.header("connection")), ("62", "close"));
    assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
    assert_eq!(anonymous.get("/ready").await.status, 503);
    assert_eq!(
        (anonymous.get("/healthz").await.status, anonymous.get("/readyz").await.status.as_u16()),
        (reqwest::StatusCode::OK, 200)
    );

    waiting.abort();
    until(|| async { (anonymous.get("/ready").await.status == 200).then_some(()) }).await;
    let answer = post(&anonymous, &Archive::of(COPIES)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // The place comes back with the answer.
    assert_eq!(anonymous.get("/ready").await.status, 200);
}

#[tokio::test]
async fn a_build_that_is_kept_without_its_caller_keeps_its_place() {
    let kiln = signed().set("max_inflight", "1").set("KILN_OPENFAAS__ON_DISCONNECT", "keep");
    let kiln = kiln.set("KILN_LIMITS__STREAMS", "2").start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let waiting = tokio::spawn(request(&anonymous, &lasting()).send());
    let id = in_its_step(&client).await;
    let follow = client.request(Method::GET, &format!("/v1/builds/{id}/log?follow=true"));
    let follower = follow.send().await.unwrap();
    let status = async || post(&anonymous, &Archive::of(COPIES)).await.status.as_u16();
    assert_eq!(status().await, 503, "caller and follower are here");
    waiting.abort();
    assert!(waiting.await.is_err(), "the connection is gone");
    assert_eq!(until(|| async { Some(status().await).filter(|status| *status != 503) }).await, 429);
    drop(follower);
    assert_eq!(client.post(&format!("/v1/builds/{id}/cancel"), &json!({})).await.status, 202);
    client.ended(&id).await;
    until(|| async { (status().await == 200).then_some(()) }).await;
}

/// The lines of a streamed answer, and when each came.
async fn lines(client: &Client, archive: &Archive) -> Vec<(Instant, Value)> {
    let signature = archive::sha256(archive.bytes(), KEY);
    let request = unsigned(client, archive).header("x-build-signature", signature);
    let mut answer = request.header("accept", "application/x-ndjson").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (mut lines, mut rest) = (Vec::new(), Vec::new());
    while let Some(chunk) = answer.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            lines.push((Instant::now(), serde_json::from_slice(&line).expect("an object")));
        }
    }
    lines
}

#[tokio::test]
async fn those_for_whom_there_is_no_place_wait_and_are_told_so() {
    let kiln = signed().set("KILN_LIMITS__CONCURRENCY", "1").start().await;
    let (anonymous, client) = (kiln.anonymous(), kiln.client(USER));
    let first = tokio::spawn(request(&anonymous, &taking(20)).send());
    in_its_step(&client).await;
    let (streams, waits) = (Archive::of(COPIES), Archive::of(COPIES));
    let begun = Instant::now();
    let (lines, answer) = tokio::join!(lines(&anonymous, &streams), post(&anonymous, &waits));
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("success")), "{}", answer.text);
    // Taken at once, and a word while nothing happens.
    let quiet: Vec<_> = lines.iter().filter(|(_, line)| line.get("log").is_none()).collect();
    assert!((quiet[0].0 - begun).as_secs() < 5, "{quiet:?}");
    assert!(quiet.len() >= 3 && quiet[1].1["status"] == "in_progress", "{quiet:?}");
    assert!((10..20).contains(&(quiet[1].0 - begun).as_secs()), "{quiet:?}");
    assert_eq!(lines.last().unwrap().1["status"], "success");
}
