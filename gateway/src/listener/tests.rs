//! Peers that keep what they hold: over pipes, with a clock that stands still while something is under way.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    extract::State,
    routing::get,
};
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::{Instant, sleep},
};

use super::*;

type Sender = http2::SendRequest<Empty<Bytes>>;

/// Answers at `/` at once, and at `/follow` with a part every 15 seconds until the answer is dropped, which
/// `gone` tells of.
fn router(gone: &CancellationToken) -> Router {
    let follow = async |State(gone): State<CancellationToken>| {
        let held = gone.drop_guard();
        let parts = stream::once(async {}).chain(stream::repeat(()).then(|()| sleep(Duration::from_secs(15))));
        Body::from_stream(parts.map(move |()| {
            let _held = &held;
            Ok::<_, Infallible>("part")
        }))
    };
    Router::new().route("/", get(async || "answer")).route("/follow", get(follow)).with_state(gone.clone())
}

/// The other end of a connection, and a token that tells when the gateway has ended it.
fn connect(gone: &CancellationToken) -> (DuplexStream, CancellationToken) {
    let (near, far) = duplex(64 * 1024);
    let (router, ended) = (router(gone), CancellationToken::new());
    let end = ended.clone().drop_guard();
    tokio::spawn(async move {
        let _end = end;
        converse(&server(), near, router, Peer([192, 0, 2, 1].into()), CancellationToken::new()).await;
    });
    (far, ended)
}

/// An HTTP/2 client that gives each stream so much room.
async fn client(far: DuplexStream, room: u32) -> Sender {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.initial_stream_window_size(room).handshake(TokioIo::new(far)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Sender, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://kiln{path}")).body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// How long it takes until this happens; ten minutes are for ever.
async fn after(what: impl Future<Output = ()>) -> Option<u64> {
    let begun = Instant::now();
    timeout(Duration::from_secs(600), what).await.ok()?;
    Some(begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn an_http2_follower_who_takes_nothing_is_let_go_and_one_who_waits_for_more_is_not() {
    for (room, let_go) in [(0, Some(60)), (2, Some(15 + 60)), (1024, None)] {
        let gone = CancellationToken::new();
        let (far, _ended) = connect(&gone);
        let mut sender = client(far, room).await;
        let answer = ask(&mut sender, "/follow").await;
        assert_eq!(after(gone.cancelled()).await, let_go, "{room}");
        if let_go.is_some() {
            assert!(answer.into_body().collect().await.is_err(), "the stream is reset");
            // The others of the connection go on.
            ask(&mut sender, "/").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_without_requests_is_ended_and_one_with_a_follower_is_not() {
    let gone = CancellationToken::new();
    let (far, ended) = connect(&gone);
    let _sender = client(far, 1024).await;
    let quiet = after(ended.cancelled()).await.expect("nothing was ever asked");
    assert!((30..=60).contains(&quiet), "{quiet}");

    let (far, ended) = connect(&gone);
    let mut sender = client(far, 1024).await;
    for _ in 0..20 {
        ask(&mut sender, "/").await.into_body().collect().await.unwrap();
        sleep(Duration::from_secs(29)).await;
    }
    assert!(!ended.is_cancelled(), "requests came in time");
    let quiet = after(ended.cancelled()).await.expect("nothing is asked any more");
    assert!((1..=60).contains(&quiet), "{quiet}");

    let (far, ended) = connect(&gone);
    let mut sender = client(far, 1024).await;
    let follower = ask(&mut sender, "/follow").await;
    assert_eq!(after(ended.cancelled()).await, None);
    drop(follower);
    assert!(after(ended.cancelled()).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_shows_what_it_speaks_is_ended() {
    // Both protocols can begin so.
    for begun in ["P", "PRI * HTTP/2.0\r\n"] {
        let (mut far, ended) = connect(&CancellationToken::new());
        far.write_all(begun.as_bytes()).await.unwrap();
        assert!(after(ended.cancelled()).await.is_some_and(|quiet| quiet <= 60), "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_http1_follower_is_served_for_as_long_as_it_takes_and_ended_when_quiet() {
    let (mut far, ended) = connect(&CancellationToken::new());
    far.write_all(b"GET /follow HTTP/1.1\r\nhost: kiln\r\n\r\n").await.unwrap();
    assert_eq!(after(ended.cancelled()).await, None);
    let (mut far, ended) = connect(&CancellationToken::new());
    far.write_all(b"GET / HTTP/1.1\r\nhost: kiln\r\n\r\n").await.unwrap();
    assert_eq!(after(ended.cancelled()).await, Some(30));
    let mut answer = String::new();
    far.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("answer"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn once_told_to_stop_a_connection_ends_with_its_last_answer() {
    let (near, far) = duplex(1024);
    let (gone, stop) = (CancellationToken::new(), CancellationToken::new());
    let serving = tokio::spawn({
        let (router, stop) = (router(&gone), stop.clone());
        async move { converse(&server(), near, router, Peer([192, 0, 2, 1].into()), stop).await }
    });
    let mut sender = client(far, 1024).await;
    let follower = ask(&mut sender, "/follow").await;
    stop.cancel();
    assert_eq!(after(async { gone.cancelled().await }).await, None, "it is under way");
    drop(follower);
    assert!(after(async { serving.await.unwrap() }).await.is_some_and(|took| took < 5));
}

/// The system's deadline, by which an HTTP/1 follower that reads nothing is let go.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_may_leave_what_was_sent_to_it_unread_for_so_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _reads_nothing = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    bound_unread(&stream, Duration::from_secs(1));
    let fills = async { while stream.write_all(&[0; 64 * 1024]).await.is_ok() {} };
    timeout(Duration::from_secs(30), fills).await.expect("the system ends it");
}
