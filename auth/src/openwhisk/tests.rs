//! OpenWhisk's answers, from a double in this process.

use std::{convert::Infallible, time::Duration};

use http::Response;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

/// Asks an OpenWhisk that answers every caller with this status and body.
async fn ask(status: u16, body: &'static str) -> Result<Identity, Refusal> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = move |request: Request<Incoming>| async move {
            let asked = (request.method().as_str(), request.uri().path(), &request.headers()[AUTHORIZATION]);
            assert_eq!(asked, ("GET", "/api/v1/namespaces", &HeaderValue::from_static("Basic dTpr")));
            Ok::<_, Infallible>(Response::builder().status(status).body(Full::<Bytes>::from(body)).unwrap())
        };
        http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await
    });
    identify(OpenWhiskConfig::at(&host).unwrap()).await
}

async fn identify(config: OpenWhiskConfig) -> Result<Identity, Refusal> {
    OpenWhisk::new(&config).unwrap().identify(&Credential::parse(b"u:k").unwrap(), &Asker::GATEWAY).await
}

#[tokio::test]
async fn the_one_namespace_of_a_token_is_the_user_without_environment() {
    let identity = ask(200, r#"["devel"]"#).await.unwrap();
    assert_eq!((identity.user().as_str(), identity.provider()), ("devel", "openwhisk"));
    assert!(!identity.environment_known());
}

#[tokio::test]
async fn every_other_answer_lets_nobody_in() {
    for (status, body, refusal) in [
        (401, "", "no provider knows"),
        (403, "", "no provider knows"),
        (200, "[]", "no namespace"),
        (200, r#"["a","b"]"#, "several namespaces"),
        (200, r#"["a","a"]"#, "several namespaces"),
        (200, r#"["_"]"#, "can't be the name"),
        (200, r#"["Devel"]"#, "can't be the name"),
        (200, r#"["a/b"]"#, "can't be the name"),
        (200, r#"["dev@example.org"]"#, "can't be the name"),
        (200, r#"[""]"#, "can't be the name"),
        (200, r#"{"canary":1}"#, "unavailable"),
        (200, "[1]", "unavailable"),
        (200, "<html>", "unavailable"),
        (204, "", "unavailable"),
        (302, "", "unavailable"),
        (404, "", "unavailable"),
        (500, r#"["devel"]"#, "unavailable"),
    ] {
        let refused = ask(status, body).await.unwrap_err().to_string();
        assert!(refused.contains(refusal), "{status} {body}: {refused}");
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline_and_length_with_the_bound() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = OpenWhiskConfig::at(&format!("http://{}", silent.local_addr().unwrap())).unwrap();
    config.limits.lookup = Duration::from_millis(100);
    let Err(Refusal::Unavailable(cause)) = identify(config).await else { panic!("nobody answered") };
    assert!(cause.to_string().contains("OpenWhisk did not answer within 100ms"), "{cause}");

    static LONG: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let long = LONG.get_or_init(|| format!("[\"{}\"]", "a".repeat(2 << 20)));
    let Err(Refusal::Unavailable(cause)) = ask(200, long).await else { panic!("it is too long") };
    assert!(cause.to_string().contains("can't be read"), "{cause}");
}

#[tokio::test]
async fn a_bearer_token_is_not_sent_to_it() {
    let nowhere = OpenWhisk::new(&OpenWhiskConfig::at("http://127.0.0.1:1").unwrap()).unwrap();
    let bearer = Credential::parse(b"Bearer a.b.c").unwrap();
    assert!(matches!(nowhere.identify(&bearer, &Asker::GATEWAY).await, Err(Refusal::NotMine)));
    assert!(matches!(nowhere.recall(&bearer).await, Some(Err(Refusal::NotMine))));
    assert!(nowhere.recall(&Credential::parse(b"u:k").unwrap()).await.is_none());
}
