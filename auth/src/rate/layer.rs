//! The tower layer that lets a user through so often, and says on each answer how often still.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{BoxError, Layer, Service, layer::layer_fn};

use super::{Exceeded, PerKey, Standing};
use crate::{Identity, Origin, UserName, audit};

/// Lets each user through as often as their rate says.
///
/// An answer goes out with the `RateLimit` fields; a request beyond the rate is an
/// [`Exceeded`], boxed, for whoever answers errors. It stands below
/// [`Authenticate`](crate::Authenticate): a request without an identity is an error.
#[derive(Clone)]
pub struct RateLimit<S> {
    inner: S,
    rates: Arc<PerKey<UserName>>,
}

/// The layer stands where nobody has proved who calls.
#[derive(Debug, thiserror::Error)]
#[error("a request without an identity has no rate")]
struct Unidentified;

impl<S> RateLimit<S> {
    /// Takes from the caller's bucket of `rates`.
    pub fn layer(rates: Arc<PerKey<UserName>>) -> impl Layer<S, Service = Self> + Clone {
        layer_fn(move |inner| Self { inner, rates: Arc::clone(&rates) })
    }
}

impl<S, B, R> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(user) = request.extensions().get::<Identity>().map(Identity::user) else {
            return Box::pin(async { Err(Unidentified.into()) });
        };
        let origin = request.extensions().get::<Origin>().copied();
        match self.rates.admit(user, origin) {
            Ok(standing) => {
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let mut answer = answer.await.map_err(Into::into)?;
                    standing.describe(answer.headers_mut());
                    Ok(answer)
                })
            }
            Err(exceeded) => Box::pin(async move { Err(exceeded.into()) }),
        }
    }
}

impl PerKey<UserName> {
    /// Takes one from the user's bucket, and says how many are left.
    ///
    /// # Errors
    /// When there is none; the audit line about it comes once a minute.
    pub fn admit(&self, user: &UserName, origin: Option<Origin>) -> Result<Standing, Exceeded> {
        let bucket = self.bucket(user.clone());
        bucket.take().inspect_err(|_| {
            if bucket.may_say() {
                let reason = "beyond the rate; further refusals of this user aren't logged for a minute";
                audit::Line::by(self.name, user).from(origin).reason(&reason).refused();
            }
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("inner", &self.inner).field("rates", &self.rates).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::rate::{Exceeded, Rate};

    async fn send(rates: &Arc<PerKey<UserName>>, user: Option<&str>) -> Result<Response<()>, BoxError> {
        let mut request = Request::new(());
        if let Some(user) = user {
            request.extensions_mut().insert(Identity::new(UserName::parse(user).unwrap(), "test"));
        }
        let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
        RateLimit::layer(Arc::clone(rates)).layer(inner).oneshot(request).await
    }

    #[tokio::test]
    async fn an_answer_says_what_is_left_and_beyond_it_there_is_an_error() {
        let rates = Arc::new(PerKey::new("read", Rate::of(1, 2)));
        for left in ["\"read\";r=1;t=60", "\"read\";r=0;t=120"] {
            assert_eq!(send(&rates, Some("devel")).await.unwrap().headers()["ratelimit"], left);
        }
        let error = send(&rates, Some("devel")).await.unwrap_err();
        assert!(error.downcast_ref::<Exceeded>().is_some_and(|exceeded| exceeded.retry_after() >= 60));
        assert!(send(&rates, Some("other")).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_passes_without_an_identity() {
        let rates = Arc::new(PerKey::new("read", Rate::of(1, 2)));
        assert!(send(&rates, None).await.is_err());
    }
}
