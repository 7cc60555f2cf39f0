//! The gateways that tests share where state doesn't matter: each test is a tenant of its own.

use std::{
    net::TcpListener,
    sync::{Arc, LazyLock, Weak},
};

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, kiln::base};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::Mutex};

use super::couchdb::{User, on_couchdb};

pub(crate) const START: &str = "/system/api/v1/build/start";
pub(crate) const STATUS: &str = "/system/api/v1/build/status";
pub(crate) const CLEANUP: &str = "/system/api/v1/build/cleanup";
pub(crate) const ENSURE: &str = "/system/api/v1/build/ensure";
pub(crate) const JSON: &str = "application/json";

/// The registry as a cluster's nodes know it.
pub(crate) const PULL_HOST: &str = "pull.example:32000";

/// An engine that never answers: what is accepted stays queued.
pub(crate) const NO_ENGINE: &str = "unix:///nowhere/buildkitd.sock";

/// Outlives every test's own runtime, so that the gateway's log goes on being read.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// A registry that takes connections and never answers: a build on its images runs until it is stopped.
static SILENT: LazyLock<TcpListener> = LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("a port"));

/// A gateway that ends with the last test that uses it.
type Shared = Mutex<Weak<Kiln>>;

/// A user of a shared gateway, whom no other test knows.
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) kiln: Arc<Kiln>,
}

impl Tenant {
    /// A tenant where nothing is ever built: fast, and every accepted build stays to be seen.
    pub(crate) async fn waiting() -> Self {
        Self::of(idle().await, User::new().await)
    }

    /// A tenant of a gateway with a real engine.
    pub(crate) async fn building() -> Self {
        static SHARED: Shared = Shared::const_new(Weak::new());
        let silent = SILENT.local_addr().unwrap();
        let silent =
            format!("[[bases.shared]]\npattern = \"{silent}/*\"\n[registries.\"{silent}\"]\nplain_http = true\n");
        let launch = with_catalog(on_couchdb(Launch::on(Engine::Buildkitd).user("devel")))
            .config(&silent)
            // Builds on silent bases don't keep the others waiting.
            .set("KILN_LIMITS__CONCURRENCY", "8")
            .set("KILN_OPENSERVERLESS__PULL_HOST", PULL_HOST);
        Self::of(shared(&SHARED, launch).await, User::new().await)
    }

    pub(crate) fn of(kiln: Arc<Kiln>, user: User) -> Self {
        Self { client: Client::new(&kiln.url, Some(&user.token)), name: user.name, kiln }
    }

    /// The builds that were accepted from this tenant.
    pub(crate) async fn builds(&self) -> Vec<Value> {
        let listed = self.client.get("/v1/builds").await;
        assert_eq!(listed.status, 200, "{}", listed.text);
        listed.json()["builds"].as_array().expect("a list").clone()
    }

    /// Starts a build under this tag; without a file the base gets a new name.
    pub(crate) async fn start(&self, source: &str, tag: &str, file: Option<&str>) -> String {
        self.client.start(source, &format!("{}:{tag}", self.name), "python", file).await
    }

    /// Starts a build that runs until it is cancelled, and waits until it runs.
    pub(crate) async fn start_endless(&self) -> String {
        let id = self.start(&format!("{}/silent", SILENT.local_addr().unwrap()), "endless", None).await;
        let build = self.client.wait_for(&id, &["running", "failed"]).await;
        assert_eq!(build["state"], "running", "{build}");
        id
    }

    /// Cancels a build and waits for its end.
    pub(crate) async fn cancel(&self, id: &str) {
        let answer = self.client.post(&format!("/v1/builds/{id}/cancel"), &json!({})).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(self.client.ended(id).await["state"], "cancelled");
    }
}

/// The shared gateway without an engine, with `devel` in its file of users.
pub(crate) async fn idle() -> Arc<Kiln> {
    static SHARED: Shared = Shared::const_new(Weak::new());
    let launch = with_catalog(on_couchdb(Launch::on(Engine::Buildkitd).user("devel")));
    shared(&SHARED, launch.set("KILN_ENGINE__BUILDKIT", NO_ENGINE)).await
}

/// The `Content-Type` and the body as given.
pub(crate) async fn post_raw(client: &Client, path: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = client.request(Method::POST, path).header("content-type", content_type).body(body.into());
    client.send(request).await
}

/// An error of the door.
pub(crate) fn ko(message: &str) -> String {
    format!("{{\"message\":\"{message}\",\"status\":\"ko\"}}\n")
}

fn with_catalog(launch: Launch) -> Launch {
    let builder = |kind: &str| json!({ "kind": kind, "source": base("extendable") });
    let builders = json!({ "builders": { "python:3.13": builder("python"), "go:1.26": builder("go") } });
    launch.set("BUILDER_CATALOG_JSON", builders.to_string())
}

async fn shared(gateway: &Shared, launch: Launch) -> Arc<Kiln> {
    let mut gateway = gateway.lock().await;
    if let Some(kiln) = gateway.upgrade() {
        return kiln;
    }
    let kiln = Arc::new(RUNTIME.spawn(launch.start()).await.expect("the gateway starts"));
    *gateway = Arc::downgrade(&kiln);
    kiln
}
