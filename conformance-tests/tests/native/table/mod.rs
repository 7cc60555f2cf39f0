//! What is wrong with requests, in tables: a row at least for every endpoint of `/openapi.json`, so that a new one needs
//! rows of its own.

mod bad;
mod strangers;

use std::collections::BTreeSet;

use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, registry};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{BUILDS, UNKNOWN_BASE};

/// An endpoint as the document names it, `get /v1/builds/{id}`.
type Endpoint = &'static str;

/// What a request carries.
enum Body {
    None,
    Json(Value),
    /// Something of this content type.
    Raw(&'static str, String),
}

/// A request of an endpoint.
struct Request {
    endpoint: Endpoint,
    path: String,
    body: Body,
}

/// A gateway, and what its first user has there: a build that waits, which tells a receiver of itself, and an image.
struct Stage {
    kiln: Kiln,
    owner: String,
    /// Whose name begins with the owner's.
    stranger: String,
    build: String,
}

/// The endpoints of the document, each with the statuses that it says of it.
struct Document(Value);

// === impl Request ===

impl Request {
    fn new(endpoint: Endpoint, path: impl Into<String>) -> Self {
        Self { endpoint, path: path.into(), body: Body::None }
    }

    fn json(self, body: Value) -> Self {
        Self { body: Body::Json(body), ..self }
    }

    fn raw(self, kind: &'static str, body: impl Into<String>) -> Self {
        Self { body: Body::Raw(kind, body.into()), ..self }
    }

    async fn send(&self, client: &Client) -> Answer {
        let (method, _) = self.endpoint.split_once(' ').unwrap();
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = client.request(method, &self.path);
        client
            .send(match &self.body {
                Body::None => request,
                Body::Json(body) => request.json(body),
                Body::Raw(kind, body) => request.header("content-type", *kind).body(body.clone()),
            })
            .await
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} as {}", self.endpoint, self.path.chars().take(120).collect::<String>())?;
        match &self.body {
            Body::None => Ok(()),
            Body::Json(body) => write!(f, " with {}", body.to_string().chars().take(120).collect::<String>()),
            Body::Raw(kind, body) => write!(f, " with {kind} {}", body.chars().take(40).collect::<String>()),
        }
    }
}

// === impl Stage ===

impl Stage {
    async fn set() -> Self {
        // The registry is everybody's.
        let owner = format!("u{}", Uuid::new_v4().simple());
        let stranger = format!("{owner}-x");
        let rates = "{ per_minute = 6000, burst = 6000 }";
        let mut launch = Launch::on(Engine::Buildkitd).user(&owner).user(&stranger);
        for class in ["SUBMIT", "READ", "STREAM", "FAILURES"] {
            launch = launch.set(&format!("KILN_LIMITS__RATES__{class}"), rates);
        }
        let kiln = launch.set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock").start().await;
        let image = registry::image(&owner, "amd64").await;
        registry::put_manifest(&owner, "t", &image.manifest).await;
        let body = json!({
            "source": UNKNOWN_BASE, "target": format!("{owner}:t"),
            "webhook": { "url": "https://nowhere.invalid/told", "secret": format!("whsec_{}", "A".repeat(32)) },
        });
        let created = kiln.client(&owner).post(BUILDS, &body).await;
        assert_eq!(created.status, 202, "{}", created.text);
        let build = created.json()["id"].as_str().unwrap().to_owned();
        Self { kiln, owner, stranger, build }
    }

    async fn document(&self) -> Document {
        Document(self.kiln.anonymous().get("/openapi.json").await.json())
    }
}

// === impl Document ===

impl Document {
    fn endpoints(&self) -> BTreeSet<String> {
        let paths = self.0["paths"].as_object().unwrap();
        let methods = ["get", "put", "post", "delete", "patch", "head", "options"];
        let of_path = |(path, item): (&String, &Value)| {
            let there = methods.iter().filter(|method| item.get(**method).is_some());
            there.map(|method| format!("{method} {path}")).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// Panics unless the rows are of the document's endpoints, and of all of them.
    fn assert_covered(&self, rows: impl Iterator<Item = Endpoint>) {
        let rows: BTreeSet<String> = rows.map(str::to_owned).collect();
        assert_eq!(rows, self.endpoints(), "the endpoints that have rows, and those there are");
    }

    /// Whether it says that the endpoint may answer so.
    fn says(&self, endpoint: Endpoint, status: u16) -> bool {
        let (method, path) = endpoint.split_once(' ').unwrap();
        self.0["paths"][path][method]["responses"].get(status.to_string()).is_some()
    }
}
