//! The users of any OpenWhisk, asked through its API: `GET /api/v1/namespaces` with the caller's own token.
//!
//! A user is the one namespace that the token is for. OpenWhisk lists the namespaces in which an identity
//! has rights; a list of several says nothing about which of them the images belong to, and the first of
//! them could be another one tomorrow. So none and several are both refused. Names are compared as they
//! are: to OpenWhisk `Dev` and `dev` are two namespaces, and only the second can be a repository.
//!
//! OpenWhisk tells no variables: these identities have no environment, and where images go is the
//! installation's business alone.

mod config;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION},
};
use http_body_util::Full;
use hyper_util::client::legacy;
use secrecy::{ExposeSecret, zeroize::Zeroizing};
use tower::BoxError;

pub use self::config::{InvalidOpenWhiskConfig, OpenWhiskConfig};
use crate::{
    Asker, Credential, Identity, IdentityProvider, Refusal, UserName, WskToken,
    http_client::{Bounds, Http, authorization},
    lookups::Lookups,
};

const NAME: &str = "openwhisk";

/// Identities out of an OpenWhisk's API.
pub struct OpenWhisk {
    http: Http,
    namespaces: Uri,
    lookups: Lookups,
}

/// OpenWhisk doesn't answer, or not as OpenWhisk does.
#[derive(Debug, thiserror::Error)]
pub enum OpenWhiskError {
    /// No connection, or it broke.
    #[error("OpenWhisk at {url} can't be reached; is identity.openwhisk.api_host right, and is it up?")]
    Unreachable {
        /// Where it should be.
        url: Uri,
        /// What happened.
        source: legacy::Error,
    },
    /// It neither lists namespaces nor refuses the token.
    #[error("OpenWhisk answers {0} about namespaces")]
    Status(StatusCode),
    /// The answer breaks off or is too long.
    #[error("OpenWhisk's answer can't be read")]
    Body(#[source] BoxError),
    /// The answer is no list of names.
    #[error("OpenWhisk's answer is no list of namespaces")]
    Format,
}

// === impl OpenWhisk ===

impl OpenWhisk {
    /// Prepares a client; it connects when the first caller comes.
    ///
    /// # Errors
    /// When the authorities for https can't be read, or tokens would cross networks in the clear.
    pub fn new(config: &OpenWhiskConfig) -> Result<Self, InvalidOpenWhiskConfig> {
        config.check()?;
        let limits = config.limits;
        let bounds = Bounds { connect: limits.connect, idle: limits.lookups, answer: limits.answer };
        let http = Http::new(&config.namespaces, config.ca.as_deref(), bounds)?;
        Ok(Self { http, namespaces: config.namespaces.clone(), lookups: Lookups::new("OpenWhisk", limits) })
    }

    async fn look_up(&self, token: &WskToken) -> Result<Identity, Refusal> {
        let namespaces = self.namespaces(token).await?;
        match namespaces.as_slice() {
            [namespace] => UserName::parse(namespace)
                .map(|user| Identity::new(user, NAME))
                .map_err(|_| Refusal::Rejected("the namespace can't be the name of a repository")),
            [] => Err(Refusal::Rejected("the token has no namespace")),
            _ => Err(Refusal::Rejected("the token has several namespaces, and none of them is the user")),
        }
    }

    async fn namespaces(&self, token: &WskToken) -> Result<Vec<String>, Refusal> {
        let encoded = Zeroizing::new(BASE64.encode(token.reveal().expose_secret()));
        // Base64 can always stand in a header.
        let basic = authorization("Basic", &encoded).ok_or(Refusal::NotMine)?;
        let mut request = Request::new(Full::<Bytes>::default());
        request.uri_mut().clone_from(&self.namespaces);
        request.headers_mut().insert(AUTHORIZATION, basic);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));

        let unreachable = |source| OpenWhiskError::Unreachable { url: self.namespaces.clone(), source };
        let response = self.http.send(request).await.map_err(|e| Refusal::unavailable(unreachable(e)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::NotMine),
            status => return Err(Refusal::unavailable(OpenWhiskError::Status(status))),
        }
        let body = self.http.body(response).await.map_err(|e| Refusal::unavailable(OpenWhiskError::Body(e)))?;
        serde_json::from_slice(&body).map_err(|_| Refusal::unavailable(OpenWhiskError::Format))
    }
}

#[async_trait]
impl IdentityProvider for OpenWhisk {
    fn name(&self) -> &str {
        NAME
    }

    async fn identify(&self, credential: &Credential, _: &Asker) -> Result<Identity, Refusal> {
        let Credential::Wsk(token) = credential else { return Err(Refusal::NotMine) };
        self.lookups.run(self.look_up(token)).await
    }

    async fn recall(&self, credential: &Credential) -> Option<Result<Identity, Refusal>> {
        (!matches!(credential, Credential::Wsk(_))).then_some(Err(Refusal::NotMine))
    }
}

#[cfg(test)]
mod tests;
