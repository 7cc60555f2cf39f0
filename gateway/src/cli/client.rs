//! The client's side of the native API.

use std::{error::Error as _, io, time::Duration};

use bytes::Bytes;
use clap::Args;
use futures_util::Stream;
use reqwest::{Method, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    exit,
    folder::Unsendable,
    profile::{self, Profiles},
};
use crate::serve::causes;

/// The gateway unless another is named.
const LOCAL: &str = "http://127.0.0.1:8080";
/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer may take, and a stream be silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// Which gateway, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientArgs {
    /// The gateway, http://127.0.0.1:8080 unless a profile says otherwise
    #[arg(long, env = "KILN_URL")]
    url: Option<String>,
    /// The wsk token, uuid:key
    #[arg(long, env = "KILN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// What `kiln login` has kept under this name counts where neither options nor variables do
    #[arg(long, env = "KILN_PROFILE", default_value = profile::DEFAULT)]
    pub(crate) profile: String,
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
        if let (Some(_), Some(token)) = (&self.url, &self.token) {
            return Client::new(&self.url(None), token);
        }
        let profiles = Profiles::load()?;
        let profile = profiles.get(&self.profile);
        let url = self.url(profile.map(|profile| profile.url.as_str()));
        // What was meant for one gateway is none of another's business.
        let kept = profile.filter(|profile| profile.url == url).map(|profile| &profile.token);
        let none = || format!("no token for {url}: kiln login, or KILN_TOKEN, or --token");
        let token = self.token.as_ref().or(kept).ok_or_else(|| Trouble::new(exit::USAGE, none()))?;
        Client::new(&url, token)
    }

    /// The gateway meant, where a profile has `kept` one.
    pub(crate) fn url(&self, kept: Option<&str>) -> String {
        self.url.as_deref().or(kept).unwrap_or(LOCAL).trim_end_matches('/').to_owned()
    }
}

impl Client {
    pub(crate) fn new(url: &str, token: &str) -> Result<Self, Trouble> {
        let usage = |message: &str| Trouble::new(exit::USAGE, message);
        let mut authorization: header::HeaderValue =
            token.parse().map_err(|_| usage("the token has odd characters"))?;
        authorization.set_sensitive(true);
        // The gateway's heartbeats come more often: a stream as silent as that is one whose gateway has gone.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN).read_timeout(ANSWER_WITHIN).build();
        let http = http.map_err(|e| usage(&e.to_string()))?;
        Ok(Self { http, url: url.to_owned(), authorization })
    }

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

    /// Sends a tar, for as long as that takes.
    pub(crate) async fn upload<T, S>(&self, path: &str, query: &[(&str, String)], archive: S) -> Result<T, Trouble>
    where
        T: DeserializeOwned,
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let request = self.request(Method::POST, path).query(query).header(header::CONTENT_TYPE, "application/x-tar");
        let request = request.body(reqwest::Body::wrap_stream(archive));
        self.send(request).await?.json().await.map_err(unavailable)
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
    let mut chain = std::iter::successors(error.source(), |cause| (*cause).source());
    let own = chain.find_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Unsendable>());
    match own {
        Some(unsendable) => Trouble::new(exit::USAGE, unsendable.to_string()),
        None => Trouble::new(exit::TRY_AGAIN, causes(&error)),
    }
}
