//! An issuer's set of keys: asked for when it is needed, kept, and asked for again at a bounded rate.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION},
};
use http_body_util::Full;
use hyper_util::client::legacy;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::ExposeSecret;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tower::BoxError;

use super::{
    InvalidKeys, KeyTimes,
    keys::{KeySet, NoKey},
};
use crate::{
    Refusal,
    http_client::{Http, authorization, secret_file},
};

/// The longest set, in bytes. Large providers publish some 10 KiB.
pub(super) const LONGEST: usize = 256 * 1024;

/// A set of keys that can change.
pub(super) struct Jwks {
    source: Source,
    allowed: Vec<Algorithm>,
    times: KeyTimes,
    held: RwLock<Option<Arc<Held>>>,
    asking: Mutex<Asking>,
}

/// Where a set comes from.
pub(super) enum Source {
    /// A web server.
    Url { http: Box<Http>, url: Uri, bearer_token_file: Option<PathBuf> },
    /// A file.
    File(PathBuf),
}

/// The set can't be had.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// No connection, or it broke.
    #[error("the keys at {url} can't be reached")]
    Unreachable {
        /// Where they should be.
        url: String,
        /// What happened.
        source: legacy::Error,
    },
    /// Another answer than the keys.
    #[error("{url} answers {status} about keys")]
    Status {
        /// Who was asked.
        url: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer breaks off or is too long.
    #[error("the keys of {url} can't be read")]
    Body {
        /// Who was asked.
        url: String,
        /// What happened.
        source: BoxError,
    },
    /// A file can't be read.
    #[error("{}: can't be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The token for the server can't be sent.
    #[error("{}: no bearer token", .0.display())]
    BearerToken(PathBuf),
    /// What came is no set of keys.
    #[error("the keys can't be used")]
    Invalid(#[from] InvalidKeys),
    /// It took too long.
    #[error("the keys did not come within {0:?}")]
    Deadline(std::time::Duration),
}

struct Held {
    keys: KeySet,
    since: Instant,
}

#[derive(Default)]
struct Asking {
    last: Option<Instant>,
    /// Why the last question got no keys.
    failed: Option<Arc<JwksError>>,
    /// Closed once the question that is under way has its answer.
    running: Option<watch::Receiver<()>>,
}

// === impl Jwks ===

impl Jwks {
    pub(super) fn new(source: Source, allowed: Vec<Algorithm>, times: KeyTimes) -> Arc<Self> {
        Arc::new(Self { source, allowed, times, held: RwLock::default(), asking: Mutex::default() })
    }

    /// The key that a token names. Its id is compared with those of the set, and never used otherwise.
    pub(super) async fn find(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refusal> {
        let held = self.current().await?;
        match held.keys.find(id, algorithm) {
            Ok(key) => return Ok(key.clone()),
            Err(NoKey::Unfit) => return Err(Refusal::Rejected("the token's key is for another algorithm or purpose")),
            Err(NoKey::Ambiguous) => return Err(Refusal::Rejected("the token names no key, and several would do")),
            Err(NoKey::Unknown) => {}
        }
        // The issuer may have a new key.
        self.asked().await;
        let newer = self.current().await?;
        let found = newer.keys.find(id, algorithm).cloned();
        found.map_err(|_| match self.failure() {
            Some(error) => Refusal::Unavailable(error),
            None => Refusal::Rejected("the issuer has no such key"),
        })
    }

    /// Asks for the set, whatever is held; counts its usable keys.
    pub(super) async fn count(&self) -> Result<usize, JwksError> {
        Ok(self.fetch().await?.len())
    }

    /// Takes what the source has now, without waiting for a first token.
    pub(super) fn hold(&self, keys: KeySet) {
        let held = Held { keys, since: Instant::now() };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(held));
    }

    /// The set to believe now. Whoever finds it old waits for a newer one, unless the issuer didn't
    /// answer the last time: then the old one serves, and the question goes on beside it.
    async fn current(self: &Arc<Self>) -> Result<Arc<Held>, Refusal> {
        let age = |held: &Arc<Held>| held.since.elapsed();
        match self.held() {
            Some(held) if age(&held) < self.times.fresh => return Ok(held),
            Some(held) if age(&held) < self.times.keep && self.failure().is_some() => {
                self.ask();
                return Ok(held);
            }
            _ => self.asked().await,
        }
        match self.held() {
            Some(held) if age(&held) < self.times.keep => Ok(held),
            _ => Err(match self.failure() {
                Some(error) => Refusal::Unavailable(error),
                None => Refusal::Rejected("the issuer's keys aren't known yet"),
            }),
        }
    }

    fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failure(&self) -> Option<Arc<JwksError>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Waits for an answer, if a question is under way or is due.
    async fn asked(self: &Arc<Self>) {
        if let Some(mut running) = self.ask() {
            // It is never sent to: this ends when the task's half is dropped.
            let _ = running.changed().await;
        }
    }

    /// Asks, unless that was done a moment ago; one question at a time, for whoever wants its answer. It
    /// has a task of its own: a caller who goes away must not take the others' answer along.
    fn ask(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = asking.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Some(running.clone());
        }
        if asking.last.is_some_and(|last| last.elapsed() < self.times.pause) {
            return None;
        }
        let (done, running) = watch::channel(());
        asking.last = Some(Instant::now());
        asking.running = Some(running.clone());
        let jwks = Arc::clone(self);
        tokio::spawn(async move {
            let failed = match jwks.fetch().await {
                Ok(keys) => {
                    jwks.hold(keys);
                    None
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "an issuer's keys could not be had");
                    Some(Arc::new(error))
                }
            };
            jwks.asking.lock().unwrap_or_else(PoisonError::into_inner).failed = failed;
            drop(done);
        });
        Some(running)
    }

    async fn fetch(&self) -> Result<KeySet, JwksError> {
        let text = match &self.source {
            Source::File(path) => read(path)?.into(),
            Source::Url { http, url, bearer_token_file } => {
                let asked = get(http, url, bearer_token_file.as_deref());
                timeout(self.times.answer, asked).await.map_err(|_| JwksError::Deadline(self.times.answer))??
            }
        };
        Ok(KeySet::from_jwks(&text, &self.allowed)?)
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, JwksError> {
    std::fs::read(path).map_err(|source| JwksError::File { path: path.to_owned(), source })
}

async fn get(http: &Http, url: &Uri, bearer: Option<&std::path::Path>) -> Result<Bytes, JwksError> {
    let mut request = Request::new(Full::default());
    request.uri_mut().clone_from(url);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
    if let Some(path) = bearer {
        let token = secret_file(path).map_err(|source| JwksError::File { path: path.to_owned(), source })?;
        let value = authorization("Bearer", token.expose_secret());
        let value = value.ok_or_else(|| JwksError::BearerToken(path.to_owned()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let unreachable = |source| JwksError::Unreachable { url: url.to_string(), source };
    let response = http.send(request).await.map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(JwksError::Status { url: url.to_string(), status: response.status() });
    }
    http.body(response).await.map_err(|source| JwksError::Body { url: url.to_string(), source })
}

#[cfg(test)]
mod tests;
