//! Cross-origin answers as the OpenServerless service gives them: every origin, no credentials.

use std::convert::Infallible;

use axum::{extract::Request, response::Response};
use http::{HeaderValue, Method, StatusCode, header};

use crate::doors::Door;

/// What a preflight is told may be sent.
const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");

/// What a page's browser asks.
pub(crate) struct Asked {
    preflight: bool,
    origin: Option<HeaderValue>,
    headers: Option<HeaderValue>,
}

/// What a request at that door asks; the others are no business of pages.
pub(crate) fn asked(request: &Request) -> Option<Asked> {
    let header = |name| request.headers().get(name).cloned();
    (Door::noted(request) == Door::OpenServerless).then(|| Asked {
        preflight: request.method() == Method::OPTIONS,
        origin: header(header::ORIGIN),
        headers: header(header::ACCESS_CONTROL_REQUEST_HEADERS),
    })
}

/// Answers preflights, and lets every page read every answer of that door.
pub(crate) fn answer(asked: Option<Asked>, Ok(mut response): Result<Response, Infallible>) -> Response {
    let Some(Asked { preflight, origin, headers: asked }) = asked else { return response };
    // The routes know no OPTIONS; where the path exists they answer 405 to it.
    let known = preflight && response.status() == StatusCode::METHOD_NOT_ALLOWED;
    if known {
        let allow = response.headers().get(header::ALLOW).cloned();
        response = Response::default();
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    match origin {
        Some(origin) if preflight => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            if let Some(asked) = asked {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
            }
        }
        _ => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
    }
    response
}
