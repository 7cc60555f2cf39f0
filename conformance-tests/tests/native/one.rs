//! One build: waited for, cancelled, tried again.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{BUILDS, PATIENCE, UNKNOWN_BASE, assert_problem, cancel, create, idle};

#[tokio::test]
async fn who_waits_is_answered_at_the_end_or_after_as_long_as_they_asked_for() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let id = create(&devel, "devel:t").await;
    let path = format!("{BUILDS}/{id}/wait");
    let begun = Instant::now();
    let answer = devel.get(&format!("{path}?timeout=1")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("queued")));
    assert!(begun.elapsed().as_secs() >= 1);
    let waiting = tokio::spawn({
        let (devel, path) = (devel.clone(), format!("{path}?timeout=50"));
        async move { devel.get(&path).await }
    });
    cancel(&devel, &id).await;
    let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["state"]), (200, &json!("cancelled")));
    // Of one that has ended there is nothing to wait for.
    assert_eq!(devel.get(&path).await.json()["state"], "cancelled");
    for query in ["timeout=51", "timeout=-1", "timeout=x"] {
        assert_problem(&devel.get(&format!("{path}?{query}")).await, 400, query);
    }
}

#[tokio::test]
async fn what_was_cancelled_is_tried_again_as_it_was_asked_for() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let body = json!({ "source": UNKNOWN_BASE, "target": "devel/app:t", "kind": "python", "file": "eA==" });
    let first = devel.post(BUILDS, &body).await.json();
    let retry = format!("{BUILDS}/{}/retry", first["id"].as_str().unwrap());
    assert_problem(&devel.post(&retry, &Value::Null).await, 409, "one that goes on");
    cancel(&devel, first["id"].as_str().unwrap()).await;
    let answer = devel.post(&retry, &Value::Null).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let again = answer.json();
    assert_ne!(again["id"], first["id"]);
    for field in ["owner", "source", "kind", "size", "image"] {
        assert_eq!(again[field], first[field], "{field}");
    }
}

#[tokio::test]
async fn the_caller_is_told_who_they_are() {
    let kiln = idle().await;
    let answer = kiln.client("devel").get("/v1/whoami").await;
    assert_eq!(answer.json(), json!({ "user": "devel", "provider": "users-file", "operator": false }));
    assert_problem(&kiln.anonymous().get("/v1/whoami").await, 401, "nobody");
}
