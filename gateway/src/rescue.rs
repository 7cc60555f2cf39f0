//! The one place where errors of the stack become answers, in the dialect of the door.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use kiln_auth::{AuthError, Exceeded, Full};
use serde_json::{Value, json};
use tower::{BoxError, timeout::error::Elapsed};

use crate::{
    admission::BodyLate,
    builds::{QueueFull, Refused},
    doors::{Door, openfaas, openserverless, page},
    images::ImagesError,
    registry::RegistryError,
};

/// When to try again what the gateway was too busy for, in seconds.
const BUSY: u64 = 1;
/// When to try again what there was no place for in a queue or on a disk, in seconds: a body takes some, and a build.
pub(crate) const PLACES_AFTER: u64 = 10;

/// What the caller may read of an error.
struct Public {
    status: StatusCode,
    title: String,
    retry_after: Option<u64>,
}

/// Answers an error of a layer.
pub(crate) fn answer<R: IntoResponse>(door: Door, came: Result<R, BoxError>) -> Response {
    let error = match came {
        Ok(response) => return response.into_response(),
        Err(error) => error,
    };
    let public = public(&error);
    let mut response = in_dialect(door, public.status, &public.title);
    if let Some(seconds) = public.retry_after {
        response = retry_after(response, seconds);
    }
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        exceeded.standing().describe(response.headers_mut());
    }
    response
}

/// An error in the words of the door.
#[must_use]
pub(crate) fn in_dialect(door: Door, status: StatusCode, title: &str) -> Response {
    match door {
        Door::OpenServerless => openserverless::error(status, title),
        Door::OpenFaas => openfaas::error(status, title),
        Door::Page => page::error(status, title),
        Door::Native | Door::Plain => problem(status, title),
    }
}

/// The status of a build that wasn't accepted, worth another try after [`PLACES_AFTER`]; `None` is a fault of
/// Kiln's own.
#[must_use]
pub(crate) fn refused(refused: &Refused) -> Option<StatusCode> {
    tracing::warn!(error = %refused, "a build was not accepted");
    match refused {
        Refused::Queue(QueueFull::Owner(_)) => Some(StatusCode::TOO_MANY_REQUESTS),
        Refused::Stopping | Refused::DiskFull | Refused::Queue(_) => Some(StatusCode::SERVICE_UNAVAILABLE),
        Refused::Ledger(_) | Refused::Seal(_) | Refused::Context(_) => None,
    }
}

/// The status of what wasn't done about images.
#[must_use]
pub(crate) fn images(error: &ImagesError) -> StatusCode {
    match error {
        ImagesError::Missing => StatusCode::NOT_FOUND,
        ImagesError::NotOne(_) | ImagesError::NoTag(_) | ImagesError::Cursor | ImagesError::Destination(_) => {
            StatusCode::BAD_REQUEST
        }
        ImagesError::DeleteDisabled(_)
        | ImagesError::Shared { .. }
        | ImagesError::ManyTags(_)
        | ImagesError::NotCopied(_) => StatusCode::CONFLICT,
        ImagesError::Late => StatusCode::SERVICE_UNAVAILABLE,
        ImagesError::Ledger(error) => {
            tracing::error!(%error, "the ledger failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        ImagesError::Registry(error) => {
            tracing::warn!(%error, "a registry didn't answer as a caller hoped");
            match error {
                RegistryError::NotFound { .. } => StatusCode::NOT_FOUND,
                RegistryError::Forbidden { .. } | RegistryError::Refused { .. } => StatusCode::FORBIDDEN,
                RegistryError::Invalid { .. } => StatusCode::BAD_GATEWAY,
                RegistryError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            }
        }
    }
}

/// Problem details (RFC 9457).
#[must_use]
pub(crate) fn problem(status: StatusCode, title: &str) -> Response {
    problem_with(status, title, [])
}

/// The same with members of its own.
#[must_use]
pub(crate) fn problem_with<const N: usize>(status: StatusCode, title: &str, more: [(&str, Value); N]) -> Response {
    let mut body = json!({ "type": "about:blank", "status": status.as_u16(), "title": title });
    for (name, value) in more {
        body[name] = value;
    }
    let mut response = (status, Json(body)).into_response();
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Says when to try again.
#[must_use]
pub(crate) fn retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn public(error: &BoxError) -> Public {
    let public = |status, title: &dyn ToString, retry_after| Public { status, title: title.to_string(), retry_after };
    if let Some(error) = error.downcast_ref::<AuthError>() {
        return match error {
            AuthError::Missing => public(StatusCode::UNAUTHORIZED, &"Missing authorization header", None),
            AuthError::Busy => public(StatusCode::SERVICE_UNAVAILABLE, error, Some(BUSY)),
            AuthError::TooManyFailures(exceeded) => {
                public(StatusCode::TOO_MANY_REQUESTS, error, Some(exceeded.retry_after()))
            }
            // Why a credential was refused is told to the operator, not to whoever sent it.
            AuthError::Unusable | AuthError::Rejected | AuthError::Unavailable(_) => {
                public(StatusCode::UNAUTHORIZED, &"Invalid authorization", None)
            }
        };
    }
    if let Some(error) = error.downcast_ref::<Exceeded>() {
        return public(StatusCode::TOO_MANY_REQUESTS, error, Some(error.retry_after()));
    }
    if let Some(full) = error.downcast_ref::<Full>() {
        return match full {
            Full::All => public(StatusCode::SERVICE_UNAVAILABLE, full, Some(BUSY)),
            // Nobody else's requests are in the way: the gateway is available.
            Full::Owner => public(StatusCode::TOO_MANY_REQUESTS, full, Some(BUSY)),
        };
    }
    if let Some(late) = error.downcast_ref::<BodyLate>() {
        return public(StatusCode::REQUEST_TIMEOUT, late, None);
    }
    if error.is::<Elapsed>() {
        let title = "the gateway took too long to answer; try again";
        return public(StatusCode::SERVICE_UNAVAILABLE, &title, Some(BUSY));
    }
    tracing::error!(%error, "an error without an answer of its own");
    public(StatusCode::INTERNAL_SERVER_ERROR, &"Internal error", None)
}
