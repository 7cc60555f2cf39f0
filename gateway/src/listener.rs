//! Serves a router on a socket until told to stop, then lets the open requests end.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use kiln_auth::{Peer, Places};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::admission::Admission;

/// From the connection, or the last answer, to the end of a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest head of an HTTP/1 request, in bytes.
const HEAD_AT_MOST: usize = 64 * 1024;
/// How often an HTTP/2 peer is pinged, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long a peer may leave what was sent to it unread or unacknowledged. Without it a follower that
/// is gone, or reads nothing, keeps its stream's place for as long as the system tries: 15 minutes, or ever.
const UNREAD_AT_MOST: Duration = Duration::from_secs(60);
/// Connections at once, however many descriptors there are: one with half a head holds 55 KiB.
const CONNECTIONS_AT_MOST: usize = 8 * 1024;
/// Descriptors that connections leave for the ledger, logs, engine and registries.
const LEFT_FREE: u64 = 256;
/// How long to wait after the system refused a connection, out of descriptors for one.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// How long open requests may go on once `stop` has fired.
const GRACE: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until `stop` fires; with `admission` no address but a proxy's holds more
/// than half of the connections.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    admission: Option<Admission>,
    stop: CancellationToken,
) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    // A peer that answers no ping is gone, or was never there.
    server.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
    server.http1().max_buf_size(HEAD_AT_MOST);
    let most = connections();
    let places = Arc::new(Semaphore::new(most));
    let crowds = Places::new(most / 2);
    let graceful = GracefulShutdown::new();
    loop {
        // Beyond what there are descriptors for, callers wait outside; a silent one leaves its place soon.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
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
        let crowd = admission.as_ref().and_then(|admission| admission.crowd(peer.ip()));
        let of_crowd = crowd.map(|crowd| crowds.take(crowd));
        // Closed at once: who holds so many open is answered on those.
        if matches!(of_crowd, Some(None)) {
            continue;
        }
        let connection = handle(server.clone(), graceful.watcher(), router.clone(), stream, Peer(peer.ip()));
        tokio::spawn(async move {
            connection.await;
            drop((place, of_crowd));
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::info!("requests were still open at the end of the grace period");
    }
}

async fn handle(server: auto::Builder<TokioExecutor>, watcher: Watcher, router: Router, stream: TcpStream, from: Peer) {
    // Answers are small and written at once; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    bound_unread(&stream);
    // Which protocol it is shows in the first bytes, and for those the server itself has no deadline.
    if !matches!(timeout(HEAD_WITHIN, stream.peek(&mut [0])).await, Ok(Ok(1..))) {
        return;
    }
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(from);
        request
    });
    let service = TowerToHyperService::new(service);
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Has the system end a connection that takes nothing (RFC 5482, and tcp(7): a closed window counts too).
fn bound_unread(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = u32::try_from(UNREAD_AT_MOST.as_millis())
        .map_err(io::Error::other)
        .and_then(|millis| Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?))
    {
        tracing::debug!(%error, "a connection may stay unread for long");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, UNREAD_AT_MOST);
}

/// How many connections there are memory and descriptors for, once the soft limit is raised to the hard one.
fn connections() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = most.saturating_sub(LEFT_FREE).max(LEFT_FREE / 2);
    usize::try_from(most).unwrap_or(CONNECTIONS_AT_MOST).min(CONNECTIONS_AT_MOST)
}

async fn refused(error: &io::Error) {
    tracing::warn!(%error, "a connection was not accepted");
    tokio::time::sleep(AFTER_REFUSAL).await;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_may_leave_what_was_sent_to_it_unread_for_so_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        bound_unread(&stream);
        let millis = rustix::net::sockopt::tcp_user_timeout(&stream).unwrap();
        assert_eq!(u128::from(millis), UNREAD_AT_MOST.as_millis());
    }
}
