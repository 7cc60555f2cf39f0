//! Every endpoint, asked by the owner of what is there for what can't be meant.

use serde_json::{Value, json};

use super::{Request, Stage};
use crate::UNKNOWN_BASE;

/// It reads nothing but the token.
const TAKES_NOTHING: &str = "get /v1/whoami";
/// No build's id: none that there is, and what is no id at all.
const NO_IDS: [&str; 6] = ["01938d2e-0000-7000-8000-000000000000", "x", "-1", "%ff", "%00", "..%2f..%2fwhoami"];
const JSON: &str = "application/json";

fn rows(stage: &Stage) -> Vec<(Request, u16)> {
    let mut rows = create(&stage.owner);
    rows.extend(list(&stage.stranger));
    rows.extend(one(&stage.build));
    rows.extend(images(&stage.owner, &stage.stranger));
    rows
}

fn create(owner: &str) -> Vec<(Request, u16)> {
    let post = || Request::new("post /v1/builds", "/v1/builds");
    let target = format!("{owner}:v");
    let with = |field: &str, value: Value| {
        let mut body = json!({ "source": UNKNOWN_BASE, "target": target });
        body[field] = value;
        post().json(body)
    };
    let with_file =
        |file: &str| post().json(json!({ "source": UNKNOWN_BASE, "target": target, "kind": "python", "file": file }));
    let webhook = |url: &str, secret: &str| with("webhook", json!({ "url": url, "secret": secret }));
    let secret = format!("whsec_{}", "A".repeat(32));
    vec![
        (post(), 415),
        (post().raw("text/plain", "{}"), 415),
        (post().raw(JSON, ""), 400),
        (post().raw(JSON, "{"), 400),
        (post().raw(JSON, "{\"source\": \"\\ud800\"}"), 400),
        (post().raw(JSON, "[".repeat(100_000)), 422),
        (post().json(json!([])), 422),
        (post().json(json!({ "target": target })), 422),
        (post().json(json!({ "source": UNKNOWN_BASE })), 422),
        (with("colour", json!("red")), 422),
        (with("fresh", json!("yes")), 422),
        (with("source", json!(7)), 422),
        (with("source", json!("")), 400),
        (with("source", json!("a b")), 400),
        (with("target", json!("")), 400),
        (with("target", json!(format!("{owner}/../other:v"))), 400),
        (with("target", json!(format!("{owner}:v\u{0}"))), 400),
        (with("target", json!(format!("{owner}:v:w"))), 400),
        (with("kind", json!("cobol")), 422),
        (with("size", json!("vast")), 400),
        (with("file", json!("eA==")), 400),
        (with_file("no base64"), 400),
        (with_file("/w=="), 400),
        (with_file(&"QUFB".repeat(5_000_001 / 3 + 1)), 413),
        (webhook("nowhere", &secret), 400),
        (webhook("http://nowhere.invalid/", &secret), 400),
        (webhook("https://127.0.0.1/", &secret), 400),
        (webhook("https://a:b@nowhere.invalid/", &secret), 400),
        (webhook("https://nowhere.invalid/", "whsec_x"), 400),
        (with("webhook", json!({ "url": "https://nowhere.invalid/" })), 400),
        (with("webhook", json!({ "url": "https://nowhere.invalid/", "secret": secret, "events": ["dusk"] })), 400),
        (with("webhook", json!({ "url": "https://nowhere.invalid/", "secret": secret, "events": [] })), 400),
    ]
}

fn list(stranger: &str) -> Vec<(Request, u16)> {
    let get = |query: &str| Request::new("get /v1/builds", format!("/v1/builds?{query}"));
    let bad = [
        "limit=0",
        "limit=101",
        "limit=18446744073709551616",
        "limit=1&limit=2",
        "state=done",
        "state=queued,,failed",
        "target=%ff",
        "target=a:b:c",
        "since=yesterday",
        "until=2026-02-30T00:00:00Z",
        "since=2026-01-01",
        "cursor=x",
        "cursor=%F0%9F%92%A3",
        "colour=red",
    ];
    let mut rows: Vec<_> = bad.into_iter().map(|query| (get(query), 400)).collect();
    for owner in [stranger, "nobody", "", "%00", "../x"] {
        rows.push((get(&format!("owner={owner}")), 404));
    }
    rows
}

