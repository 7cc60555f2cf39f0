//! An issuer's set over HTTP: asked when needed, once for many, and not too often.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::Response;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::*;
use crate::{
    Asker, IdentityProvider,
    jwt::{
        Jwt, KeySource,
        tests::{Signer, claims, config},
    },
};

/// An issuer in this process: what it answers can be changed.
struct Issuer {
    url: Uri,
    answer: Mutex<(StatusCode, Value)>,
    asked: AtomicUsize,
    gate: Semaphore,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Issuer {
    async fn start(keys: &[&Signer]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let issuer = Arc::new(Self {
            url,
            answer: Mutex::new((StatusCode::OK, Value::Null)),
            asked: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            authorization: Mutex::default(),
        });
        issuer.publish(keys);
        let serving = Arc::clone(&issuer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let issuer = Arc::clone(&serving);
                let answer = move |request| Arc::clone(&issuer).reply(request);
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
            }
        });
        issuer
    }

    async fn reply(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        *self.authorization.lock().unwrap() = request.headers().get(AUTHORIZATION).cloned();
        self.gate.acquire().await.unwrap().forget();
        let (status, body) = self.answer.lock().unwrap().clone();
        Ok(Response::builder().status(status).body(body.to_string().into()).unwrap())
    }

    fn publish(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        *self.answer.lock().unwrap() = (StatusCode::OK, json!({ "keys": keys }));
    }

    fn fail(&self) {
        self.answer.lock().unwrap().0 = StatusCode::INTERNAL_SERVER_ERROR;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn provider(&self, times: KeyTimes) -> Jwt {
        let keys = KeySource::Url { url: self.url.clone(), ca: None, bearer_token_file: None, allow_plain_http: false };
        Jwt::new(&super::super::JwtConfig { times, ..config(keys, &["ES256"]) }).unwrap()
    }
}

async fn said(jwt: &Jwt, signer: &Signer) -> String {
    match jwt.identify(&signer.sign(&claims(json!({}))), &Asker::GATEWAY).await {
        Ok(_) => "yes".to_owned(),
        Err(Refusal::Unavailable(cause)) => format!("unavailable: {cause}"),
        Err(refusal) => refusal.to_string(),
    }
}

const NO_SUCH_KEY: &str = "the issuer has no such key";

