//! The tower stack: what every request passes, outermost first, and why each layer stands where it does.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    error_handling::HandleErrorLayer,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use http::{HeaderName, StatusCode, header};
use kiln_auth::{Authenticate, IdentityProvider};
use tower::{
    BoxError, ServiceBuilder, limit::GlobalConcurrencyLimitLayer, load_shed::LoadShedLayer, timeout::TimeoutLayer,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    trace::TraceLayer,
};

use crate::{
    cors,
    doors::{
        Door,
        native::{self, Native},
        openserverless::{self, OpenServerless},
        probes,
    },
    metrics::Metrics,
    rescue,
};

/// The largest body of a door that takes requirements files: 10 million characters of base64 and
/// what JSON adds around them.
const BODY_AT_MOST: usize = 16 << 20;
/// From the request's head to the answer's head; streaming answers go on.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What stands before every route that needs an identity.
#[derive(Clone)]
pub struct Guard {
    provider: Arc<dyn IdentityProvider>,
    in_flight: GlobalConcurrencyLimitLayer,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl Guard {
    /// A guard that lets `requests` through at once.
    #[must_use]
    pub fn new(provider: Arc<dyn IdentityProvider>, requests: usize) -> Self {
        Self { provider, in_flight: GlobalConcurrencyLimitLayer::new(requests) }
    }

    /// Puts the guard before a route's methods. A method that the route doesn't have is answered
    /// without it, as by the real services.
    pub fn protect<S: Clone + Send + Sync + 'static>(&self, route: MethodRouter<S>) -> MethodRouter<S> {
        route.route_layer(
            ServiceBuilder::new()
                // Errors of the layers below become answers here, in the door's dialect.
                .layer(HandleErrorLayer::new(|Extension(door): Extension<Door>, error: BoxError| async move {
                    rescue::rescue(door, &error)
                }))
                // Sheds instead of queueing: whoever waits here would only time out later.
                .layer(LoadShedLayer::new())
                .layer(self.in_flight.clone())
                // Bounds a slow body and a slow ledger alike.
                .layer(TimeoutLayer::new(ANSWER_WITHIN))
                // Below it nothing sees a credential.
                .layer(Authenticate::layer(Arc::clone(&self.provider))),
        )
    }
}

/// Every route of the public listener, with what all requests pass.
pub fn public(openserverless: &OpenServerless, native: &Native, guard: &Guard, metrics: Metrics) -> Router {
    Router::new()
        .merge(openserverless::routes(openserverless, guard))
        .merge(native::routes(native, guard))
        .merge(probes::routes(native.builds.clone()))
        .fallback(unknown_path)
        .layer(
            ServiceBuilder::new()
                // First, so that every line of the log names the request.
                .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
                // Before the trace, so that no span ever shows a credential.
                .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
                .layer(TraceLayer::new_for_http().make_span_with(span))
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                // Before whatever may fail, so that errors are answered in the right dialect and counted.
                .layer(middleware::from_fn_with_state(metrics, enter))
                // A bug in a handler costs one request, not the connection.
                .layer(CatchPanicLayer::custom(|_| {
                    rescue::problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
                }))
                // Above the guard: a preflight carries no credential.
                .layer(middleware::from_fn(cors::answer))
                .layer(DefaultBodyLimit::max(BODY_AT_MOST)),
        )
}

/// Notes the door and counts the answer.
async fn enter(
    axum::extract::State(metrics): axum::extract::State<Metrics>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = Door::of(request.uri());
    request.extensions_mut().insert(door);
    let response = next.run(request).await;
    metrics.answered(door.as_str(), response.status().as_u16());
    response
}

async fn unknown_path(request: Request) -> Response {
    match Door::of(request.uri()) {
        Door::OpenServerless => openserverless::not_found(),
        Door::Native => rescue::problem(StatusCode::NOT_FOUND, "no such resource"),
        Door::Plain => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

fn span(request: &Request) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    // The route instead of the path: paths hold ids, and clients put odd things into them.
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    tracing::info_span!("request", id, method = %request.method(), route)
}
