//! The tower stack: what every request passes, outermost first, and why each layer stands where it does.

use std::{convert::Infallible, net::Ipv4Addr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use kiln_auth::{Authenticate, IdentityProvider, InFlight, Origin, Peer, RateLimit};
use tower::{ServiceBuilder, timeout::TimeoutLayer};
use tower_http::{
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    trace::TraceLayer,
};

use crate::{
    admission::{Admission, BodyDeadline, Class, Linger},
    around::around,
    cors,
    doors::{
        Door,
        native::{self, Native},
        openfaas::{self, OpenFaas},
        openserverless::{self, OpenServerless},
        page::{self, Page, Sessions},
        probes,
    },
    metrics::Metrics,
    rescue,
};

/// From the request's head to the answer's head; streaming answers go on. Longer than any body may
/// take, so that what it ends is the gateway's own slowness.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken from a caller: a UUID or a trace's id, with room.
const REQUEST_ID_AT_MOST: usize = 64;

/// What stands before every route that needs an identity.
#[derive(Clone)]
pub struct Guard {
    provider: Arc<dyn IdentityProvider>,
    admission: Admission,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// A guard that asks `provider` who calls, and lets in what `admission` does.
    #[must_use]
    pub fn new(provider: Arc<dyn IdentityProvider>, admission: Admission) -> Self {
        Self { provider, admission }
    }

    /// Puts the guard before a route's methods, all of one class. A method that the route doesn't
    /// have is answered without it, as by the real services.
    pub fn protect<S: Clone + Send + Sync + 'static>(&self, class: Class, route: MethodRouter<S>) -> MethodRouter<S> {
        let Admission { attempts, lookups, .. } = self.admission.clone();
        let at_once = self.admission.at_once(class).clone();
        route.route_layer(
            ServiceBuilder::new()
                // Outermost: whoever refuses below drops the body, and its sender is to see the answer.
                .layer(Linger::layer())
                // Errors of the layers below become answers here, in the door's dialect.
                .layer(around(Door::noted, rescue::answer))
                // Before any work. It sheds instead of queueing: whoever waits here would only time out
                // later. A stream holds its place until it ends, one of those that streams have.
                .layer(InFlight::of_all(at_once.all))
                // Bounds a slow lookup and a slow ledger alike.
                .layer(TimeoutLayer::new(answer_within(class)))
                // Below it nothing sees a credential, and who sends bad ones has been held off.
                .layer(Authenticate::layer(Arc::clone(&self.provider), attempts, lookups))
                // By user, so after it; before all that costs more than counting.
                .layer(RateLimit::layer(self.admission.rates(class)))
                // What goes wrong from here on is an answer already when the rate's fields are added.
                .layer(around(Door::noted, rescue::answer))
                // One owner's slow bodies, or streams, are in nobody else's way.
                .layer(InFlight::of_owner(at_once.owner))
                // A body that trickles gives its place back before others miss it.
                .layer(BodyDeadline::layer(class.body_within()))
                // Innermost, where the body is read.
                .layer(DefaultBodyLimit::max(class.body_at_most())),
        )
    }

    /// Puts before a route's methods what needs no identity: for a door whose callers are proved by
    /// their bodies, which only its handler reads. Who calls, and how often, the handler asks.
    pub fn receive<S: Clone + Send + Sync + 'static>(&self, class: Class, route: MethodRouter<S>) -> MethodRouter<S> {
        let at_once = self.admission.at_once(class).clone();
        route.route_layer(
            ServiceBuilder::new()
                // Outermost: whoever refuses below drops the body, and its sender is to see the answer.
                .layer(Linger::layer())
                // Errors of the layers below become answers here, in the door's dialect.
                .layer(around(Door::noted, rescue::answer))
                // Before any work, and until the answer's end. There is no deadline for that: it comes
                // when the build has ended, and builds have deadlines of their own.
                .layer(InFlight::of_all(at_once.all))
                // A body that trickles gives its place back before others miss it.
                .layer(BodyDeadline::layer(class.body_within())),
        )
    }
}

/// How long an answer's head may take: of an archive, beyond its body.
fn answer_within(class: Class) -> Duration {
    if class == Class::Archive { class.body_within() + ANSWER_WITHIN } else { ANSWER_WITHIN }
}

