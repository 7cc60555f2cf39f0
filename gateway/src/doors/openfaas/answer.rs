//! What a build became, with its log: read from disk as it is sent, whatever its length.

use std::{convert::Infallible, fmt::Write as _, time::Instant};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{StatusCode, header};
use kiln_backends::Reason;

use super::{
    dialect::{Dialect, Fault, quoted},
    lines::Lines,
};
use crate::{
    builds::Attached,
    ledger::{Build, State},
    log::Reader,
};

/// How much of a log goes into one chunk.
const CHUNK: usize = 32 * 1024;

/// A log on its way out.
struct Sent {
    reader: Option<Reader>,
    lines: Lines,
    /// What follows the log.
    tail: Option<String>,
    first: bool,
}

/// The answer about a build that has ended.
pub(super) async fn of(dialect: Dialect, image: &str, build: &Build, attached: &Attached, begun: Instant) -> Response {
    let (status, text) = outcome(build);
    let tail = match (dialect, status) {
        (Dialect::Text, StatusCode::OK) => return whole(dialect, status, image.to_owned()),
        (Dialect::Text, _) => return whole(dialect, status, text),
        // The log comes first in the object, as there; this goes on behind it.
        (Dialect::OfBuilder, _) => {
            let text = if status == StatusCode::OK { "success".to_owned() } else { format!("failure: {text}") };
            format!(r#"],"imageName":{},"status":{}}}"#, quoted(image), quoted(&text))
        }
        (Dialect::Pro, _) => {
            let text = if status == StatusCode::OK { "success" } else { &text };
            let took = begun.elapsed().as_secs_f64();
            format!(r#"],"image":{},"status":{},"duration":{took:.3}}}"#, quoted(image), quoted(text))
        }
    };
    let reader = match attached.log().await {
        Ok(reader) => reader,
        Err(error) => return dialect.fault(&Fault::internal(&error)),
    };
    let sent = Sent { reader, lines: Lines::new(dialect), tail: Some(tail), first: true };
    let chunks = stream::unfold(sent, |mut sent| async { Some((Ok::<_, Infallible>(sent.chunk().await?), sent)) });
    respond(dialect, status, Body::from_stream(chunks))
}

/// The status, and what to say where it isn't 200.
pub(super) fn outcome(build: &Build) -> (StatusCode, String) {
    let text = build.failure.as_ref().map_or_else(String::new, |failure| failure.message.clone());
    let status = match (build.state, build.failure.as_ref().map(|failure| failure.reason)) {
        (State::Succeeded, _) => StatusCode::OK,
        (_, Some(Reason::EngineUnavailable | Reason::Interrupted)) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, text)
}

fn whole(dialect: Dialect, status: StatusCode, text: String) -> Response {
    respond(dialect, status, Body::from(text))
}

fn respond(dialect: Dialect, status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, dialect.content_type());
    response
}

impl Sent {
    /// The next piece; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        let mut text = String::new();
        if self.first {
            text.push_str("{\"log\":[");
        }
        while let Some(reader) = &mut self.reader {
            let record = match reader.next().await {
                Ok(Some(record)) => record,
                Ok(None) => {
                    self.reader = None;
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "a log can't be read");
                    self.reader = None;
                    break;
                }
            };
            if let Some(line) = self.lines.line(&record) {
                let comma = if std::mem::take(&mut self.first) { "" } else { "," };
                // Writing to a string can't fail.
                let _ = write!(text, "{comma}{}", quoted(&line));
            }
            if text.len() >= CHUNK {
                return Some(text.into());
            }
        }
        text.push_str(&self.tail.take()?);
        Some(text.into())
    }
}
