//! The users of an OpenWhisk without its database: a small double lists namespaces.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::Client;
use serde_json::{Value, json};

use super::{BUILDS, STATUS, idle, parts, refusal, welcome};

type Tokens = Arc<BTreeMap<String, Value>>;

/// An OpenWhisk that knows these tokens and lists for each what is given.
async fn double(tokens: &[(&str, Value)]) -> String {
    let known =
        |(token, namespaces): &(&str, Value)| (format!("Basic {}", BASE64_STANDARD.encode(token)), namespaces.clone());
    let tokens: Tokens = Arc::new(tokens.iter().map(known).collect());
    let answer = async |State(tokens): State<Tokens>, headers: HeaderMap| {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        match tokens.get(shown) {
            Some(Value::Number(status)) => {
                Err(StatusCode::from_u16(status.as_u64().unwrap_or_default() as u16).unwrap())
            }
            Some(namespaces) => Ok(Json(namespaces.clone())),
            None => Err(StatusCode::UNAUTHORIZED),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/api/v1/namespaces", get(answer)).with_state(tokens);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    host
}

#[tokio::test]
async fn the_one_namespace_of_a_token_may_call_and_all_else_may_not() {
    let host = double(&[
        ("one:key", json!(["devel"])),
        ("none:key", json!([])),
        ("two:key", json!(["devel", "other"])),
        ("odd:key", json!(["Devel"])),
        ("blank:key", json!(["_"])),
        ("broken:key", json!({ "namespaces": ["devel"] })),
        ("down:key", json!(503)),
    ])
    .await;
    let launch = idle().unset("KILN_IDENTITY__USERS_FILE");
    let mut kiln = launch.set("KILN_IDENTITY__OPENWHISK__API_HOST", &host).start().await;
    for (token, let_in) in [
        ("one:key", true),
        ("one:KEY", false),
        ("none:key", false),
        ("two:key", false),
        ("odd:key", false),
        ("blank:key", false),
        ("broken:key", false),
        ("down:key", false),
        ("nobody:key", false),
    ] {
        for path in [STATUS, BUILDS] {
            let answer = Client::new(&kiln.url, Some(token)).get(path).await;
            let expected = if let_in { welcome(path) } else { refusal(path, "Invalid authorization") };
            assert_eq!(parts(&answer), (expected.0, expected.1, expected.2), "{token} {path}");
        }
    }
    for reason in
        ["several namespaces", "has no namespace", "can't be the name of a repository", "no list of namespaces"]
    {
        let said = |line: &Value| line["fields"]["reason"].as_str().is_some_and(|text| text.contains(reason));
        kiln.line(Duration::from_secs(10), said).await;
    }
}

#[tokio::test]
async fn without_an_environment_builds_start_all_the_same() {
    let host = double(&[("one:key", json!(["devel"]))]).await;
    let launch = idle().unset("KILN_IDENTITY__USERS_FILE");
    let kiln = launch.set("KILN_IDENTITY__OPENWHISK__API_HOST", &host).start().await;
    Client::new(&kiln.url, Some("one:key")).start("python", "devel:t", "python", None).await;
}
