//! Serves a router on a socket until told to stop, then lets the open requests end.

use std::{io, time::Duration};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use kiln_auth::RemoteAddress;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// From the connection, or the last answer, to the end of a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait after the system refused a connection, out of descriptors for one.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// How long open requests may go on once `stop` has fired.
const GRACE: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until `stop` fires.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    server.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        handle(&server, &graceful, router.clone(), stream, RemoteAddress(peer.ip()));
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::info!("requests were still open at the end of the grace period");
    }
}

fn handle(
    server: &auto::Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    router: Router,
    stream: TcpStream,
    from: RemoteAddress,
) {
    // Answers are small and written at once; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(from);
        request
    });
    let service = TowerToHyperService::new(service);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}

async fn refused(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(AFTER_REFUSAL).await;
}
