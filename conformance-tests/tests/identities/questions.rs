//! How many callers providers are asked about at once, and who is in whose way.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::get};
use kiln_conformance_tests::Kiln;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    BUILDS, idle,
    issuer::{ISSUER, Key, claims, set_file},
};

/// For whatever isn't itself what a test measures.
const PATIENCE: Duration = Duration::from_secs(20);

/// A caller whom nobody has heard of.
async fn stranger(kiln: &Kiln) -> u16 {
    kiln.anonymous().with_token("stranger:key").get(BUILDS).await.status.as_u16()
}

#[tokio::test]
async fn a_provider_that_hangs_takes_no_place_from_the_callers_of_another() {
    // A database that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let key = Key::ec("a");
    let launch = idle().unset("KILN_IDENTITY__USERS_FILE");
    let set = set_file(launch.folder(), &[key.jwk()]);
    let launch = launch.set("KILN_LIMITS__LOOKUPS", "1").config(&format!(
        r#"
        [[identity.jwt]]
        name = "issuer"
        issuer = "{ISSUER}"
        audience = ["kiln"]
        algorithms = ["ES256"]
        jwks_file = "{}"
        prefix = "jwt-"
        "#,
        set.display()
    ));
    let kiln = launch
        .set("COUCHDB_SERVICE_HOST", "127.0.0.1")
        .set("COUCHDB_SERVICE_PORT", silent.local_addr().unwrap().port().to_string())
        .set("COUCHDB_ADMIN_PASSWORD", "password")
        .start()
        .await;
    let waiting = kiln.anonymous().with_token("waiting:key");
    let waiting = tokio::spawn(async move { waiting.get(BUILDS).await.status });
    let _under_way = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    assert_eq!(stranger(&kiln).await, 503, "the provider's one place is taken");
    for user in ["one", "two", "three"] {
        let token = key.bearer(&claims(user, json!({})));
        assert_eq!(kiln.anonymous().with_token(&token).get(BUILDS).await.status, 200, "{user}");
    }
    assert!(!waiting.is_finished(), "the database still hangs");
    assert_eq!(waiting.await.unwrap(), 401);
}

/// An OpenWhisk that answers each question once it is let.
#[derive(Clone)]
struct Held {
    asked: watch::Sender<usize>,
    gate: Arc<Semaphore>,
}

#[tokio::test]
async fn all_who_show_one_new_token_at_once_share_a_question_and_are_let_in() {
    const CALLERS: usize = 500;
    let held = Held { asked: watch::Sender::new(0), gate: Arc::new(Semaphore::new(0)) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let answer = async |State(held): State<Held>| {
        held.asked.send_modify(|asked| *asked += 1);
        let _let = held.gate.acquire().await;
        Json(json!(["devel"]))
    };
    let routes = Router::new().route("/api/v1/namespaces", get(answer)).with_state(held.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let launch = idle().unset("KILN_IDENTITY__USERS_FILE").set("KILN_IDENTITY__OPENWHISK__API_HOST", host);
    let launch = launch.set("KILN_LIMITS__LOOKUPS", "1").set("KILN_LIMITS__REQUESTS_PER_OWNER", "1000");
    let kiln = launch.start().await;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let client = kiln.anonymous().with_token("one:key");
        callers.spawn(async move { client.get(BUILDS).await.status.as_u16() });
    }
    timeout(PATIENCE, held.asked.subscribe().wait_for(|asked| *asked == 1)).await.unwrap().unwrap();
    assert_eq!(stranger(&kiln).await, 503, "the provider's one place is taken");
    held.gate.add_permits(CALLERS);
    while let Some(status) = callers.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(*held.asked.borrow(), 1);
}
