//! The tower layer that turns an `Authorization` header into an identity, or into an error.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, header::AUTHORIZATION};
use tower::{BoxError, Layer, Service, layer::layer_fn};

use crate::{
    Credential, Identity, IdentityProvider, Origin, Questions, Refusal,
    attempts::{Attempts, Caller},
    rate::Exceeded,
};

/// Proves who calls before the inner service sees the request.
///
/// The request goes on with an [`Identity`] among its extensions and without its `Authorization`
/// header. A caller who isn't proved gets an [`AuthError`], boxed, for whoever answers errors.
///
/// Where the provider remembers a caller, nothing else is asked. Otherwise an address that has failed
/// too often is refused without a lookup, and no more than so many [`Questions`] are under way at once:
/// whoever floods the gateway with bad tokens holds up neither the provider nor those it knows.
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    gate: Gate,
}

/// What decides about a credential.
#[derive(Clone)]
struct Gate {
    provider: Arc<dyn IdentityProvider>,
    attempts: Arc<Attempts>,
    lookups: Questions,
}

/// Why a request has no identity. Its text is for the caller; the cause is for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no `Authorization` header.
    #[error("missing authorization header")]
    Missing,
    /// The header holds no credential that Kiln understands.
    #[error("unusable authorization header")]
    Unusable,
    /// Nobody owns this credential, or its owner isn't let in. Which of the two, the caller isn't told.
    #[error("invalid authorization")]
    Rejected,
    /// Whoever could say isn't there.
    #[error("identities can't be proved at the moment")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// Too many callers wait to be proved.
    #[error("too many callers wait to be proved; try again")]
    Busy,
    /// Too many attempts from this address have failed.
    #[error("too many failed attempts; try again later")]
    TooManyFailures(Exceeded),
}

// === impl Authenticate ===

impl<S> Authenticate<S> {
    /// Asks `provider` about callers it doesn't remember, as far as there are places for `lookups`, and
    /// not for an address whose `attempts` are used up.
    pub fn layer(
        provider: Arc<dyn IdentityProvider>,
        attempts: Arc<Attempts>,
        lookups: Questions,
    ) -> impl Layer<S, Service = Self> + Clone {
        let gate = Gate { provider, attempts, lookups };
        layer_fn(move |inner| Self { inner, gate: gate.clone() })
    }
}

impl<S, B> Service<Request<B>> for Authenticate<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The service that was ready does the work; its clone, which may not be, stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            let credential = take_credential(request.headers_mut());
            let origin = request.extensions().get::<Origin>().copied();
            match gate.prove(credential, origin).await {
                Ok(identity) => {
                    request.extensions_mut().insert(identity);
                    inner.call(request).await.map_err(Into::into)
                }
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// Takes the header out of the request, so that nothing below can log, forward or store it.
fn take_credential(headers: &mut HeaderMap) -> Result<Credential, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let credential = match (values.next(), values.next()) {
        (None, _) => Err(AuthError::Missing),
        (Some(value), None) => Credential::parse(value.as_bytes()).map_err(|_| AuthError::Unusable),
        // Two parties on the way could each believe another one of them.
        (Some(_), Some(_)) => Err(AuthError::Unusable),
    };
    headers.remove(AUTHORIZATION);
    credential
}

impl Gate {
    async fn prove(
        &self,
        credential: Result<Credential, AuthError>,
        origin: Option<Origin>,
    ) -> Result<Identity, AuthError> {
        let credential = match credential {
            Err(AuthError::Missing) => return Err(AuthError::Missing),
            credential => credential,
        };
        let remembered = match &credential {
            Ok(credential) => self.provider.recall(credential).await,
            Err(_) => None,
        };
        if let Some(Ok(identity)) = remembered {
            return Ok(identity);
        }
        let caller = self.attempts.of(origin);
        caller.may_try().map_err(AuthError::TooManyFailures)?;
        let credential = credential.inspect_err(|error| caller.failed(&error.to_string()))?;
        let answer = match remembered {
            Some(answer) => answer,
            None => self.provider.identify(&credential, &self.lookups.of(origin)).await,
        };
        answer.map_err(|refusal| refused(&caller, refusal))
    }
}

/// Notes a refusal for the operator, and leaves its reason out for the caller.
fn refused(caller: &Caller, refusal: Refusal) -> AuthError {
    match refusal {
        Refusal::Unavailable(cause) => {
            caller.unanswered(&chain(cause.as_ref()));
            AuthError::Unavailable(cause)
        }
        // Nobody's fault, and nobody was asked.
        Refusal::Busy => AuthError::Busy,
        refusal => {
            caller.failed(&refusal.to_string());
            AuthError::Rejected
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl<S: fmt::Debug> fmt::Debug for Authenticate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate")
            .field("inner", &self.inner)
            .field("provider", &self.gate.provider.name())
            .finish()
    }
}

#[cfg(test)]
mod tests;
