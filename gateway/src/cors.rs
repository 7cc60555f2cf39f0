//! Cross-origin answers as the OpenServerless service gives them: every origin, no credentials.

use axum::{Extension, extract::Request, middleware::Next, response::Response};
use http::{HeaderValue, Method, StatusCode, header};

use crate::doors::Door;

/// What a preflight is told may be sent.
const METHODS: HeaderValue = HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");

/// Answers preflights, and lets every page read every answer of that door. The others are no business
/// of pages.
pub(crate) async fn answer(Extension(door): Extension<Door>, request: Request, next: Next) -> Response {
    if door != Door::OpenServerless {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
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