/// Every route of the public listener, with what all requests pass.
pub fn public(
    openserverless: &OpenServerless,
    openfaas: Option<&OpenFaas>,
    native: &Native,
    page: Option<&Page>,
    guard: &Guard,
    metrics: Metrics,
) -> Router {
    let openfaas = openfaas.map_or_else(Router::new, |door| openfaas::routes(door, guard));
    let sessions = page.map(|page| page.sessions.clone());
    let page = page.map_or_else(Router::new, |page| page::routes(page, guard));
    let admission = guard.admission.clone();
    Router::new()
        .merge(openfaas)
        .merge(openserverless::routes(openserverless, guard))
        .merge(native::routes(native, guard))
        .merge(page)
        .merge(probes::routes(native.builds.clone()))
        .fallback(unknown_path)
        .layer(
            ServiceBuilder::new()
                // Above what would take it over: an id is the caller's text in every line of the log.
                .map_request(without_odd_id)
                // First, so that every line of the log names the request.
                .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
                // Before the trace, so that no span ever shows a credential.
                .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
                // Metrics count failures, and whoever meets one says so: a line for each would be a way to
                // fill the log.
                .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                // Before whatever may fail, so that errors are answered in the right dialect, and lines
                // say where from.
                .map_request(move |request| arrive(&admission, request))
                // Where the page's cookie counts it becomes a credential here, and below there are no cookies.
                .map_request(move |request| sign_in(sessions.as_ref(), request))
                .layer(around(Door::noted, move |door, answer| count(&metrics, door, answer)))
                // A bug in a handler costs one request, not the connection.
                .layer(around(Door::noted, survive))
                .map_future(caught)
                // Above the guard: a preflight carries no credential.
                .layer(around(cors::asked, cors::answer)),
        )
}

/// Drops a request id that isn't short and plain, or isn't the only one; the next layer makes another.
fn without_odd_id<B>(mut request: http::Request<B>) -> http::Request<B> {
    let plain = |id: &HeaderValue| {
        let letters = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=REQUEST_ID_AT_MOST).contains(&id.len()) && id.as_bytes().iter().all(letters)
    };
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    let fine = matches!((ids.next(), ids.next()), (Some(id), None) if plain(id));
    if !fine {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Notes the door, and where the request comes from.
fn arrive(admission: &Admission, mut request: Request) -> Request {
    let door = Door::of(&request);
    // Nobody's address, should a listener ever not say: those callers share one.
    let peer = request.extensions().get().copied().unwrap_or(Peer(Ipv4Addr::UNSPECIFIED.into()));
    let from = admission.address(peer.0, request.headers());
    request.extensions_mut().insert(door);
    request.extensions_mut().insert(Origin { from, door: door.as_str() });
    request
}

/// Has the page's session stand for the credential that it was begun with.
fn sign_in(sessions: Option<&Sessions>, mut request: Request) -> Request {
    match sessions {
        Some(sessions) => sessions.take_up(Door::noted(&request), request),
        None => {
            request.headers_mut().remove(header::COOKIE);
            request
        }
    }
}

/// Counts the answer.
fn count(metrics: &Metrics, door: Door, Ok(response): Result<Response, Infallible>) -> Response {
    metrics.answered(door.as_str(), response.status().as_u16());
    response
}

/// A handler panicked; what it said is on standard error already.
struct Panicked;

async fn caught(answer: impl Future<Output = Result<Response, Infallible>>) -> Result<Response, Panicked> {
    AssertUnwindSafe(answer).catch_unwind().await.map(|Ok(response)| response).map_err(|_| Panicked)
}

/// Answers a panic in the door's dialect.
fn survive(door: Door, answer: Result<Response, Panicked>) -> Response {
    answer.unwrap_or_else(|Panicked| {
        tracing::error!("a handler panicked");
        rescue::in_dialect(door, StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
    })
}

impl From<Infallible> for Panicked {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn unknown_path(request: Request) -> Response {
    match Door::of(&request) {
        Door::OpenServerless => openserverless::not_found(),
        Door::Native => rescue::problem(StatusCode::NOT_FOUND, "no such resource"),
        Door::Page => page::error(StatusCode::NOT_FOUND, "There is no such page."),
        Door::OpenFaas | Door::Plain => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    // The route instead of the path: paths hold ids, and clients put odd things into them.
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    tracing::info_span!("request", id, method = request.method().as_str(), route)
}

#[cfg(test)]
mod tests {
    use axum::{body, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn only_short_and_plain_request_ids_are_taken_over() {
        let long = "a".repeat(REQUEST_ID_AT_MOST + 1);
        for (ids, kept) in [
            (&["0198-ab_C.9"][..], true),
            (&[&long[1..]], true),
            (&[long.as_str()], false),
            (&[""], false),
            (&["a b"], false),
            (&["a\"b"], false),
            (&["a", "b"], false),
            (&[], false),
        ] {
            let mut request = http::Request::new(());
            for id in ids {
                request.headers_mut().append(REQUEST_ID, HeaderValue::from_str(id).unwrap());
            }
            assert_eq!(without_odd_id(request).headers().contains_key(REQUEST_ID), kept, "{ids:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_in_the_doors_dialect() {
        async fn broken() -> Response {
            panic!("a bug")
        }
        for (path, kind) in [
            ("/v1/x", "application/problem+json"),
            ("/system/x", "application/json"),
            ("/builds/x", "text/html; charset=utf-8"),
        ] {
            let door = Door::of(&Request::builder().uri(path).body(()).unwrap());
            let survives = ServiceBuilder::new().layer(around(Door::noted, survive)).map_future(caught);
            let router = Router::new().route(path, get(broken)).layer(survives);
            let request = Request::builder().uri(path).extension(door).body(body::Body::empty()).unwrap();
            let answer = router.oneshot(request).await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["content-type"]),
                (500, &HeaderValue::from_static(kind))
            );
        }
    }
}
