//! The fields of a request's body, checked in the order in which the real service checks them.

use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::shallow::Body;
use crate::{doors::base64_text::decode, recipes::Kind};

/// A field can't be used: the status and the message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) StatusCode, pub(super) String);

/// The longest `file` as sent, in characters; the real service's own bound.
const ENCODED_AT_MOST: usize = 10_000_000;
/// The longest decoded file, in characters; likewise.
const DECODED_AT_MOST: usize = 5_000_000;

/// The message for a file over the bound.
pub(super) const FILE_TOO_LARGE: &str = "Requirements file too large (max 10MB base64-encoded)";

pub(super) fn bad(message: impl Into<String>) -> Fault {
    Fault(StatusCode::BAD_REQUEST, message.into())
}

/// The body as it arrived. One over the stack's bound is so by its file, so the message is the file's.
pub(super) fn received(body: Result<Bytes, BytesRejection>, too_large: &str) -> Result<Bytes, Fault> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault(StatusCode::PAYLOAD_TOO_LARGE, too_large.to_owned()),
        _ => bad("The request's body didn't arrive as announced."),
    })
}

/// Whether the body is said to be JSON: `application/json` or `application/…+json`, with or without parameters.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Fault> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json {
        Ok(())
    } else {
        Err(Fault(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json.".to_owned()))
    }
}

/// The body's object; `missing` is the message where it is null.
pub(super) fn object(body: &[u8], missing: &str) -> Result<Map<String, Value>, Fault> {
    match parse(body)? {
        Body::Object(object) => Ok(object),
        Body::Null => Err(bad(missing)),
        Body::EmptyList | Body::Other => Err(bad("The JSON payload must be an object.")),
    }
}

/// The body as JSON, as far as the door's requests go.
pub(super) fn parse(body: &[u8]) -> Result<Body, Fault> {
    serde_json::from_slice(body).map_err(|_| bad("The JSON payload is malformed."))
}

/// A field that must be there, whatever it holds.
pub(super) fn present<'a>(object: &'a Map<String, Value>, field: &str) -> Result<&'a Value, Fault> {
    object.get(field).ok_or_else(|| bad(format!("No {field} provided for build.")))
}

/// A field's text.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, Fault> {
    match value {
        Value::String(text) if !text.is_empty() && !has_odd_characters(text) => Ok(text),
        _ => Err(bad(format!("Invalid {field} for the build."))),
    }
}

/// The kind; one that isn't known matters only with a file, as there.
pub(super) fn kind(word: &str, has_file: bool) -> Result<Option<Kind>, Fault> {
    match Kind::parse(word) {
        Some(kind) => Ok(Some(kind)),
        None if !has_file && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) => Ok(None),
        None => Err(bad(format!("Invalid kind for the build. Kinds are {}.", Kind::words()))),
    }
}

/// The requirements file: base64 (line breaks are fine) of UTF-8 text.
pub(super) fn file(value: &Value) -> Result<Vec<u8>, Fault> {
    let too_large = |message: &str| Fault(StatusCode::PAYLOAD_TOO_LARGE, message.to_owned());
    let Value::String(encoded) = value else {
        return Err(bad("Requirements file must be valid base64-encoded data"));
    };
    if encoded.len() > ENCODED_AT_MOST {
        return Err(too_large(FILE_TOO_LARGE));
    }
    let decoded = decode(encoded).ok_or_else(|| bad("Requirements file must be valid base64-encoded data"))?;
    let text = std::str::from_utf8(&decoded).map_err(|_| bad("Requirements file must be valid UTF-8 text"))?;
    if text.len() > DECODED_AT_MOST && text.chars().count() > DECODED_AT_MOST {
        return Err(too_large("Decoded requirements file too large (max 5MB)"));
    }
    Ok(decoded)
}

/// Control characters, blanks and Unicode separators: no name of an image has any of them.
fn has_odd_characters(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kind_matters_only_with_a_file() {
        assert_eq!(kind("rust", false), Ok(None));
        assert!(kind("rust", true).is_err());
        assert!(kind("python\nrust", false).is_err());
        assert_eq!(kind("python", true), Ok(Some(Kind::Python)));
    }
}