fn one(build: &str) -> Vec<(Request, u16)> {
    let mut rows = Vec::new();
    for id in NO_IDS {
        for (endpoint, part) in [
            ("get /v1/builds/{id}", ""),
            ("get /v1/builds/{id}/log", "/log"),
            ("get /v1/builds/{id}/wait", "/wait?timeout=0"),
            ("get /v1/builds/{id}/webhook", "/webhook"),
            ("post /v1/builds/{id}/cancel", "/cancel"),
            ("post /v1/builds/{id}/retry", "/retry"),
        ] {
            rows.push((Request::new(endpoint, format!("/v1/builds/{id}{part}")), 404));
        }
    }
    for query in ["after=x", "after=-1", "after=18446744073709551616", "after=1&after=2", "follow=perhaps", "offset=1"]
    {
        rows.push((Request::new("get /v1/builds/{id}/log", format!("/v1/builds/{build}/log?{query}")), 400));
    }
    for query in ["timeout=51", "timeout=-1", "timeout=0.5", "timeout=", "timeout=1&timeout=2", "after=1"] {
        rows.push((Request::new("get /v1/builds/{id}/wait", format!("/v1/builds/{build}/wait?{query}")), 400));
    }
    // It waits still.
    rows.push((Request::new("post /v1/builds/{id}/retry", format!("/v1/builds/{build}/retry")), 409));
    rows
}

fn images(owner: &str, stranger: &str) -> Vec<(Request, u16)> {
    let list = |query: &str| Request::new("get /v1/images", format!("/v1/images?{query}"));
    let look = |rest: &str| Request::new("get /v1/images/{name}", format!("/v1/images/{owner}{rest}"));
    let delete = |rest: &str| Request::new("delete /v1/images/{name}", format!("/v1/images/{owner}{rest}"));
    let copy = || Request::new("post /v1/images", "/v1/images");
    let (image, no_digest) = (format!("{owner}:t"), "@sha256:0");
    let names = |from: &str, to: &str| copy().json(json!({ "from": from, "to": to }));
    vec![
        (list("limit=0"), 400),
        (list("limit=101"), 400),
        (list("limit=x"), 400),
        (list("colour=red"), 400),
        (list("cursor=..%2f"), 400),
        (list(&format!("cursor={stranger}")), 400),
        (look(":none"), 404),
        (look(":a:b"), 404),
        (look(":%00"), 404),
        (look("%2f..%2fx:t"), 404),
        (look(no_digest), 404),
        (look("?limit=0"), 400),
        (look("?cursor=%00"), 400),
        (look("?cursor=a/b"), 400),
        (look(":t?colour=red"), 400),
        (delete(""), 400),
        (delete(":none"), 404),
        (delete(no_digest), 404),
        (delete(":t?all_tags=perhaps"), 400),
        (delete(":t?colour=red"), 400),
        (copy(), 415),
        (copy().raw("text/plain", "{}"), 415),
        (copy().raw(JSON, "{"), 400),
        (copy().json(json!({ "from": image })), 422),
        (copy().json(json!({ "from": image, "to": image, "colour": "red" })), 422),
        (copy().json(json!({ "from": 7, "to": image })), 422),
        (names(&format!("{owner}:none"), &format!("{owner}:v")), 404),
        (names(&image, owner), 400),
        (names(owner, &format!("{owner}:v")), 400),
        (names(&image, ""), 404),
        (names(&image, &format!("{stranger}:v")), 404),
    ]
}

#[tokio::test]
async fn on_every_endpoint_what_can_not_be_meant_is_refused_for_what_it_is() {
    let stage = Stage::set().await;
    let document = stage.document().await;
    let rows = rows(&stage);
    let endpoints = rows.iter().map(|(request, _)| request.endpoint);
    document.assert_covered(endpoints.chain([TAKES_NOTHING]));
    let owner = stage.kiln.client(&stage.owner);
    let mut wrong = Vec::new();
    for (request, status) in &rows {
        let answer = request.send(&owner).await;
        let said = (answer.status.as_u16(), answer.header("content-type"), answer.json()["status"].as_u64());
        if said != (*status, "application/problem+json", Some(u64::from(*status))) {
            wrong.push(format!("{request}: {said:?}, not {status}: {}", answer.text));
        } else if !document.says(request.endpoint, *status) {
            wrong.push(format!("{request}: the document says nothing of {status}"));
        } else if answer.json()["title"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{request}: no reason"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    // None of them became a build, or did anything to the one there is, or to the image.
    let builds = owner.get("/v1/builds").await.json();
    assert_eq!(builds["builds"].as_array().unwrap().len(), 1, "{builds:#}");
    assert_eq!(builds["builds"][0]["state"], "queued");
    assert_eq!(owner.get(&format!("/v1/images/{}:t", stage.owner)).await.status, 200);
}
