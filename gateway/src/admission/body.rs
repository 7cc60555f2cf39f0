//! The tower layer that bounds how long a request's body may take to arrive, however it trickles.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::{BoxError, Layer, Service, layer::layer_fn};

/// Ends a request whose body isn't there in time, with a [`BodyLate`], boxed. How long the answer
/// takes after that is another layer's business.
#[derive(Clone, Debug)]
pub struct BodyDeadline<S> {
    inner: S,
    within: Duration,
}

/// A body that fires its guard when it is dropped. It says how long it is, so that one that is too long
/// is refused before it is sent.
struct Guarded {
    body: Body,
    _guard: DropGuard,
}

/// The body wasn't there in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request's body took too long to arrive")]
pub struct BodyLate;

impl<S> BodyDeadline<S> {
    /// Lets a body take so long.
    pub fn layer(within: Duration) -> impl Layer<S, Service = Self> + Clone {
        layer_fn(move |inner| Self { inner, within })
    }
}

impl<S> Service<Request> for BodyDeadline<S>
where
    S: Service<Request>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if request.body().is_end_stream() {
            let answer = self.inner.call(request);
            return Box::pin(async move { answer.await.map_err(Into::into) });
        }
        // Whoever reads the body drops it at its end, and whoever doesn't want it drops it at once.
        let arrived = CancellationToken::new();
        let guard = arrived.clone().drop_guard();
        let answer = self.inner.call(request.map(|body| Body::new(Guarded { body, _guard: guard })));
        let within = self.within;
        Box::pin(async move {
            let mut answer = pin!(answer);
            if let Ok(answer) = timeout(within, &mut answer).await {
                return answer.map_err(Into::into);
            }
            if arrived.is_cancelled() { answer.await.map_err(Into::into) } else { Err(BodyLate.into()) }
        })
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use tokio::time::{Instant, sleep};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    /// Sends a body of ten bytes with a pause before each, to a service that thinks for a minute.
    async fn send(pause: Duration) -> Result<usize, BoxError> {
        let bytes = stream::unfold(0, move |sent| async move {
            sleep(pause).await;
            (sent < 10).then_some((Ok::<_, Infallible>("x"), sent + 1))
        });
        let thinks = service_fn(async |request: Request| {
            let read = request.into_body().collect().await?.to_bytes().len();
            sleep(Duration::from_secs(60)).await;
            Ok::<_, axum::Error>(read)
        });
        BodyDeadline::layer(WITHIN).layer(thinks).oneshot(Request::new(Body::from_stream(bytes))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_late_and_a_slow_answer_isnt() {
        let begun = Instant::now();
        assert_eq!(send(Duration::from_millis(900)).await.unwrap(), 10);
        assert!(begun.elapsed() > Duration::from_secs(60));
        let begun = Instant::now();
        assert!(send(Duration::from_millis(1100)).await.unwrap_err().is::<BodyLate>());
        assert_eq!(begun.elapsed(), WITHIN);
    }

    #[tokio::test]
    async fn how_long_a_body_is_shows_before_it_is_read() {
        let looks = service_fn(async |request: Request| Ok::<_, axum::Error>(request.body().size_hint().exact()));
        let request = Request::new(Body::from("ten bytes!"));
        let seen = BodyDeadline::layer(WITHIN).layer(looks).oneshot(request).await.unwrap();
        assert_eq!(seen, Some(10));
    }
}
