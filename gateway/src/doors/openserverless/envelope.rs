//! The shapes of answers: compact JSON with sorted keys and a line end, or the server's HTML pages.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

/// A good answer: `status: ok`, the message, and the data both at the top level, where the real
/// service has it, and under `data`, where its documents have it.
pub(super) fn ok(status: StatusCode, message: &str, data: Map<String, Value>) -> Response {
    let mut body = data.clone();
    if !data.is_empty() {
        body.insert("data".to_owned(), data.into());
    }
    respond(status, message, "ok", body)
}

/// An error: `status: ko` and the message.
pub(super) fn ko(status: StatusCode, message: &str) -> Response {
    respond(status, message, "ko", Map::new())
}

fn respond(status: StatusCode, message: &str, word: &str, mut body: Map<String, Value>) -> Response {
    body.insert("message".to_owned(), message.into());
    body.insert("status".to_owned(), word.into());
    json(status, &body.into())
}

/// JSON as the real service writes it.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    let mut text = Vec::with_capacity(512);
    // Into memory everything can be written; by a formatter it would take three times as long.
    let _ = serde_json::to_writer(&mut text, body);
    text.push(b'\n');
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], text).into_response()
}

/// The page for a path that isn't there.
pub(super) fn not_found() -> Response {
    let text = "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.";
    page(StatusCode::NOT_FOUND, "Not Found", text)
}

/// The page for a method that a path doesn't have.
pub(super) fn method_not_allowed() -> Response {
    page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", "The method is not allowed for the requested URL.")
}

fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let body = format!(
        "<!doctype html>\n<html lang=en>\n<title>{code} {title}</title>\n<h1>{title}</h1>\n<p>{text}</p>\n",
        code = status.as_u16()
    );
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, html)], body).into_response()
}
