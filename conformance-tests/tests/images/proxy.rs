//! A proxy before the real registry that counts what is asked of it, and holds what it is told to.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use kiln_conformance_tests::engine;
use reqwest::{Method, StatusCode, header};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::PATIENCE;

/// The proxy; gone when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// `host:port`.
    pub(crate) address: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    registry: String,
    seen: Mutex<Vec<(Method, String)>>,
    /// Whether answers to manifests that are put by their digest wait.
    holding: watch::Sender<bool>,
    held: watch::Sender<Option<String>>,
    /// What was removed last.
    deleted: watch::Sender<String>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        Self::before(&engine("KILN_TEST_REGISTRY")).await
    }

    /// Before the registry at this address.
    pub(crate) async fn before(registry: &str) -> Self {
        // Whoever comes first installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let shared = Arc::new(Shared {
            http,
            registry: registry.to_owned(),
            seen: Mutex::default(),
            holding: watch::Sender::new(false),
            held: watch::Sender::new(None),
            deleted: watch::Sender::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, server }
    }

    /// What was asked since the last look: method, path and query.
    pub(crate) fn seen(&self) -> Vec<(Method, String)> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on a manifest that is put by its digest reaches the registry, and its answer waits.
    pub(crate) fn hold(&self) {
        self.shared.holding.send_replace(true);
    }

    /// Waits until one is held and gives its path.
    pub(crate) async fn held(&self) -> String {
        let mut held = self.shared.held.subscribe();
        let held = timeout(PATIENCE, held.wait_for(Option::is_some)).await.expect("a manifest is put").unwrap();
        held.clone().unwrap()
    }

    /// Waits until the registry has answered the removal of this digest.
    pub(crate) async fn deleted(&self, digest: &str) {
        let mut deleted = self.shared.deleted.subscribe();
        let path = format!("/manifests/{digest}");
        let deleted = timeout(PATIENCE, deleted.wait_for(|deleted| deleted.ends_with(&path))).await;
        deleted.expect("it is removed").unwrap();
    }

    /// Everything passes again.
    pub(crate) fn lift(&self) {
        self.shared.holding.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push((method.clone(), path.clone()));
    let mut holding = shared.holding.subscribe();
    let held = *holding.borrow_and_update() && method == Method::PUT && path.contains("/manifests/sha256:");
    let answer = forward(&shared, request, &path).await;
    if method == Method::DELETE {
        shared.deleted.send_replace(path.clone());
    }
    if held {
        shared.held.send_replace(Some(path));
        let _ = holding.wait_for(|holding| !holding).await;
    }
    answer
}

async fn forward(shared: &Shared, request: Request, path: &str) -> Response {
    let (mut head, body) = request.into_parts();
    let url = format!("http://{}{path}", shared.registry);
    head.headers.remove(header::CONNECTION);
    head.headers.remove(header::TRANSFER_ENCODING);
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    match shared.http.request(head.method, url).headers(head.headers).body(body).send().await {
        Ok(answer) => {
            let (status, mut headers) = (answer.status(), answer.headers().clone());
            headers.remove(header::CONNECTION);
            headers.remove(header::TRANSFER_ENCODING);
            (status, headers, Body::from_stream(answer.bytes_stream())).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
