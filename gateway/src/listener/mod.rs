//! Serves a router on a socket until told to stop, then lets the open requests end.

mod connection;
mod untaken;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{rt::TokioTimer, server::conn::auto};
use kiln_auth::{Peer, Places};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::admission::Admission;
use connection::converse;
use untaken::{Senders, UNTAKEN_AT_MOST};

/// From the connection, or the last answer, to the end of a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest head of an HTTP/1 request, in bytes.
const HEAD_AT_MOST: usize = 64 * 1024;
/// How often an HTTP/2 peer is pinged, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
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
    let server = Arc::new(server());
    let most = connections();
    let places = Arc::new(Semaphore::new(most));
    let crowds = Places::new(most / 2);
    let tracker = TaskTracker::new();
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
        let (server, router, stop) = (Arc::clone(&server), router.clone(), stop.child_token());
        tracker.spawn(async move {
            handle(&server, router, stream, Peer(peer.ip()), stop).await;
            drop((place, of_crowd));
        });
    }
    drop(listener);
    tracker.close();
    if timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::info!("requests were still open at the end of the grace period");
    }
}

fn server() -> auto::Builder<Senders> {
    let mut server = auto::Builder::new(Senders);
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    // A peer that answers no ping is gone, or was never there.
    server.http2().timer(TokioTimer::new()).keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_EVERY);
    server.http1().max_buf_size(HEAD_AT_MOST);
    server
}

async fn handle(
    server: &auto::Builder<Senders>,
    router: Router,
    stream: TcpStream,
    from: Peer,
    stop: CancellationToken,
) {
    // Answers are small and written at once; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    bound_unread(&stream, UNTAKEN_AT_MOST);
    // A connection that says nothing costs less this way than with the server's buffers.
    if matches!(timeout(HEAD_WITHIN, stream.peek(&mut [0])).await, Ok(Ok(1..))) {
        converse(server, stream, router, from, stop).await;
    }
}

/// Has the system end a connection that takes nothing (RFC 5482, and tcp(7): a closed window counts too).
fn bound_unread(stream: &TcpStream, most: Duration) {
    #[cfg(target_os = "linux")]
    if let Err(error) = u32::try_from(most.as_millis())
        .map_err(io::Error::other)
        .and_then(|millis| Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?))
    {
        tracing::debug!(%error, "a connection may stay unread for long");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, most);
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

#[cfg(test)]
mod tests;
