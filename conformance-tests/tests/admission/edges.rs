//! What belongs to one door stays there, and what anybody sends is bounded.

use reqwest::Method;

use crate::{BUILDS, PROBLEM, STATUS, idle, start};

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_short_and_plain() {
    let kiln = idle().start().await;
    let client = kiln.client("devel");
    let long = "a".repeat(10_000);
    for (sent, kept) in [("0198-a.b_C", true), (&long[..64], true), (&long, false), ("a b", false), ("a\"b", false)] {
        let answer = client.send(client.request(Method::GET, BUILDS).header("x-request-id", sent)).await;
        let id = answer.header("x-request-id");
        assert_eq!(id == sent, kept, "{id}");
        assert!((1..=64).contains(&id.len()), "{id}");
    }
}

#[tokio::test]
async fn the_native_door_answers_every_mistake_as_a_problem() {
    let kiln = idle().start().await;
    let client = kiln.client("devel");
    let id = start(&client, "devel").await;
    for (method, path, status) in [
        (Method::GET, format!("/v1/builds/{id}/log?after=-1"), 400),
        (Method::GET, format!("/v1/builds/{id}/log?follow=perhaps"), 400),
        (Method::GET, "/v1/builds/%FF".to_owned(), 404),
        (Method::GET, "/v1/builds/%FF/log".to_owned(), 404),
        (Method::POST, "/v1/builds/%FF/cancel".to_owned(), 404),
        (Method::GET, "/v1/nowhere".to_owned(), 404),
        (Method::DELETE, "/v1/builds".to_owned(), 405),
    ] {
        let answer = client.send(client.request(method.clone(), &path)).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, PROBLEM), "{method} {path}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_the_openserverless_doors_alone() {
    let kiln = idle().start().await;
    for (path, allowed) in [(STATUS, "*"), (BUILDS, ""), ("/readyz", ""), ("/nowhere", "")] {
        let client = kiln.anonymous();
        let answer = client.send(client.request(Method::GET, path).header("origin", "https://ide.example")).await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{path}");
    }
    let client = kiln.anonymous();
    let preflight = client.request(Method::OPTIONS, BUILDS).header("origin", "https://ide.example");
    assert_eq!(client.send(preflight).await.status, 405);
}

#[tokio::test]
async fn only_operators_see_which_engine_there_is() {
    let kiln = idle().start().await;
    let public = kiln.anonymous().get("/readyz").await;
    assert_eq!((public.status.as_u16(), public.text.as_str()), (200, "{\"status\":\"degraded\"}"));
    let admin = kiln_conformance_tests::Client::new(&kiln.admin, None).get("/readyz").await;
    assert_eq!(admin.json()["engine"], "unavailable");
}
