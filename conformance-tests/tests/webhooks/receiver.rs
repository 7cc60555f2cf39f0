//! A receiver of messages: keeps what comes, and answers as it is told to.

use std::{
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse as _, Response},
};
use reqwest::{StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use crate::PATIENCE;

/// A message as it came.
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    received: mpsc::Receiver<Received>,
}

#[derive(Clone)]
struct Shared {
    answers: Arc<Mutex<Vec<StatusCode>>>,
    sender: mpsc::Sender<Received>,
}

impl Receiver {
    /// Answers with each of these in turn, and then with 204.
    pub(crate) async fn answering(answers: &[u16]) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    pub(crate) fn on(listener: TcpListener, answers: &[u16]) -> Self {
        let (sender, received) = mpsc::channel(64);
        let url = format!("http://{}/hook?token=of-the-path", listener.local_addr().unwrap());
        let answers = answers.iter().rev().map(|status| StatusCode::from_u16(*status).unwrap()).collect();
        let shared = Shared { answers: Arc::new(Mutex::new(answers)), sender };
        let router = Router::new().fallback(receive).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, received }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv()).await.expect("a message comes").unwrap()
    }

    /// A message that has come already.
    pub(crate) fn at_hand(&mut self) -> Option<Received> {
        self.received.try_recv().ok()
    }
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Verifies the signature with Python's own HMAC, and that it is of now.
    pub(crate) fn verify(&self, secret: &str) {
        const PROGRAM: &str = "
import base64, hashlib, hmac, json, sys, time
m = json.load(sys.stdin)
assert abs(time.time() - int(m['timestamp'])) < 60, 'the timestamp is not of now'
signed = (m['id'] + '.' + m['timestamp'] + '.' + m['body']).encode()
key = base64.b64decode(m['secret'].removeprefix('whsec_'))
wanted = 'v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
assert any(hmac.compare_digest(wanted, one) for one in m['signature'].split(' ')), 'no signature is of this key'
";
        let message = json!({
            "id": self.header("webhook-id"),
            "timestamp": self.header("webhook-timestamp"),
            "signature": self.header("webhook-signature"),
            "body": std::str::from_utf8(&self.body).unwrap(),
            "secret": secret,
        });
        let mut python = Command::new("python3").args(["-c", PROGRAM]).stdin(Stdio::piped()).spawn().unwrap();
        serde_json::to_writer(python.stdin.take().unwrap(), &message).unwrap();
        assert!(python.wait().unwrap().success(), "{message}");
    }
}

async fn receive(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let answer = shared.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT);
    let _ = shared.sender.try_send(Received { headers, body });
    answer.into_response()
}
