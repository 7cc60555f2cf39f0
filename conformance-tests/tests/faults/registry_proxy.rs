//! A proxy before the real registry that holds or refuses what it is told to.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use kiln_conformance_tests::{Engine, Launch, engine};
use reqwest::{Method, StatusCode, header};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::PATIENCE;

/// A moment on an image's way into the registry.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Moment {
    /// The engine uploads a layer or a configuration.
    Blob,
    /// Kiln puts the tag.
    Tag,
}

/// What becomes of the requests of a moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fate {
    /// They don't reach the registry until the rule is lifted.
    Held,
    /// They reach it, but its answers wait until the rule is lifted.
    Unanswered,
    /// They are answered 503.
    Refused,
}

/// The proxy; gone when dropped.
#[derive(Debug)]
pub(crate) struct RegistryProxy {
    /// `host:port`.
    pub(crate) address: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    registry: String,
    rule: watch::Sender<Option<(Moment, Fate)>>,
    met: watch::Sender<usize>,
}

impl RegistryProxy {
    pub(crate) async fn start() -> Self {
        // Whoever comes first installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let (registry, rule, met) = (engine("KILN_TEST_REGISTRY"), watch::Sender::new(None), watch::Sender::new(0));
        let shared = Arc::new(Shared { http, registry, rule, met });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, server }
    }

    /// A gateway that pushes to the proxy, on the development buildkitd, for the user `devel`.
    pub(crate) fn launch(&self) -> Launch {
        // Named, so that the bases may come from a registry that isn't public.
        let real = format!("[registries.\"{}\"]\n", self.shared.registry);
        Launch::on(Engine::Buildkitd).user("devel").set("REGISTRY_HOST", &*self.address).config(&real)
    }

    /// From now on the requests of this moment have this fate.
    pub(crate) fn rule(&self, moment: Moment, fate: Fate) {
        self.shared.met.send_replace(0);
        self.shared.rule.send_replace(Some((moment, fate)));
    }

    /// Waits until the rule was met so often.
    pub(crate) async fn met(&self, times: usize) {
        let mut met = self.shared.met.subscribe();
        let met = timeout(PATIENCE, met.wait_for(|met| *met >= times)).await;
        assert!(met.is_ok(), "the registry was not asked {times} times: {:?}", self.shared.rule.borrow());
    }

    /// Everything passes again.
    pub(crate) fn lift(&self) {
        self.shared.rule.send_replace(None);
    }
}

impl Drop for RegistryProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn moment(request: &Request) -> Option<Moment> {
    let path = request.uri().path();
    match *request.method() {
        Method::POST | Method::PATCH | Method::PUT if path.contains("/blobs/uploads/") => Some(Moment::Blob),
        Method::PUT if path.contains("/manifests/") && !path.contains("/manifests/sha256:") => Some(Moment::Tag),
        _ => None,
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut rule = shared.rule.subscribe();
    let now = *rule.borrow_and_update();
    let Some((_, fate)) = now.filter(|(moment, _)| crate::registry_proxy::moment(&request) == Some(*moment)) else {
        return forward(&shared, request).await;
    };
    let meet = || shared.met.send_modify(|met| *met += 1);
    match fate {
        Fate::Refused => {
            meet();
            (StatusCode::SERVICE_UNAVAILABLE, "the registry is away").into_response()
        }
        Fate::Held => {
            meet();
            let _ = rule.changed().await;
            forward(&shared, request).await
        }
        Fate::Unanswered => {
            let answer = forward(&shared, request).await;
            meet();
            let _ = rule.changed().await;
            answer
        }
    }
}

async fn forward(shared: &Shared, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
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
