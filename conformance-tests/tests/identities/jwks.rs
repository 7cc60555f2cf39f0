//! An issuer's keys over HTTP: found, rotated, taken away, and gone with the issuer.

use std::time::Duration;

use kiln_conformance_tests::{Kiln, client::Answer};
use serde_json::json;
use tokio::time::timeout;

use super::{
    BUILDS, idle,
    issuer::{ISSUER, Issuer, Key, claims},
};

/// A gateway that knows nobody but this issuer.
async fn gateway(issuer: &Issuer, more: &str) -> Kiln {
    let launch = idle().unset("KILN_IDENTITY__USERS_FILE").config(&format!(
        r#"
        [[identity.jwt]]
        name = "issuer"
        issuer = "{ISSUER}"
        audience = ["kiln"]
        algorithms = ["ES256"]
        jwks_url = "{}"
        {more}
        "#,
        issuer.url
    ));
    launch.start().await
}

async fn ask(kiln: &Kiln, key: &Key) -> Answer {
    // A token of its own each time: nothing may be remembered from the last one.
    let id = uuid::Uuid::new_v4().to_string();
    let token = key.bearer(&claims("devel", json!({ "jti": id })));
    kiln.anonymous().with_token(&token).get(BUILDS).await
}

async fn status(kiln: &Kiln, key: &Key) -> u16 {
    ask(kiln, key).await.status.as_u16()
}

#[tokio::test]
async fn keys_are_fetched_once_and_a_rotation_is_followed() {
    let (old, new) = (Key::ec("old"), Key::ec("new"));
    let issuer = Issuer::start(&[&old]).await;
    let kiln = gateway(&issuer, "refresh_pause = \"0s\"").await;
    assert_eq!(issuer.asked(), 0, "nobody has called yet");
    for _ in 0..5 {
        assert_eq!(status(&kiln, &old).await, 200);
    }
    assert_eq!(issuer.asked(), 1);
    issuer.publish(&[&new]);
    assert_eq!(status(&kiln, &old).await, 200, "its key is in the set that is held");
    assert_eq!(status(&kiln, &new).await, 200);
    assert_eq!(status(&kiln, &old).await, 401, "its key has vanished");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_once() {
    let (good, nobodys) = (Key::ec("good"), Key::ec("nobodys"));
    let issuer = Issuer::start(&[&good]).await;
    let kiln = gateway(&issuer, "").await;
    assert_eq!(status(&kiln, &good).await, 200);
    for _ in 0..20 {
        assert_eq!(status(&kiln, &nobodys).await, 401);
    }
    assert_eq!((status(&kiln, &good).await, issuer.asked()), (200, 1), "the pause after the first question");
}

#[tokio::test]
async fn an_issuer_who_is_away_at_start_keeps_nobody_out_for_long() {
    let key = Key::ec("a");
    let issuer = Issuer::start(&[&key]).await;
    issuer.fail();
    let mut kiln = gateway(&issuer, "refresh_pause = \"0s\"").await;
    assert_eq!(status(&kiln, &key).await, 401);
    kiln.line(Duration::from_secs(10), |line| line["fields"]["error"].as_str().is_some_and(|e| e.contains("503")))
        .await;
    issuer.publish(&[&key]);
    assert_eq!(status(&kiln, &key).await, 200);
    issuer.fail();
    assert_eq!(status(&kiln, &key).await, 200, "the old set serves");
}

#[tokio::test]
async fn a_set_is_believed_no_longer_than_it_may_be() {
    let key = Key::ec("a");
    let issuer = Issuer::start(&[&key]).await;
    let kiln = gateway(&issuer, "refresh_pause = \"0s\"\nmax_age = \"0s\"\nkeep = \"0s\"").await;
    assert_eq!(status(&kiln, &key).await, 401, "no set can be younger than nothing");
    let kiln = gateway(&issuer, "refresh_pause = \"0s\"\nmax_age = \"0s\"\nkeep = \"1s\"").await;
    assert_eq!(status(&kiln, &key).await, 200);
    issuer.fail();
    let ends = async { while status(&kiln, &key).await != 401 {} };
    timeout(Duration::from_secs(20), ends).await.expect("an old set without an issuer ends");
}

#[tokio::test]
async fn a_kubernetes_service_account_is_its_namespace() {
    let key = Key::ec("k8s");
    let issuer = Issuer::start(&[&key]).await;
    let kiln = gateway(&issuer, "user_claim = \"/kubernetes.io/namespace\"").await;
    let bound = json!({ "namespace": "team-a", "serviceaccount": { "name": "builder", "uid": "1" } });
    let token = key.bearer(&claims("system:serviceaccount:team-a:builder", json!({ "kubernetes.io": bound })));
    let client = kiln.anonymous().with_token(&token);
    client.start("python", "team-a:t", "python", None).await;
    let builds = client.get(BUILDS).await.json();
    assert_eq!(builds["builds"][0]["owner"], "team-a");
}