#[tokio::test]
async fn a_thousand_first_tokens_ask_once() {
    let signer = Arc::new(Signer::new("a"));
    let issuer = Issuer::start(&[&signer]).await;
    issuer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let jwt = Arc::new(issuer.provider(KeyTimes::default()));
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let (jwt, signer) = (Arc::clone(&jwt), Arc::clone(&signer));
        callers.spawn(async move { said(&jwt, &signer).await });
    }
    while issuer.asked() == 0 {
        tokio::task::yield_now().await;
    }
    issuer.gate.add_permits(1);
    while let Some(said) = callers.join_next().await {
        assert_eq!(said.unwrap(), "yes");
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_asked_for_and_unknown_ones_at_a_bounded_rate() {
    let (old, new, nobodys) = (Signer::new("old"), Signer::new("new"), Signer::new("nobodys"));
    let issuer = Issuer::start(&[&old]).await;
    let eager = issuer.provider(KeyTimes { pause: Duration::ZERO, ..KeyTimes::default() });
    assert_eq!(said(&eager, &old).await, "yes");
    assert_eq!(said(&eager, &new).await, NO_SUCH_KEY);
    issuer.publish(&[&old, &new]);
    assert_eq!(said(&eager, &new).await, "yes");
    assert_eq!((said(&eager, &old).await.as_str(), issuer.asked()), ("yes", 3));
    issuer.publish(&[&new]);
    assert_eq!(said(&eager, &nobodys).await, NO_SUCH_KEY);
    assert_eq!(said(&eager, &old).await, NO_SUCH_KEY, "a key that has vanished");

    let before = issuer.asked();
    let patient = issuer.provider(KeyTimes::default());
    for _ in 0..100 {
        assert_eq!(said(&patient, &nobodys).await, NO_SUCH_KEY);
    }
    assert_eq!(issuer.asked(), before + 1);
    assert_eq!(said(&patient, &new).await, "yes");
}

#[tokio::test]
async fn an_old_set_serves_while_the_issuer_fails_and_no_longer_than_it_may() {
    let (a, b) = (Signer::new("a"), Signer::new("b"));
    let issuer = Issuer::start(&[&a]).await;
    let always = KeyTimes { pause: Duration::ZERO, fresh: Duration::ZERO, ..KeyTimes::default() };
    let jwt = issuer.provider(always);
    assert_eq!(said(&jwt, &a).await, "yes");
    issuer.fail();
    for _ in 0..3 {
        assert_eq!(said(&jwt, &a).await, "yes");
    }
    assert!(said(&jwt, &b).await.contains("answers 500"), "whether there is such a key can't be said");
    issuer.publish(&[&b]);
    let seen = async {
        while said(&jwt, &b).await != "yes" {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), seen).await.unwrap();
    assert_eq!(said(&jwt, &a).await, NO_SUCH_KEY);

    issuer.publish(&[&a]);
    let strict = issuer.provider(KeyTimes { keep: Duration::ZERO, ..always });
    issuer.fail();
    assert!(said(&strict, &a).await.contains("answers 500"));
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_take_the_question_along() {
    let signer = Signer::new("a");
    let issuer = Issuer::start(&[&signer]).await;
    issuer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let jwt = Arc::new(issuer.provider(KeyTimes::default()));
    let (left, token) = (Arc::clone(&jwt), signer.sign(&claims(json!({}))));
    let left = tokio::spawn(async move { left.identify(&token, &Asker::GATEWAY).await.is_ok() });
    while issuer.asked() == 0 {
        tokio::task::yield_now().await;
    }
    left.abort();
    issuer.gate.add_permits(1);
    assert_eq!((said(&jwt, &signer).await.as_str(), issuer.asked()), ("yes", 1));
}

#[tokio::test]
async fn answers_that_are_none_are_unavailability() {
    let signer = Signer::new("a");
    let issuer = Issuer::start(&[]).await;
    for (status, body, cause) in [
        (302, json!({ "keys": [] }), "answers 302"),
        (404, json!({ "keys": [] }), "answers 404"),
        (200, json!("canary"), "can't be used"),
        (200, json!({ "keys": "canary" }), "can't be used"),
        (200, json!({ "keys": [], "x": "x".repeat(LONGEST) }), "can't be read"),
    ] {
        *issuer.answer.lock().unwrap() = (StatusCode::from_u16(status).unwrap(), body);
        let said = said(&issuer.provider(KeyTimes::default()), &signer).await;
        assert!(said.starts_with("unavailable") && said.contains(cause) && !said.contains("canary"), "{said}");
    }
    *issuer.answer.lock().unwrap() = (StatusCode::OK, json!({ "keys": [] }));
    assert_eq!(said(&issuer.provider(KeyTimes::default()), &signer).await, NO_SUCH_KEY, "no key is an answer");

    issuer.gate.forget_permits(Semaphore::MAX_PERMITS);
    let short = KeyTimes { answer: Duration::from_millis(50), ..KeyTimes::default() };
    assert!(said(&issuer.provider(short), &signer).await.contains("did not come within 50ms"));
}

#[tokio::test]
async fn a_bearer_token_for_the_server_is_read_for_every_question() {
    let signer = Signer::new("a");
    let issuer = Issuer::start(&[&signer]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let (url, bearer_token_file) = (issuer.url.clone(), Some(path.clone()));
    let keys = KeySource::Url { url, ca: None, bearer_token_file, allow_plain_http: false };
    let jwt = Jwt::new(&config(keys, &["ES256"])).unwrap();
    assert!(jwt.keys().await.unwrap_err().to_string().contains("can't be read"));
    for token in ["one", "two"] {
        std::fs::write(&path, format!("{token}\n")).unwrap();
        assert_eq!(jwt.keys().await.unwrap(), 1);
        assert_eq!(issuer.authorization.lock().unwrap().as_ref().unwrap(), &format!("Bearer {token}"));
    }
}
