//! Users as OpenServerless's CouchDB keeps them, made for one test each. What fails here panics: it is a test's failure.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Client, Launch, engine};

const SUBJECTS: &str = "/nuvolaris_subjects";
const METADATA: &str = "/nuvolaris_users_metadata";

/// A user in CouchDB.
#[derive(Debug)]
pub struct User {
    /// As the door knows them: the login in lower case.
    pub name: String,
    /// `uuid:key`.
    pub token: String,
}

impl User {
    /// A user as the operator makes one.
    ///
    /// # Panics
    /// When the server doesn't take it; so do the others.
    pub async fn new() -> Self {
        Self::with(&[("AUTH", "of-the-operator")], &[]).await
    }

    /// A user with these variables: the operator's, and what `ops env add` stored.
    pub async fn with(env: &[(&str, &str)], userenv: &[(&str, &str)]) -> Self {
        Self::store(Self::fresh(), env, userenv).await
    }

    /// A user of this name, which no other test may use.
    pub async fn named(name: &str) -> Self {
        Self::store(Self { name: name.to_owned(), ..Self::fresh() }, &[("AUTH", "of-the-operator")], &[]).await
    }

    /// A subject without metadata.
    pub async fn subject() -> Self {
        let user = Self::fresh();
        user.put_subject().await;
        user
    }

    async fn store(user: Self, env: &[(&str, &str)], userenv: &[(&str, &str)]) -> Self {
        let variables = |all: &[(&str, &str)]| -> Value {
            all.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
        };
        let metadata = json!({
            "_id": user.login(), "login": user.login(), "password": "$2b$12$hash", "email": "devel@example.org",
            "env": variables(env), "userenv": variables(userenv), "quota": [],
        });
        user.put_subject().await;
        put(METADATA, &user.login(), &metadata).await;
        user
    }

    fn fresh() -> Self {
        let (uuid, key) = (Uuid::new_v4(), format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        Self { name: format!("devel{}", &uuid.simple().to_string()[..8]), token: format!("{uuid}:{key}") }
    }

    #[expect(clippy::expect_used, reason = "a token of this type has a colon")]
    async fn put_subject(&self) {
        let (uuid, key) = self.token.split_once(':').expect("uuid:key");
        let namespaces = json!([{ "name": self.login(), "uuid": uuid, "key": key }]);
        let subject = json!({ "_id": self.login(), "subject": self.login(), "namespaces": namespaces });
        put(SUBJECTS, &self.login(), &subject).await;
    }

    /// In mixed case: the name is lower-cased, the question for the metadata is not.
    fn login(&self) -> String {
        self.name.replacen('d', "D", 1)
    }
}

/// Sets the variables by which the replaced system finds its CouchDB.
///
/// # Panics
/// When the server isn't up.
#[must_use]
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub fn on_couchdb(launch: Launch) -> Launch {
    let address = engine("KILN_TEST_COUCHDB");
    let (host, port) = address.trim_start_matches("http://").split_once(':').expect("host and port");
    launch
        .set("COUCHDB_SERVICE_HOST", host)
        .set("COUCHDB_SERVICE_PORT", port.trim_end_matches('/'))
        .set("COUCHDB_ADMIN_USER", "whisk_admin")
        // The development server asks for none.
        .set("COUCHDB_ADMIN_PASSWORD", "unasked")
        // Some of these gateways have a file of users, too.
        .set("KILN_IDENTITY__SHARED_NAMES", "true")
}

async fn put(database: &str, id: &str, document: &Value) {
    let server = Client::new(engine("KILN_TEST_COUCHDB").trim_end_matches('/'), None);
    let made = server.send(server.request(Method::PUT, database)).await.status;
    // Another test may have made it.
    assert!(made.is_success() || made == StatusCode::PRECONDITION_FAILED, "{database}: {made}");
    let stored = server.send(server.request(Method::PUT, &format!("{database}/{id}")).json(document)).await;
    assert!(stored.status.is_success(), "{database}: {}", stored.text);
}
