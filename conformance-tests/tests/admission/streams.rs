//! Logs that are followed, which have places of their own.

use kiln_conformance_tests::{Client, Kiln};
use reqwest::{Method, Response};

use crate::{BUILDS, assert_refused, idle, start, until};

/// Follows the log of a build that has not begun: the stream stays open.
async fn follow(client: &Client, id: &str) -> Response {
    client.request(Method::GET, &format!("/v1/builds/{id}/log?follow=true")).send().await.unwrap()
}

async fn comes_back(kiln: &Kiln, user: &str, id: &str) {
    let client = kiln.client(user);
    until("the place comes back", || async { follow(&client, id).await.status().is_success().then_some(()) }).await;
}

#[tokio::test]
async fn an_owner_has_so_many_streams_and_the_place_of_one_who_leaves_comes_back() {
    let kiln = idle().set("KILN_LIMITS__STREAMS_PER_OWNER", "2").start().await;
    let (devel, other) = (kiln.client("devel"), kiln.client("other"));
    let (id, others) = (start(&devel, "devel").await, start(&other, "other").await);
    let followers = [follow(&devel, &id).await, follow(&devel, &id).await];
    assert!(followers.iter().all(|follower| follower.status().is_success()));
    let log = format!("/v1/builds/{id}/log");
    assert_refused(&devel.get(&log).await, 429, &log);
    assert!(follow(&other, &others).await.status().is_success(), "another owner has places of their own");
    assert_eq!(devel.get(BUILDS).await.status, 200, "questions have places of their own");
    drop(followers);
    comes_back(&kiln, "devel", &id).await;
}

#[tokio::test]
async fn all_owners_have_so_many_streams_and_questions_are_answered_beside_them() {
    let kiln = idle().set("KILN_LIMITS__STREAMS", "1").set("KILN_LIMITS__REQUESTS", "2").start().await;
    let (devel, other) = (kiln.client("devel"), kiln.client("other"));
    let (id, others) = (start(&devel, "devel").await, start(&other, "other").await);
    let follower = follow(&devel, &id).await;
    assert!(follower.status().is_success());
    let log = format!("/v1/builds/{others}/log");
    assert_refused(&other.get(&log).await, 503, &log);
    assert_eq!(other.get(BUILDS).await.status, 200);
    // Whose build ends has its log ended, and so its place.
    assert_eq!(devel.post(&format!("/v1/builds/{id}/cancel"), &serde_json::json!({})).await.status, 202);
    assert!(follower.text().await.unwrap().contains("event: end"));
    comes_back(&kiln, "other", &others).await;
}
