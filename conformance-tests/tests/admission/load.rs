//! How many requests may be under way, and what happens to the others.

use std::{net::TcpListener, time::Duration};

use kiln_conformance_tests::Kiln;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{BUILDS, STATUS, assert_probed, assert_refused, idle, raw::Stalled, until};

const START: &str = "/system/api/v1/build/start";
const CLEANUP: &str = "/system/api/v1/build/cleanup";

/// Waits until this user's requests are answered with this status.
async fn answered(kiln: &Kiln, user: &str, status: u16) {
    let client = kiln.client(user);
    until("the answer", || async { (client.get(BUILDS).await.status == status).then_some(()) }).await;
}

#[tokio::test]
async fn one_owners_slow_bodies_hold_up_nobody_else() {
    let kiln = idle().set("KILN_LIMITS__REQUESTS_PER_OWNER", "2").start().await;
    let slow = [Stalled::post(&kiln, "devel", START).await, Stalled::post(&kiln, "devel", START).await];
    answered(&kiln, "devel", 429).await;
    for path in [BUILDS, STATUS] {
        let refused = kiln.client("devel").get(path).await;
        assert_refused(&refused, 429, path);
        assert!(refused.headers.contains_key("ratelimit"), "{path}");
    }
    for _ in 0..20 {
        assert_eq!(kiln.client("other").get(BUILDS).await.status, 200);
    }
    drop(slow);
    answered(&kiln, "devel", 200).await;
}

#[tokio::test]
async fn beyond_what_may_be_under_way_requests_are_shed_in_the_dialect_and_probes_never() {
    let kiln = idle().set("KILN_LIMITS__REQUESTS", "1").start().await;
    let slow = Stalled::post(&kiln, "devel", START).await;
    answered(&kiln, "other", 503).await;
    for path in [BUILDS, STATUS] {
        assert_refused(&kiln.client("other").get(path).await, 503, path);
        assert_refused(&kiln.anonymous().get(path).await, 503, path);
    }
    assert_probed(&kiln).await;
    drop(slow);
    answered(&kiln, "other", 200).await;
}

#[tokio::test]
async fn a_body_that_doesnt_come_is_waited_for_so_long() {
    let kiln = idle().start().await;
    let begun = Instant::now();
    let answer = timeout(Duration::from_secs(20), Stalled::post(&kiln, "devel", CLEANUP).await.answer()).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(9), "{:?}", begun.elapsed());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("{\"message\":\"the request's body took too long to arrive\",\"status\":\"ko\"}"),
        "{answer}"
    );
}

#[tokio::test]
async fn callers_who_must_be_looked_up_wait_in_few_places_and_known_ones_in_none() {
    // A database that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let kiln = idle()
        .set("KILN_LIMITS__LOOKUPS", "1")
        .set("COUCHDB_SERVICE_HOST", "127.0.0.1")
        .set("COUCHDB_SERVICE_PORT", silent.local_addr().unwrap().port().to_string())
        .set("COUCHDB_ADMIN_USER", "admin")
        .set("COUCHDB_ADMIN_PASSWORD", "password")
        .set("KILN_IDENTITY__SHARED_NAMES", "true")
        .start()
        .await;
    assert_eq!(kiln.client("devel").get(BUILDS).await.status, 200);
    for path in [BUILDS, STATUS] {
        let mut strangers = JoinSet::new();
        for name in ["one", "two", "three"] {
            let client = kiln.anonymous().with_token(&format!("{name}:key"));
            strangers.spawn(async move { client.get(path).await });
        }
        let mut waited = 0;
        while let Some(answer) = strangers.join_next().await {
            let answer = answer.unwrap();
            if answer.status == 401 {
                waited += 1;
            } else {
                assert_refused(&answer, 503, path);
                // The one who has the place still waits.
                assert_eq!(kiln.client("devel").get(BUILDS).await.status, 200);
            }
        }
        assert_eq!(waited, 1, "{path}");
    }
}

#[tokio::test]
async fn a_question_needs_no_long_body() {
    let kiln = idle().start().await;
    let long = format!("{{\"max_age_hours\":1,\"x\":\"{}\"}}", "a".repeat(70_000));
    let client = kiln.client("devel");
    let request = client.request(reqwest::Method::POST, CLEANUP).header("content-type", crate::JSON).body(long);
    let answer = client.send(request).await;
    let want = "{\"message\":\"The JSON payload is too large.\",\"status\":\"ko\"}\n";
    assert_eq!(answer.parts(), (413, crate::JSON, want));
}
