//! The tower layer that turns an `Authorization` header into an identity, or into an error.

use std::{
    error::Error,
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, header::AUTHORIZATION};
use tower::{BoxError, Layer, Service, layer::layer_fn};

use crate::{Credential, Identity, IdentityProvider, Refusal};

/// Proves who calls before the inner service sees the request.
///
/// The request goes on with an [`Identity`] among its extensions and without its `Authorization`
/// header. A caller who isn't proved gets an [`AuthError`], boxed, for whoever answers errors.
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    provider: Arc<dyn IdentityProvider>,
}

/// Where a request comes from, as whoever accepted the connection knows it: an extension that
/// goes into the line about a refused credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemoteAddress(pub IpAddr);

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
}

// === impl Authenticate ===

impl<S> Authenticate<S> {
    /// Asks `provider` about every request.
    pub fn layer(provider: Arc<dyn IdentityProvider>) -> impl Layer<S, Service = Self> + Clone {
        layer_fn(move |inner| Self { inner, provider: Arc::clone(&provider) })
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
        let provider = Arc::clone(&self.provider);
        Box::pin(async move {
            let credential = take_credential(request.headers_mut());
            let from = request.extensions().get::<RemoteAddress>().copied();
            match prove(provider.as_ref(), credential, from).await {
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

async fn prove(
    provider: &dyn IdentityProvider,
    credential: Result<Credential, AuthError>,
    from: Option<RemoteAddress>,
) -> Result<Identity, AuthError> {
    let (error, reason) = match credential {
        Err(error) => {
            let reason = error.to_string();
            (error, reason)
        }
        Ok(credential) => match provider.identify(&credential).await {
            Ok(identity) => return Ok(identity),
            Err(Refusal::Unavailable(cause)) => {
                let reason = chain(cause.as_ref());
                (AuthError::Unavailable(cause), reason)
            }
            Err(refusal) => (AuthError::Rejected, refusal.to_string()),
        },
    };
    let from = from.map(|RemoteAddress(address)| tracing::field::display(address));
    tracing::warn!(target: "kiln::audit", what = "authenticate", who = "unknown", from, outcome = "refused", %reason);
    Err(error)
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl<S: fmt::Debug> fmt::Debug for Authenticate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate").field("inner", &self.inner).field("provider", &self.provider.name()).finish()
    }
}

#[cfg(test)]
mod tests;
