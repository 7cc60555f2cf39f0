//! What may lie here that nobody has proved: bytes in all, and of one address.

use kiln_conformance_tests::{Kiln, Launch};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{Archive, PATIENCE, request, signed, spooled, until};

/// Room for bodies of a megabyte, of which one and a half may be here.
fn narrow() -> Launch {
    signed()
        .set("KILN_OPENFAAS__BODY", "1000000")
        .set("KILN_LIMITS__UNPROVED", "2000000")
        .set("KILN_LIMITS__UNPROVED_PER_ADDRESS", "1500000")
        .set("KILN_LIMITS__TRUSTED_PROXIES", "[\"127.0.0.1\"]")
}

/// Sends most of a body from this address, and no more of it.
async fn stall(kiln: &Kiln, from: &str) -> TcpStream {
    let mut stream = TcpStream::connect(kiln.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /build HTTP/1.1\r\nhost: kiln\r\nx-forwarded-for: {from}\r\ncontent-length: 1000000\r\n\
         x-build-signature: sha256={}\r\n\r\n",
        "0".repeat(64)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; 900_000]).await.unwrap();
    stream
}

/// The status of a signed body of this length from this address; 400 says that it was taken and is no archive.
async fn send(kiln: &Kiln, from: &str, length: usize) -> u16 {
    let client = kiln.anonymous();
    let body = Archive::raw(vec![1; length]);
    let answer = client.send(request(&client, &body).header("x-forwarded-for", from)).await;
    assert!([400, 429, 503].contains(&answer.status.as_u16()), "{}", answer.text);
    assert_eq!(answer.headers.contains_key("retry-after"), answer.status != 400, "{}", answer.text);
    answer.status.as_u16()
}

/// Room for two failures from an address, and one more a minute; and for both bodies at once.
fn strict() -> Launch {
    let launch = narrow().set("KILN_LIMITS__UNPROVED_PER_ADDRESS", "2000000");
    launch.set("KILN_LIMITS__RATES__FAILURES", "{ per_minute = 1, burst = 2 }")
}

async fn until_it_is(kiln: &Kiln, from: &str, length: usize, status: u16) {
    until(|| async { (send(kiln, from, length).await == status).then_some(()) }).await;
}

#[tokio::test]
async fn an_address_leaves_only_so_many_bytes_here_and_they_come_back() {
    let kiln = narrow().start().await;
    let stalled = stall(&kiln, "2001:db8::1").await;
    // A network of IPv6 is one sender.
    until_it_is(&kiln, "2001:db8::ffff", 700_000, 429).await;
    assert_eq!(send(&kiln, "2001:db8::ffff", 500_000).await, 400);
    assert_eq!(send(&kiln, "2001:db8:0:1::1", 700_000).await, 400);
    assert_eq!(send(&kiln, "192.0.2.1", 700_000).await, 400);
    drop(stalled);
    until_it_is(&kiln, "2001:db8::ffff", 700_000, 400).await;
    until(|| async { (spooled(&kiln) == 0).then_some(()) }).await;
}

#[tokio::test]
async fn all_together_leave_only_so_many_bytes_here() {
    let kiln = narrow().start().await;
    let _stalled = (stall(&kiln, "192.0.2.1").await, stall(&kiln, "192.0.2.2").await);
    until_it_is(&kiln, "192.0.2.3", 700_000, 503).await;
    assert_eq!(send(&kiln, "192.0.2.3", 100_000).await, 400);
}

#[tokio::test]
async fn a_network_of_ipv6_has_the_places_of_one_address() {
    let kiln = narrow().set("KILN_LIMITS__ARCHIVES_PER_ADDRESS", "1").start().await;
    let stalled = stall(&kiln, "2001:db8::1").await;
    until_it_is(&kiln, "2001:db8::2", 10, 429).await;
    assert_eq!(send(&kiln, "2001:db8:0:1::1", 10).await, 400);
    drop(stalled);
    until_it_is(&kiln, "2001:db8::2", 10, 400).await;
}

#[tokio::test]
async fn a_body_that_stops_coming_gives_its_place_back_and_counts_as_a_failed_attempt() {
    let kiln = strict().set("KILN_LIMITS__ARCHIVES", "2").start().await;
    let mut stalled = (stall(&kiln, "192.0.2.1").await, stall(&kiln, "192.0.2.1").await);
    until_it_is(&kiln, "192.0.2.2", 10, 503).await;
    for stream in [&mut stalled.0, &mut stalled.1] {
        let mut answer = vec![0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer").unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains(r#"{"log":[],"image":"","status":"the body came too slowly"#), "{answer}");
    }
    assert_eq!(send(&kiln, "192.0.2.2", 10).await, 400);
    assert_eq!(send(&kiln, "192.0.2.1", 10).await, 429);
}

#[tokio::test]
async fn a_body_that_is_broken_off_counts_as_a_failed_attempt() {
    let kiln = strict().start().await;
    for _ in 0..2 {
        drop(stall(&kiln, "192.0.2.1").await);
    }
    until_it_is(&kiln, "192.0.2.1", 10, 429).await;
    assert_eq!(send(&kiln, "192.0.2.2", 10).await, 400);
}
