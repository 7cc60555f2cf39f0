//! `X-Callback-Url`: the answer that comes later, elsewhere.

use axum::{Router, body::Bytes, extract::State};
use kiln_conformance_tests::kiln::base;
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};

use crate::{Archive, PATIENCE, archive, request, signed, unsigned};

type Received = (HeaderMap, Bytes);

async fn receiver() -> (String, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/result", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel::<Received>(64);
    let receive = async |State(sender): State<Sender<Received>>, headers: HeaderMap, body: Bytes| {
        let _ = sender.try_send((headers, body));
        StatusCode::ACCEPTED
    };
    let router = Router::new().fallback(receive).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn launch() -> kiln_conformance_tests::Launch {
    let launch = signed();
    let key = launch.folder().join("webhook-key");
    std::fs::write(&key, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let launch = launch.set("KILN_WEBHOOKS__ALLOW_NETWORKS", "[\"127.0.0.1/32\"]");
    launch.set("KILN_WEBHOOKS__PLAIN_HTTP", "true").set("KILN_WEBHOOKS__SECRET_FILE", key.display().to_string())
}

fn field<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn who_names_a_callback_has_a_202_at_once_and_the_answer_there() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    let (url, mut received) = receiver().await;
    let good = Archive::of("FROM scratch\nCOPY hello /hello\n");
    let bad = Archive::of(&format!("FROM {}\nRUN echo it fails '<&>'; exit 3\n", base("waiting")));
    for (archive, status, text) in [(&good, "200", "success"), (&bad, "500", "exit code 3")] {
        let answer = client.send(request(&client, archive).header("x-callback-url", &url)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (202, ""));
        let (headers, body) = timeout(PATIENCE, received.recv()).await.expect("the answer comes").unwrap();
        assert_eq!(field(&headers, "x-call-id"), answer.header("x-call-id"));
        assert_eq!(field(&headers, "x-function-status"), status);
        assert!(field(&headers, "x-duration-seconds").parse::<f64>().unwrap() > 0.0);
        assert!(field(&headers, "x-start-time").parse::<u128>().unwrap() > 0);
        assert!(field(&headers, "webhook-signature").starts_with("v1,"));
        assert_eq!(field(&headers, "content-type"), "text/plain; charset=utf-8");
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["imageName"], json!(archive.image()), "{json}");
        assert!(json["status"].as_str().unwrap().contains(text), "{json}");
        assert!(!json["log"].as_array().unwrap().is_empty(), "{json}");
    }
    assert!(kiln_conformance_tests::registry::digest(&good.repository, &good.tag).await.is_some());
}

#[tokio::test]
async fn the_newer_dialect_is_kept_in_the_answer() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    let (url, mut received) = receiver().await;
    let archive = Archive::of("FROM scratch\nCOPY hello /hello\n");
    let signature = archive::sha256(archive.bytes(), crate::KEY);
    let request = unsigned(&client, &archive).header("x-build-signature", signature);
    let answer = client.send(request.header("x-callback-url", &url)).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let (headers, body) = timeout(PATIENCE, received.recv()).await.expect("the answer comes").unwrap();
    assert_eq!(field(&headers, "content-type"), "application/json");
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&json["status"], &json["image"]), (&json!("success"), &json!(archive.image())));
    assert!(json["duration"].as_f64().unwrap() > 0.0, "{json}");
}

#[tokio::test]
async fn a_callback_that_may_not_be_is_a_400_before_the_build() {
    let kiln = launch().unset("KILN_WEBHOOKS__ALLOW_NETWORKS").start().await;
    let client = kiln.anonymous();
    for url in ["http://127.0.0.1:1/", "ftp://hooks.example", "hooks.example"] {
        let archive = Archive::of("FROM scratch\nCOPY hello /hello\n");
        let answer = client.send(request(&client, &archive).header("x-callback-url", url)).await;
        assert_eq!(answer.status, 400, "{url}: {}", answer.text);
        assert!(answer.text.contains("X-Callback-Url"), "{}", answer.text);
    }
}
