//! Refusals of large bodies that were given before the body was read, as curl sees them, and a client
//! that reads nothing before it has sent all.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use kiln_conformance_tests::{Kiln, Launch};

use crate::{KEY, archive, signed};

/// Of a body.
const LENGTH: usize = 40 << 20;

/// Gateways that refuse such a body for one reason each, without a look at it.
fn refusing() -> [(Launch, u16); 6] {
    [
        (signed(), 401),
        (signed().set("KILN_OPENFAAS__BODY", "1000000"), 413),
        (signed().set("KILN_LIMITS__ARCHIVES_PER_ADDRESS", "0"), 429),
        (signed().set("KILN_LIMITS__ARCHIVES", "0"), 503),
        (signed().set("KILN_LIMITS__STREAMS", "0"), 503),
        (
            signed()
                .set("KILN_LIMITS__UNPROVED_PER_ADDRESS", "1000000")
                .set("KILN_OPENFAAS__BODY", "1000000")
                .set("KILN_LIMITS__UNPROVED", "1000000"),
            413,
        ),
    ]
}

/// curl's exit status, the answer's, and how many bytes it sent.
fn curl(kiln: &Kiln, file: &std::path::Path, more: &[&str]) -> (Option<i32>, u16, usize) {
    let output = Command::new("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "60", "--output", "/dev/null"])
        .args(["--write-out", "%{http_code} %{size_upload}", "--data-binary"])
        .arg(format!("@{}", file.display()))
        .args(more)
        .arg(format!("{}/build", kiln.url))
        .output()
        .expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, sent) = said.split_once(' ').unwrap_or_default();
    (output.status.code(), status.parse().unwrap_or_default(), sent.parse().unwrap_or_default())
}

/// A client that writes its whole body and reads then, as Python's do.
fn writes_first(kiln: &Kiln, length: usize) -> String {
    let mut stream = TcpStream::connect(kiln.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!("POST /build HTTP/1.1\r\nhost: kiln\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = vec![0; 1 << 20];
    for _ in 0..length >> 20 {
        stream.write_all(&chunk).expect("the connection stays open");
    }
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_sender_sees_why_their_body_isnt_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    fs::write(&file, vec![0; LENGTH]).unwrap();
    for (launch, status) in refusing() {
        let kiln = launch.start().await;
        let (code, seen, sent) = curl(&kiln, &file, &[]);
        assert_eq!((code, seen, sent), (Some(0), status, 0), "who asks first sends nothing");
        let (code, seen, _) = curl(&kiln, &file, &["-H", "Expect:"]);
        assert_eq!((code, seen), (Some(0), status));
        let (code, seen, _) = curl(&kiln, &file, &["--http2-prior-knowledge"]);
        assert_eq!((code, seen), (Some(0), status), "by HTTP/2");
        let answer = writes_first(&kiln, LENGTH);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn a_sender_sees_what_was_found_wrong_in_the_middle_of_their_body() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    fs::write(&file, vec![0; LENGTH]).unwrap();
    let kiln = signed().set("KILN_OPENFAAS__BODY", "1000000").start().await;
    let signature = format!("X-Build-Signature: {}", archive::sha256(&vec![0; LENGTH], KEY));
    // Its length isn't announced, so it shows on the way.
    for expect in ["Expect:", "Expect: 100-continue"] {
        let more = ["-H", "Transfer-Encoding: chunked", "-H", expect, "-H", &signature];
        let (code, seen, _) = curl(&kiln, &file, &more);
        assert_eq!((code, seen), (Some(0), 413), "{expect}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_behind_a_body_that_wasnt_wanted() {
    let kiln = signed().start().await;
    let mut stream = TcpStream::connect(kiln.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"POST /build HTTP/1.1\r\nhost: kiln\r\ncontent-length: 100000\r\n\r\n").unwrap();
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 401 "), "before any of the body is sent");
    stream.write_all(&vec![0; 100_000]).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: kiln\r\n\r\n").unwrap();
    let read = stream.read(&mut answer).unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..read]));
}
