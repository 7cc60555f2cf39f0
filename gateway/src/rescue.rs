//! The one place where errors of the stack become answers, in the dialect of the door.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use kiln_auth::AuthError;
use serde_json::json;
use tower::BoxError;

use crate::doors::{Door, openserverless};

/// What the caller may read of an error.
struct Public {
    status: StatusCode,
    title: &'static str,
    retry_after: Option<&'static str>,
}

/// Answers an error of a layer.
#[must_use]
pub(crate) fn rescue(door: Door, error: &BoxError) -> Response {
    let public = public(error);
    let mut response = match door {
        Door::OpenServerless => openserverless::error(public.status, public.title),
        Door::Native | Door::Plain => problem(public.status, public.title),
    };
    if let Some(seconds) = public.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// Problem details (RFC 9457).
#[must_use]
pub(crate) fn problem(status: StatusCode, title: &str) -> Response {
    let body = Json(json!({ "type": "about:blank", "status": status.as_u16(), "title": title }));
    let mut response = (status, body).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn public(error: &BoxError) -> Public {
    let plain = |status, title| Public { status, title, retry_after: None };
    if let Some(error) = error.downcast_ref::<AuthError>() {
        return plain(
            StatusCode::UNAUTHORIZED,
            match error {
                AuthError::Missing => "Missing authorization header",
                // Why a credential was refused is told to the operator, not to whoever sent it.
                _ => "Invalid authorization",
            },
        );
    }
    if error.is::<tower::load_shed::error::Overloaded>() {
        let title = "the gateway is overloaded; try again";
        return Public { status: StatusCode::SERVICE_UNAVAILABLE, title, retry_after: Some("1") };
    }
    if error.is::<tower::timeout::error::Elapsed>() {
        return plain(StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive or to answer");
    }
    tracing::error!(%error, "an error without an answer of its own");
    plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
}
