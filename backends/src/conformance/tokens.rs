//! Registries that speak of tokens: the session fetches them, one owner's never serves another.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{Bench, bench::destination, builds::probed};
use crate::{
    BasicCredential, BuildSpec, Reason, RegistryAuth, RegistryToken, SourceRule, SourceRules, TokenRefused,
    TokenRequest,
};

/// A registry in front of the bench's own that takes nothing without a token, and remembers which.
struct Guarded {
    address: SocketAddr,
    /// Path and token of what was asked.
    seen: Arc<Mutex<Vec<(String, String)>>>,
    server: JoinHandle<()>,
}

/// Answers with one token, or none, and has no password.
struct Token(Option<&'static str>);

/// The session's tokens are used, the engine asks no token service itself, and what one owner was
/// given never comes with another's build.
///
/// # Panics
/// When a token is missing, another's, or the service was asked.
pub async fn a_token_serves_only_the_build_it_was_given_to(bench: &Bench) {
    if !bench.reaches_suite {
        return;
    }
    let guarded = Guarded::before(&bench.registry).await;
    for (owner, token) in [("ann", "token-of-ann"), ("bob", "token-of-bob"), ("ann", "token-of-ann")] {
        let _ = bench.run(guarded.pulling(bench, owner, Some(token))).await.digest();
        guarded.saw_only(token);
    }
    let failure = bench.run(guarded.pulling(bench, "eve", None)).await.failure().clone();
    assert_eq!(failure.reason, Reason::BaseForbidden, "{failure:?}");
    assert_eq!(guarded.take(), [], "nothing was asked with another's token");

    // Where the Engine itself pushes, it takes a password alone.
    if !probed(bench).await.atomic_tag {
        return;
    }
    for (owner, token) in [("ann", "token-of-ann"), ("bob", "token-of-bob")] {
        let _ = bench.run(guarded.pushing(bench, owner, Some(token))).await.digest();
        guarded.saw_only(token);
    }
    let failure = bench.run(guarded.pushing(bench, "eve", None)).await.failure().clone();
    assert_eq!(failure.reason, Reason::PushDenied, "{failure:?}");
    assert_eq!(guarded.take(), [], "nothing was asked with another's token");
}

// === impl Token ===

#[async_trait]
impl RegistryAuth for Token {
    async fn basic(&self, _host: &str) -> Option<BasicCredential> {
        None
    }

    async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused> {
        let refused = || TokenRefused { host: request.host.clone(), cause: "this build may not".to_owned() };
        self.0.map(|token| RegistryToken { token: token.to_owned().into(), expires_in: 300 }).ok_or_else(refused)
    }
}

// === impl Guarded ===

impl Guarded {
    async fn before(registry: &str) -> Self {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else { panic!("no free port") };
        let Ok(address) = listener.local_addr() else { panic!("no address") };
        let (seen, registry): (Arc<Mutex<Vec<_>>>, Arc<str>) = (Arc::default(), registry.into());
        let server = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, registry) = (Arc::clone(&seen), Arc::clone(&registry));
                    let answer =
                        service_fn(move |request| guard(request, address, Arc::clone(&registry), Arc::clone(&seen)));
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
                    );
                }
            }
        });
        Self { address, seen, server }
    }

    /// A build whose base comes from here.
    fn pulling(&self, bench: &Bench, owner: &str, token: Option<&'static str>) -> BuildSpec {
        let base = format!("{}/{}", self.address, bench.base);
        let text = format!("FROM {base}\nENV WORD={}", bench.unique());
        let mut spec = bench.spec(owner, bench.dockerfile(&text));
        spec.sources = SourceRules(vec![SourceRule::Allow(format!("docker-image://{base}*"))]);
        spec.registry_auth = Arc::new(Token(token));
        spec
    }

    /// A build that is pushed here.
    fn pushing(&self, bench: &Bench, owner: &str, token: Option<&'static str>) -> BuildSpec {
        let mut spec = bench.spec(owner, bench.dockerfile(&format!("FROM {{base}}\nENV WORD={}", bench.unique())));
        destination(&mut spec).registry = self.address.to_string();
        spec.registry_auth = Arc::new(Token(token));
        spec
    }

    fn saw_only(&self, token: &str) {
        let seen = self.take();
        assert!(!seen.is_empty() && seen.iter().all(|(_, used)| used == token), "{token}: {seen:?}");
    }

    fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

async fn guard(
    request: Request<Incoming>,
    own: SocketAddr,
    registry: Arc<str>,
    seen: Arc<Mutex<Vec<(String, String)>>>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let path = request.uri().path().to_owned();
    let token =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = token.map(str::to_owned) else {
        let name =
            path.trim_start_matches("/v2/").split("/blobs/").next().and_then(|rest| rest.split("/manifests/").next());
        let scope = format!("repository:{}:pull,push", name.unwrap_or_default());
        let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"bench\",scope=\"{scope}\"");
        if path.starts_with("/token") {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((path, "asked by the engine itself".to_owned()));
        }
        let empty = Empty::new().map_err(|never| match never {}).boxed();
        return Ok(Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(header::WWW_AUTHENTICATE, challenge)
            .body(empty)?);
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push((path, token));
    let stream = TcpStream::connect(&*registry).await?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let answer = send.send_request(request).await?;
    Ok(answer.map(http_body_util::BodyExt::boxed))
}
