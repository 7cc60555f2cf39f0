//! A client of the gateway that shows exactly what came back.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// How long a build of the suites may take.
const BUILT_WITHIN: Duration = Duration::from_secs(240);
/// How often a state is asked for where the API offers no wait.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A caller.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, to the last byte.
    pub text: String,
}

impl Answer {
    /// Status, content type and body, to be compared at once.
    #[must_use]
    pub fn parts(&self) -> (u16, &str, &str) {
        (self.status.as_u16(), self.header("content-type"), &self.text)
    }

    /// A header field; empty if it isn't there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

#[expect(clippy::expect_used, reason = "a test panics where it fails")]
impl Client {
    /// A client of the gateway at `url`.
    ///
    /// # Panics
    /// When there is no TLS provider.
    #[must_use]
    pub fn new(url: &str, token: Option<&str>) -> Self {
        // Whoever comes first installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { http, url: url.to_owned(), token: token.map(str::to_owned) }
    }

    /// The same caller, sending another `Authorization`.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// A request of this caller.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.header("authorization", token),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("the gateway answers");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("a body") }
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Starts a build at the OpenServerless door and returns its id.
    ///
    /// # Panics
    /// When it isn't accepted.
    pub async fn start(&self, source: &str, target: &str, kind: &str, file: Option<&str>) -> String {
        let mut body = json!({ "source": source, "target": target, "kind": kind });
        if let Some(file) = file {
            body["file"] = BASE64_STANDARD.encode(file).into();
        }
        let answer = self.post("/system/api/v1/build/start", &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// A build as the native API shows it.
    pub async fn build(&self, id: &str) -> Value {
        self.get(&format!("/v1/builds/{id}")).await.json()
    }

    /// Waits until a build is in one of `states`.
    ///
    /// # Panics
    /// When it doesn't get there in time.
    pub async fn wait_for(&self, id: &str, states: &[&str]) -> Value {
        let reached = async {
            loop {
                let build = self.build(id).await;
                if states.iter().any(|state| build["state"] == *state) {
                    return build;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        match tokio::time::timeout(BUILT_WITHIN, reached).await {
            Ok(build) => build,
            Err(_) => self.build(id).await,
        }
    }

    /// Waits for a build's end.
    pub async fn ended(&self, id: &str) -> Value {
        self.wait_for(id, &["succeeded", "failed", "cancelled"]).await
    }

    /// A build's log as it is now: kind and text of each record.
    pub async fn log(&self, id: &str) -> Vec<(String, String)> {
        let answer = self.get(&format!("/v1/builds/{id}/log")).await;
        let mut records = Vec::new();
        let mut kind = String::new();
        for line in answer.text.lines() {
            match line.split_once(": ") {
                Some(("event", word)) => word.clone_into(&mut kind),
                Some(("data", data)) => {
                    let data: Value = serde_json::from_str(data).unwrap_or_default();
                    records.push((kind.clone(), data["text"].as_str().unwrap_or_default().to_owned()));
                }
                _ => {}
            }
        }
        records
    }
}
