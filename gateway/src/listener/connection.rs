//! One connection: what is asked on it, and its end once nothing is.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use kiln_auth::Peer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    HEAD_WITHIN,
    untaken::{Answer, Senders, UNTAKEN_AT_MOST},
};

/// The requests of a connection.
#[derive(Debug, Default)]
struct Traffic {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A request, to the end of its answer's body.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Traffic>);

/// Serves a connection to its end, which comes soon after `stop` or after the last request.
///
/// HTTP/1 has a deadline of its own for the next request's head. HTTP/2 has none, and neither has
/// a connection that hasn't yet shown which of the two it speaks.
pub(super) async fn converse<I>(
    server: &auto::Builder<Senders>,
    io: I,
    router: Router,
    from: Peer,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let traffic = Arc::new(Traffic::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        let under_way = UnderWay::on(&traffic);
        request.extensions_mut().insert(from);
        let answer = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await?.map(|body| Answer::new(body, under_way))) }
    });
    let mut connection = pin!(server.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut leaving = false;
    loop {
        let quiet = if leaving { UNTAKEN_AT_MOST } else { HEAD_WITHIN };
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !leaving => {}
            () = traffic.quiet_for(quiet) => {
                // It was told to go, and what it may still have to read it doesn't.
                if leaving {
                    return;
                }
            }
        }
        leaving = true;
        connection.as_mut().graceful_shutdown();
    }
}

impl Traffic {
    /// Waits until no request has been under way for so long, or up to twice as long: looking from time
    /// to time costs requests nothing.
    async fn quiet_for(&self, span: Duration) {
        let mut seen = None;
        loop {
            let now = (self.begun.load(Ordering::Relaxed), self.ended.load(Ordering::Relaxed));
            if now.0 == now.1 && seen == Some(now) {
                return;
            }
            seen = Some(now);
            sleep(span).await;
        }
    }
}

impl UnderWay {
    fn on(traffic: &Arc<Traffic>) -> Self {
        traffic.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(traffic))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}
