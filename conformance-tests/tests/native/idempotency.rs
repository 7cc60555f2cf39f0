//! `Idempotency-Key`: a request that is sent again is the same request.

use kiln_conformance_tests::{Client, client::Answer};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{BUILDS, UNKNOWN_BASE, assert_problem, cancel, idle};

async fn post(client: &Client, keys: &[&str], body: &Value) -> Answer {
    let request = client.request(Method::POST, BUILDS).json(body);
    client.send(keys.iter().fold(request, |request, key| request.header("idempotency-key", *key))).await
}

fn body(target: &str) -> Value {
    json!({ "source": UNKNOWN_BASE, "target": target })
}

#[tokio::test]
async fn a_request_with_a_key_is_one_build_however_often_it_is_sent() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let wanted = body("devel:t");
    let posts = (0..20).map(|_| {
        let (devel, wanted) = (devel.clone(), wanted.clone());
        async move { post(&devel, &["one"], &wanted).await }
    });
    let answers = posts.collect::<JoinSet<_>>().join_all().await;
    let mut taken = 0;
    for answer in &answers {
        assert_eq!(answer.json()["id"], answers[0].json()["id"]);
        match answer.status.as_u16() {
            202 => taken += 1,
            status => assert_eq!(status, 200, "{}", answer.text),
        }
    }
    assert_eq!(taken, 1);
    // Also once it has ended: what became of it is told, and not done again.
    cancel(&devel, answers[0].json()["id"].as_str().unwrap()).await;
    let later = post(&devel, &["one"], &wanted).await;
    assert_eq!((later.status.as_u16(), &later.json()["state"]), (200, &json!("cancelled")));
    let others = post(&kiln.client("other"), &["one"], &body("other:t")).await;
    assert_eq!(others.status, 202, "{}", others.text);
    for keys in [&["two"][..], &[]] {
        assert_eq!(post(&devel, keys, &wanted).await.status, 202, "{keys:?}");
    }
}

#[tokio::test]
async fn a_key_that_another_request_had_is_refused() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let file = |text: &str| json!({ "source": UNKNOWN_BASE, "target": "devel:t", "kind": "python", "file": text });
    assert_eq!(post(&devel, &["one"], &file("YQ==")).await.status, 202);
    assert_eq!(post(&devel, &["one"], &file("YQ==")).await.status, 200);
    let mut kind = file("YQ==");
    kind["kind"] = "nodejs".into();
    let mut source = file("YQ==");
    source["source"] = "nowhere.invalid/base:3".into();
    let mut target = file("YQ==");
    target["target"] = "devel:u".into();
    for other in [file("Yg=="), file(""), kind, source, target, body("devel:t")] {
        assert_problem(&post(&devel, &["one"], &other).await, 422, &other.to_string());
    }
    let long = "k".repeat(256);
    for keys in [&[""][..], &[&long], &["a", "b"]] {
        assert_problem(&post(&devel, keys, &body("devel:t")).await, 400, &format!("{keys:?}"));
    }
}
