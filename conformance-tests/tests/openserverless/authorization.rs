//! Who may call: the forms of the header, and what CouchDB knows or doesn't.

use std::{net::TcpListener, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, Engine, Launch};
use serde_json::json;

use super::{
    couchdb::{User, on_couchdb},
    gateway::{JSON, NO_ENGINE, STATUS, Tenant, idle, ko},
};

#[tokio::test]
async fn every_form_of_the_header_that_the_real_service_takes_is_taken() {
    let kiln = idle().await;
    let user = User::new().await;
    let token = &user.token;
    let (uuid, key) = token.split_once(':').unwrap();
    let encoded = BASE64_STANDARD.encode(token);
    let quoted = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    for value in [
        token.clone(),
        encoded.clone(),
        format!("Basic {encoded}"),
        format!("basic {encoded}"),
        format!("BASIC {encoded}"),
        format!("Basic {token}"),
        format!("Basic   {encoded}"),
        format!("{}:{}", quoted(uuid), quoted(key)),
        format!("Basic {}", BASE64_STANDARD.encode(format!("{uuid}:{}", quoted(key)))),
        format!("\t {token} "),
    ] {
        let answer = kiln.anonymous().with_token(&value).get(&format!("{STATUS}?id=x")).await;
        assert_eq!(answer.parts(), (404, JSON, ko("Build job not found").as_str()), "{value:?}");
    }
}

#[tokio::test]
async fn every_other_header_is_an_invalid_authorization() {
    let kiln = idle().await;
    let user = User::new().await;
    let token = &user.token;
    let (uuid, key) = token.split_once(':').unwrap();
    let encoded = BASE64_STANDARD.encode(token);
    for value in [
        String::new(),
        " ".to_owned(),
        format!("Bearer {token}"),
        format!("Bearer {encoded}"),
        format!("Basic {encoded} {encoded}"),
        format!("Basic {token} x"),
        "Basic".to_owned(),
        "Basic !!!".to_owned(),
        "garbage".to_owned(),
        ":".to_owned(),
        uuid.to_owned(),
        format!("{uuid}:"),
        format!(":{key}"),
        format!("{token}:"),
        format!("{uuid}:{key}:{key}"),
        format!("Basic {}", BASE64_STANDARD.encode(format!("{token}:x"))),
        format!("{uuid}:{}", key.to_uppercase()),
        format!("{uuid}:{}", &key[1..]),
        format!("{uuid}:*"),
        format!("{token}%00"),
        format!("{}:{key}", uuid.replace('-', "")),
        format!("{}:{key}", "9".repeat(9000)),
    ] {
        let answer = kiln.anonymous().with_token(&value).get(STATUS).await;
        assert_eq!(answer.parts(), (401, JSON, ko("Invalid authorization").as_str()), "{value:?}");
    }
    let twice = kiln.anonymous().with_token(token);
    let answer = twice.send(twice.request(reqwest::Method::GET, STATUS).header("authorization", token)).await;
    assert_eq!(answer.parts(), (401, JSON, ko("Invalid authorization").as_str()));
    let missing = kiln.anonymous().get(STATUS).await;
    assert_eq!(missing.parts(), (401, JSON, ko("Missing authorization header").as_str()));
    for secret in [key, &encoded] {
        assert!(!kiln.log().iter().any(|line| line.to_string().contains(secret)), "the log shows a credential");
    }
}

#[tokio::test]
async fn every_route_asks_who_calls() {
    let kiln = idle().await;
    for root in ["/system/api/v1/build", "/api/v1/build"] {
        for path in ["status", "capabilities", &"0".repeat(64)] {
            let answer = kiln.anonymous().get(&format!("{root}/{path}")).await;
            assert_eq!(answer.parts(), (401, JSON, ko("Missing authorization header").as_str()), "{path}");
        }
        for path in ["start", "cleanup", "ensure"] {
            let answer = kiln.anonymous().post(&format!("{root}/{path}"), &json!({})).await;
            assert_eq!(answer.parts(), (401, JSON, ko("Missing authorization header").as_str()), "{path}");
        }
    }
}

#[tokio::test]
async fn a_subject_without_metadata_is_an_invalid_authorization() {
    let kiln = idle().await;
    let answer = kiln.anonymous().with_token(&User::subject().await.token).get(STATUS).await;
    assert_eq!(answer.parts(), (401, JSON, ko("Invalid authorization").as_str()));
}

#[tokio::test]
async fn a_login_is_lower_cased_and_a_target_is_not() {
    let tenant = Tenant::waiting().await;
    // In CouchDB the login has a capital letter.
    assert!(tenant.name.starts_with('d'));
    tenant.start("python", "t", None).await;
    let body =
        json!({ "source": "python", "target": format!("{}:t", tenant.name.replacen('d', "D", 1)), "kind": "go" });
    let answer = tenant.client.post(super::gateway::START, &body).await;
    assert_eq!(answer.parts(), (400, JSON, ko("Invalid target for the build.").as_str()));
}

#[tokio::test]
async fn without_couchdb_nobody_of_it_gets_in_and_the_log_says_why() {
    // Taken and given back: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let launch = on_couchdb(Launch::on(Engine::Buildkitd).user("devel")).set("COUCHDB_SERVICE_PORT", port.to_string());
    let mut kiln = launch.set("KILN_ENGINE__BUILDKIT", NO_ENGINE).start().await;
    let user = User::new().await;
    let answer = Client::new(&kiln.url, Some(&user.token)).get(STATUS).await;
    assert_eq!(answer.parts(), (401, JSON, ko("Invalid authorization").as_str()));
    let line = kiln
        .line(Duration::from_secs(10), |line| {
            line["fields"]["reason"].as_str().is_some_and(|reason| reason.to_lowercase().contains("connection refused"))
        })
        .await;
    assert!(!line.to_string().contains(&user.token[37..]), "the log shows a credential");
    let own = kiln.client("devel").get(STATUS).await;
    assert_eq!(own.parts().0, 400, "users of the file are still let in: {}", own.text);
}
