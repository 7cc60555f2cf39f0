//! The tower layer that reads on when a body isn't wanted, so that its sender sees why.
//!
//! A connection that is closed while bytes come in is reset, and a reset overtakes the answer: many
//! clients write their whole body before they read, and would see a broken pipe alone. HTTP/2 resets
//! one stream, whose sender may take even that for a failure and drop the answer that it has.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::header;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{runtime::Handle, time::timeout};
use tower::{Layer, Service, layer::layer_fn};

/// How much is read of a body that nobody wants. Beyond it the sender wastes more than an answer is worth.
const AT_MOST: usize = 256 << 20;
/// How long that may take, and how long the sender may be silent meanwhile.
const WITHIN: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(5);

/// Reads what is left of a request's body once it was dropped, beside the answer, which goes out at once.
#[derive(Clone, Debug)]
pub struct Linger<S> {
    inner: S,
}

/// A body that is read on when dropped before its end.
struct Lingering {
    body: Option<Body>,
    /// Whether its sender sends it unasked: not who expects a word first, and hasn't been given it.
    comes: bool,
}

impl<S> Linger<S> {
    /// Reads on behind whatever is below.
    pub fn layer() -> impl Layer<S, Service = Self> + Clone {
        layer_fn(|inner| Self { inner })
    }
}

impl<S: Service<Request>> Service<Request> for Linger<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> S::Future {
        if request.body().is_end_stream() {
            return self.inner.call(request);
        }
        let comes = !request.headers().contains_key(header::EXPECT);
        self.inner.call(request.map(|body| Body::new(Lingering { body: Some(body), comes })))
    }
}

// === impl Lingering ===

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        // Whoever asks for the body has its sender told to send it.
        self.comes = true;
        let frame = ready!(frame);
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| self.comes && !body.is_end_stream()) else { return };
        // Without a runtime the process ends, and its connections with it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(timeout(WITHIN, read(body)));
    }
}

/// Reads a body to its end, or as far as that is worth it.
async fn read(mut body: Body) {
    let mut left = AT_MOST;
    while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use futures_util::{StreamExt as _, stream};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const CHUNK: usize = 1 << 20;

    /// How many chunks of a body without an end are read by a service that asks for so many, and behind it.
    async fn read_of(expects: bool, asks: usize) -> usize {
        let read = Arc::new(AtomicUsize::new(0));
        let (seen, (gone, went)) = (Arc::clone(&read), tokio::sync::oneshot::channel::<()>());
        let chunks = stream::repeat_with(move || {
            let _held = &gone;
            seen.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(&[0; CHUNK]))
        });
        let mut request = Request::new(Body::from_stream(chunks));
        if expects {
            request.headers_mut().insert(header::EXPECT, http::HeaderValue::from_static("100-continue"));
        }
        let refuses = service_fn(|request: Request| async move {
            let mut body = request.into_body().into_data_stream();
            for _ in 0..asks {
                body.next().await;
            }
            Ok::<_, Infallible>(())
        });
        Linger::layer().layer(refuses).oneshot(request).await.unwrap();
        assert!(went.await.is_err(), "the body is dropped");
        read.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_body_is_read_on_as_far_as_that_is_worth_it_but_never_asked_for() {
        let worth = AT_MOST / CHUNK;
        assert_eq!(read_of(false, 0).await, worth + 1);
        assert_eq!(read_of(true, 0).await, 0);
        assert_eq!(read_of(true, 2).await, worth + 3);
    }
}
