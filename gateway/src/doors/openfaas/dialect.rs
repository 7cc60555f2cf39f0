//! The three dialects of the builders, and what is wrong with a request, said in each.

use std::io;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kiln_auth::signature::SignatureHeader;

use crate::{
    archive::{config::NamedBy, no_room, package::Layout, package::Package},
    rescue::retry_after,
};

/// When to try again what there was no room for, in seconds.
const ROOM_AFTER: u64 = 30;

/// How answers are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Dialect {
    /// Of-builder before 0.5.1: bare text.
    Text,
    /// Of-builder: JSON with `imageName`, sent as text.
    #[default]
    OfBuilder,
    /// The pro-builder: JSON with `image`.
    Pro,
}

/// A request that didn't become a build.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    /// For the caller: no paths of this machine, no secrets.
    pub(super) text: String,
    /// When to try again, in seconds.
    pub(super) retry_after: Option<u64>,
}

impl Dialect {
    /// The dialect of whoever signs so. Kiln's own header is for new clients, so they get the newest.
    pub(super) fn of_signature(headers: &HeaderMap) -> Option<Self> {
        SignatureHeader::ALL.into_iter().find(|header| headers.contains_key(header.name())).map(|header| match header {
            SignatureHeader::Cloud => Self::OfBuilder,
            SignatureHeader::Build | SignatureHeader::Kiln => Self::Pro,
        })
    }

    /// The dialect of an unsigned archive.
    pub(super) fn of_package(package: &Package) -> Self {
        match (package.layout, package.config.named_by) {
            (Layout::Old, _) => Self::Text,
            (Layout::Current, NamedBy::Ref) => Self::OfBuilder,
            (Layout::Current, NamedBy::Image) => Self::Pro,
        }
    }

    /// What the body is sent as. Of-builder's was guessed from its bytes.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text | Self::OfBuilder => "text/plain; charset=utf-8",
            Self::Pro => "application/json",
        })
    }

    /// The answer to a request that didn't become a build.
    pub(super) fn fault(self, fault: &Fault) -> Response {
        let text = &fault.text;
        let body = match self {
            Self::Text => text.clone(),
            Self::OfBuilder => {
                let status = quoted(&format!("unexpected failure: {text}"));
                format!(r#"{{"log":null,"imageName":"","status":{status}}}"#)
            }
            Self::Pro => format!(r#"{{"log":[],"image":"","status":{},"duration":0}}"#, quoted(text)),
        };
        let response = (fault.status, [(header::CONTENT_TYPE, self.content_type())], body).into_response();
        match fault.retry_after {
            Some(seconds) => retry_after(response, seconds),
            None => response,
        }
    }
}

impl Fault {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None }
    }

    /// The caller's archive or configuration can't be built.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// Not now.
    pub(super) fn busy(status: StatusCode, text: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(status, text) }
    }

    /// The spool can't be read or written: that is the operator's business, unless its disk has too little
    /// left, which others' bodies may take and give back.
    pub(super) fn of_spool(error: &(dyn std::error::Error + 'static), cause: &io::Error) -> Self {
        match no_room(cause) {
            Some(text) => Self::busy(StatusCode::SERVICE_UNAVAILABLE, text, ROOM_AFTER),
            None => Self::internal(error),
        }
    }

    /// A fault of Kiln's own, told to the operator alone.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = crate::serve::causes(error);
        tracing::error!(error = causes, "a request failed through no fault of its caller");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the gateway can't take archives; the operator's log says why")
    }
}

/// A JSON string as the builders write it, for those who compare bytes: what HTML gives a meaning is
/// escaped.
pub(super) fn quoted(text: &str) -> String {
    let text = serde_json::Value::from(text).to_string();
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return text;
    }
    text.chars().fold(String::with_capacity(text.len() + 16), |mut out, c| {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_chooses_the_dialect() {
        for (header, dialect) in [
            ("x-cloud-signature", Some(Dialect::OfBuilder)),
            ("x-build-signature", Some(Dialect::Pro)),
            ("x-kiln-signature", Some(Dialect::Pro)),
            ("accept", None),
        ] {
            let headers = HeaderMap::from_iter([(header.parse().unwrap(), HeaderValue::from_static("x"))]);
            assert_eq!(Dialect::of_signature(&headers), dialect, "{header}");
        }
    }

    #[test]
    fn strings_are_escaped_as_there_and_stay_the_same_strings() {
        let text = "echo two >&2; <a>\u{2028}\n";
        assert_eq!(quoted(text), r#""echo two \u003e\u00262; \u003ca\u003e\u2028\n""#);
        assert_eq!(serde_json::from_str::<String>(&quoted(text)).unwrap(), text);
    }
}
