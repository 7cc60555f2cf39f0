//! The CouchDB provider against a server that speaks CouchDB's protocol.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use kiln_auth::{
    Asker, Cached, CouchDb, CouchDbConfig, Credential, Identity, IdentityProvider, Lifetimes, Refusal, WskToken,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const SUBJECTS: &str = "nuvolaris_subjects";
const METADATA: &str = "nuvolaris_users_metadata";

/// A user of this test alone, for all tests share one server.
struct User {
    login: String,
    token: WskToken,
}

impl User {
    fn new() -> Self {
        let token = WskToken::generate().unwrap();
        // A login in mixed case: the name is lower-cased, the question is not.
        Self { login: format!("Devel{}", &token.uuid()[..8]), token }
    }

    fn subject(&self) -> Value {
        json!({ "_id": self.login, "subject": self.login, "namespaces": [
            { "name": self.login, "uuid": self.token.uuid(), "key": self.token.key().expose_secret() },
        ]})
    }

    fn metadata(&self) -> Value {
        json!({
            "_id": self.login, "login": self.login, "password": "$2b$12$hash", "email": "devel@example.org",
            "env": [{ "key": "AUTH", "value": "a" }, { "key": "REGISTRY_HOST", "value": "operators" }],
            "userenv": [{ "key": "REGISTRY_HOST", "value": "users" }],
            "quota": [],
        })
    }
}

fn server() -> Uri {
    let variable = std::env::var("KILN_TEST_COUCHDB");
    let url =
        variable.expect("no KILN_TEST_COUCHDB: deploy/dev/engines up couchdb && eval \"$(deploy/dev/engines env)\"");
    url.parse().expect("KILN_TEST_COUCHDB is a URL")
}

fn provider() -> CouchDb {
    let url = server();
    let variable = |name: &str| match name {
        "COUCHDB_SERVICE_HOST" => url.host().map(str::to_owned),
        "COUCHDB_SERVICE_PORT" => url.port().map(|port| port.to_string()),
        // The development server asks for no password.
        "COUCHDB_ADMIN_PASSWORD" => Some("unasked".to_owned()),
        _ => None,
    };
    CouchDb::new(&CouchDbConfig::from_variables(variable).unwrap()).unwrap()
}

async fn put(path: &str, body: Option<&Value>) -> StatusCode {
    let uri = format!("{}{path}", server());
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let request = Request::builder().method(Method::PUT).uri(uri).header(CONTENT_TYPE, "application/json");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    client.request(request.body(body.into()).unwrap()).await.expect("the server answers").status()
}

/// Stores documents, in databases that another test may have made.
async fn store(docs: &[(&str, Value)]) {
    for database in [SUBJECTS, METADATA] {
        let status = put(database, None).await;
        assert!(status.is_success() || status == StatusCode::PRECONDITION_FAILED, "{database}: {status}");
    }
    for (database, doc) in docs {
        let status = put(&format!("{database}/{}", doc["_id"].as_str().unwrap()), Some(doc)).await;
        assert!(status.is_success(), "{database}: {status}");
    }
}

async fn identify(token: &WskToken) -> Result<Identity, Refusal> {
    provider().identify(&Credential::Wsk(token.clone()), &Asker::GATEWAY).await
}

fn with_key(token: &WskToken, key: &str) -> WskToken {
    match Credential::parse(format!("{}:{key}", token.uuid()).as_bytes()) {
        Ok(Credential::Wsk(token)) => token,
        other => panic!("no wsk token: {other:?}"),
    }
}

#[tokio::test]
async fn a_user_of_openserverless_is_proved_with_their_environment() {
    let user = User::new();
    store(&[(SUBJECTS, user.subject()), (METADATA, user.metadata())]).await;
    let identity = identify(&user.token).await.unwrap();
    assert_eq!(identity.user().as_str(), user.login.to_lowercase());
    assert_eq!(identity.environment().get("REGISTRY_HOST"), Some("users"));
    assert_eq!(identity.operator_environment().get("REGISTRY_HOST"), Some("operators"));
    assert_eq!(identity.environment().get("AUTH"), Some("a"));
    assert_eq!(identity.environment().get("password"), None);
}

#[tokio::test]
async fn a_wrong_key_or_somebody_elses_uuid_is_nobodys_token() {
    let (user, other) = (User::new(), User::new());
    store(&[
        (SUBJECTS, user.subject()),
        (METADATA, user.metadata()),
        (SUBJECTS, other.subject()),
        (METADATA, other.metadata()),
    ])
    .await;
    let others_key = other.token.key().expose_secret();
    for key in ["x", others_key, &user.token.key().expose_secret().to_lowercase()] {
        assert!(matches!(identify(&with_key(&user.token, key)).await, Err(Refusal::NotMine)));
    }
}

#[tokio::test]
async fn blocked_subjects_and_subjects_without_metadata_are_rejected() {
    let (blocked, bare) = (User::new(), User::new());
    let mut subject = blocked.subject();
    subject["blocked"] = true.into();
    store(&[(SUBJECTS, subject), (METADATA, blocked.metadata()), (SUBJECTS, bare.subject())]).await;
    for user in [blocked, bare] {
        assert!(matches!(identify(&user.token).await, Err(Refusal::Rejected(_))), "{}", user.login);
    }
}

#[tokio::test]
async fn a_new_user_is_seen_once_the_refusal_has_expired() {
    store(&[]).await;
    let user = User::new();
    let lifetimes = Lifetimes { refused: Duration::from_millis(50), ..Lifetimes::default() };
    let cached = Cached::new(Arc::new(provider()), lifetimes).unwrap();
    let credential = Credential::Wsk(user.token.clone());
    assert!(matches!(cached.identify(&credential, &Asker::GATEWAY).await, Err(Refusal::NotMine)));
    store(&[(SUBJECTS, user.subject()), (METADATA, user.metadata())]).await;
    let seen = async {
        while cached.identify(&credential, &Asker::GATEWAY).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("the new user is seen");
}
