//! The log in its three forms.

use kiln_conformance_tests::{Client, client::Answer};
use reqwest::Method;
use serde_json::Value;

use crate::{BUILDS, assert_problem, cancel, create, idle};

async fn log(client: &Client, id: &str, accept: &str, query: &str) -> Answer {
    let path = format!("{BUILDS}/{id}/log{query}");
    client.send(client.request(Method::GET, &path).header("accept", accept)).await
}

#[tokio::test]
async fn a_log_is_events_lines_or_text_as_its_reader_asks() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let id = create(&devel, "devel:t").await;
    // Readers of a log that grows end with it.
    let followed = ["application/x-ndjson", "text/plain", "*/*"].map(|accept| {
        let (devel, id) = (devel.clone(), id.clone());
        tokio::spawn(async move { log(&devel, &id, accept, "?follow=true").await })
    });
    cancel(&devel, &id).await;
    let [lines, text, events] = followed;
    let (lines, text, events) = (lines.await.unwrap(), text.await.unwrap(), events.await.unwrap());
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let records: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = records.last().unwrap();
    assert_eq!(end["kind"], "end");
    assert!(end["text"].as_str().unwrap().starts_with("cancelled: CancelledByUser"), "{end}");
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(text.header("x-content-type-options"), "nosniff");
    assert!(text.text.ends_with(&format!("#0 end: {}\n", end["text"].as_str().unwrap())), "{}", text.text);
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert!(events.text.contains(&format!("id: {}\nevent: end\n", end["seq"])), "{}", events.text);
    assert_eq!(log(&devel, &id, "application/x-ndjson", "").await.text, lines.text);
    let seen = format!("?after={}", end["seq"]);
    assert_eq!(log(&devel, &id, "text/plain", &seen).await.text, "");
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let path = format!("{BUILDS}/{}/log", create(&devel, "devel:t").await);
    for query in ["after=x", "after=-1", "after=99999999999999999999", "follow=perhaps", "offset=1"] {
        assert_problem(&devel.get(&format!("{path}?{query}")).await, 400, query);
    }
    for id in ["x", "-1", "1.5", ""] {
        let request = devel.request(Method::GET, &path).header("last-event-id", id);
        assert_problem(&devel.send(request).await, 400, id);
    }
}
