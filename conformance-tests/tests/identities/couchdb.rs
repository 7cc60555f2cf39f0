//! CouchDB, over HTTP on both sides: users who come and go, the indexes that a command makes, and what
//! `kiln doctor` finds.

use std::time::{Duration, Instant};

use kiln_conformance_tests::{Client, Launch, client::Answer, engine};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    BUILDS, idle,
    issuer::{ISSUER, Issuer, Key},
    said,
};

const SUBJECTS: &str = "/nuvolaris_subjects";
const METADATA: &str = "/nuvolaris_users_metadata";
/// How often a revocation is looked for.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Within which it must be seen.
const REVOKED_WITHIN: Duration = Duration::from_secs(30);

struct User {
    name: String,
    token: String,
}

fn server() -> Client {
    Client::new(engine("KILN_TEST_COUCHDB").trim_end_matches('/'), None)
}

async fn put(path: &str, body: &Value) -> Answer {
    let server = server();
    server.send(server.request(Method::PUT, path).json(body)).await
}

impl User {
    async fn new() -> Self {
        for database in [SUBJECTS, METADATA] {
            let server = server();
            let made = server.send(server.request(Method::PUT, database)).await.status;
            assert!(made.is_success() || made == StatusCode::PRECONDITION_FAILED, "{database}: {made}");
        }
        let (uuid, key) = (Uuid::new_v4(), format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        let user = Self { name: format!("devel{}", &uuid.simple().to_string()[..8]), token: format!("{uuid}:{key}") };
        user.put_subject(json!({})).await;
        let metadata = json!({ "login": user.name, "env": [{ "key": "AUTH", "value": "a" }], "userenv": [] });
        assert!(put(&format!("{METADATA}/{}", user.name), &metadata).await.status.is_success());
        user
    }

    /// Writes the subject anew, with more in it.
    async fn put_subject(&self, more: Value) {
        let path = format!("{SUBJECTS}/{}", self.name);
        let (uuid, key) = self.token.split_once(':').unwrap();
        let mut subject =
            json!({ "subject": self.name, "namespaces": [{ "name": self.name, "uuid": uuid, "key": key }] });
        let there = server().get(&path).await.json();
        if there["_rev"].is_string() {
            subject["_rev"] = there["_rev"].clone();
        }
        subject.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let stored = put(&path, &subject).await;
        assert!(stored.status.is_success(), "{}", stored.text);
    }
}

fn on_couchdb(launch: Launch) -> Launch {
    let address = engine("KILN_TEST_COUCHDB");
    let (host, port) = address.trim_start_matches("http://").split_once(':').unwrap();
    launch
        .unset("KILN_IDENTITY__USERS_FILE")
        .set("COUCHDB_SERVICE_HOST", host)
        .set("COUCHDB_SERVICE_PORT", port.trim_end_matches('/'))
        .set("COUCHDB_ADMIN_PASSWORD", "unasked")
}

#[tokio::test]
async fn a_revocation_is_seen_within_half_a_minute_by_a_caller_who_never_pauses() {
    let (blocked, rekeyed) = (User::new().await, User::new().await);
    let kiln = on_couchdb(idle()).start().await;
    let clients = [&blocked, &rekeyed].map(|user| Client::new(&kiln.url, Some(&user.token)));
    for client in &clients {
        assert_eq!(client.get(BUILDS).await.status, 200);
    }
    blocked.put_subject(json!({ "blocked": true })).await;
    rekeyed.put_subject(json!({ "namespaces": [] })).await;
    let revoked = Instant::now();
    for client in &clients {
        let refused = async {
            while client.get(BUILDS).await.status != 401 {
                sleep(ASK_EVERY).await;
            }
        };
        timeout(REVOKED_WITHIN.saturating_sub(revoked.elapsed()), refused).await.expect("the revocation is seen");
    }
}

#[tokio::test]
async fn a_user_moves_from_one_key_to_the_next() {
    let mut user = User::new().await;
    let kiln = on_couchdb(idle()).start().await;
    assert_eq!(Client::new(&kiln.url, Some(&user.token)).get(BUILDS).await.status, 200);
    user.token = format!("{}:{}", Uuid::new_v4(), "k".repeat(64));
    user.put_subject(json!({})).await;
    assert_eq!(Client::new(&kiln.url, Some(&user.token)).get(BUILDS).await.status, 200, "at once");
}

#[tokio::test]
async fn a_command_makes_the_indexes_and_lookups_use_the_view() {
    let user = User::new().await;
    let launch = on_couchdb(idle()).config("[identity.couchdb]\nview = true\n");
    let (ok, shown) = said(&launch, &["identity", "indexes", "--dry-run"]);
    assert!(ok && shown.contains("POST /nuvolaris_users_metadata/_index"), "{shown}");
    assert!(shown.contains("PUT /nuvolaris_subjects/_design/kiln"), "{shown}");
    for _ in 0..2 {
        let (ok, made) = said(&launch, &["identity", "indexes"]);
        assert!(ok && made.lines().count() == 2, "{made}");
    }
    let (_, made) = said(&launch, &["identity", "indexes"]);
    assert!(made.lines().all(|line| line.starts_with("exists")), "{made}");

    let kiln = launch.start().await;
    assert_eq!(Client::new(&kiln.url, Some(&user.token)).get(BUILDS).await.status, 200);
    let (uuid, key) = user.token.split_once(':').unwrap();
    for token in
        [format!("{uuid}:{}", key.to_uppercase()), format!("{uuid}x:{key}"), format!("{}:{key}", Uuid::new_v4())]
    {
        assert_eq!(Client::new(&kiln.url, Some(&token)).get(BUILDS).await.status, 401, "{token}");
    }
    user.put_subject(json!({ "blocked": true })).await;
    let other = on_couchdb(idle()).config("[identity.couchdb]\nview = true\n").start().await;
    assert_eq!(Client::new(&other.url, Some(&user.token)).get(BUILDS).await.status, 401);
}

#[tokio::test]
async fn the_doctor_tells_about_each_provider() {
    User::new().await;
    let issuer = Issuer::start(&[&Key::ec("a"), &Key::ec("b"), &Key::rsa("c")]).await;
    let jwt = |url: &str| {
        let config = format!(
            "[[identity.jwt]]\nname = \"tokens\"\nissuer = \"{ISSUER}\"\naudience = [\"kiln\"]\n\
             algorithms = [\"ES256\"]\njwks_url = \"{url}\"\nprefix = \"jwt-\"\n"
        );
        on_couchdb(idle()).config(&config)
    };
    let doctor = |launch: Launch| async move {
        tokio::task::spawn_blocking(move || said(&launch, &["doctor"]).1).await.unwrap()
    };
    let found = doctor(jwt(&issuer.url)).await;
    assert!(found.contains("ok    identity: couchdb answers"), "{found}");
    assert!(found.contains("ok    identity: tokens: 2 keys can be used"), "{found}");
    issuer.publish(&[&Key::rsa("c")]);
    let found = doctor(jwt(&issuer.url)).await;
    assert!(found.contains("FAIL  identity: tokens: none of the issuer's keys"), "{found}");
    issuer.fail();
    let found = doctor(jwt(&issuer.url).set("COUCHDB_SERVICE_PORT", "1")).await;
    assert!(found.contains("FAIL  identity: couchdb: CouchDB at"), "{found}");
    assert!(found.contains("FAIL  identity: tokens:") && found.contains("answers 503"), "{found}");
}
