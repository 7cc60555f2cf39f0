//! The client's side of the native API.

use std::time::Duration;

use clap::Args;
use reqwest::{Method, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::exit;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take, and a stream be silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// Which gateway, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// The gateway
    #[arg(long, env = "KILN_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The wsk token, uuid:key
    #[arg(long, env = "KILN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print one line of JSON instead, as the gateway said it
    #[arg(long)]
    pub(crate) json: bool,
}

/// A connection to a gateway.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    authorization: header::HeaderValue,
}

/// A build as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) image: String,
    pub(crate) digest: Option<String>,
    pub(crate) failure: Option<BuildFailure>,
    /// What the API says beside that.
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// Why it failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BuildFailure {
    pub(crate) reason: String,
    pub(crate) message: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The gateway can't be asked, or said no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Trouble {
    pub(crate) status: u8,
    message: String,
}

impl Trouble {
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl Build {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

impl ClientArgs {
    pub(crate) fn connect(&self) -> Result<Client, Trouble> {
        let usage = |message: &str| Trouble::new(exit::USAGE, message);
        let token = self.token.as_deref().ok_or_else(|| usage("no token: set KILN_TOKEN, or pass --token"))?;
        let mut authorization: header::HeaderValue =
            token.parse().map_err(|_| usage("the token has odd characters"))?;
        authorization.set_sensitive(true);
        // The gateway's heartbeats come more often: a stream as silent as that is one whose gateway has gone.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).read_timeout(ANSWER_WITHIN).build();
        let http = http.map_err(|e| usage(&e.to_string()))?;
        Ok(Client { http, url: self.url.trim_end_matches('/').to_owned(), authorization })
    }
}

impl Client {
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        self.find(path, &[]).await
    }

    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Trouble> {
        self.answer(self.request(Method::GET, path).query(query)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Trouble> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Trouble> {
        self.answer(self.request(Method::DELETE, path).query(query)).await
    }

    /// An answer whose body goes on as long as it likes.
    pub(crate) async fn stream(&self, path: &str) -> Result<reqwest::Response, Trouble> {
        self.send(self.request(Method::GET, path)).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.header(header::AUTHORIZATION, self.authorization.clone())
    }

    /// The whole answer, which has to come in time.
    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Trouble> {
        self.send(request.timeout(ANSWER_WITHIN)).await?.json().await.map_err(unavailable)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Trouble> {
        let response = request.send().await.map_err(unavailable)?;
        let status = match response.status() {
            status if status.is_success() => return Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => exit::REFUSED,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => exit::TRY_AGAIN,
            status if status.is_server_error() => exit::TRY_AGAIN,
            _ => exit::USAGE,
        };
        let code = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        let said = body.get("detail").or_else(|| body.get("title")).and_then(Value::as_str).unwrap_or_default();
        Err(Trouble::new(status, format!("the gateway answered {code}: {said}")))
    }
}

fn unavailable(error: reqwest::Error) -> Trouble {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        message = format!("{message}: {deeper}");
        cause = deeper.source();
    }
    Trouble::new(exit::TRY_AGAIN, message)
}
