//! `GET /v1/builds/{id}/log`: from any record on, as it grows and after; as events, JSON lines or text.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::{
    Native,
    asked::Asked,
    fault::{Fault, query},
};
use crate::log::{Reader, Record, RecordKind};

/// A sign of life so often keeps proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What such a line says. It has no `seq`, so whoever comes back doesn't name it.
const BEAT: &str = "{\"kind\":\"heartbeat\"}\n";
const NDJSON: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// Whether to go on as the build does, to its end.
    #[serde(default)]
    follow: bool,
    /// The last record already seen.
    #[serde(default)]
    after: u64,
}

/// A record of the log, as an event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of what `events` writes")]
struct LogEvent {
    /// The record's number.
    id: String,
    /// Its kind.
    event: String,
    /// JSON: `time`, `step`, and what was said as `text`, or as `base64` where it isn't UTF-8.
    data: String,
}

/// A build's log, in the form that `Accept` names.
///
/// `Last-Event-ID`, or `after`, is the last record already seen.
#[utoipa::path(
    get, path = "/v1/builds/{id}/log", tag = "builds", operation_id = "build_log",
    params(
        ("id" = uuid::Uuid, Path, description = "the build's"),
        LogParams,
        ("Last-Event-ID" = Option<u64>, Header, description = "goes before `after`"),
    ),
    responses(
        (
            status = 200,
            content((LogEvent = "text/event-stream"), (String = "application/x-ndjson"), (String = "text/plain; charset=utf-8")),
        ),
        (status = 400, description = "no such place in a log"),
        (status = 404, description = "no such build"),
    )
)]
pub(super) async fn log(
    State(Native { builds, .. }): State<Native>,
    asked: Asked,
    params: Result<Query<LogParams>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let params = query(params)?;
    let after = seen(&headers)?.unwrap_or(params.after);
    let owner = asked.owner(&builds).await?;
    let reader = builds.log(&owner, asked.id, after, params.follow).await?.ok_or_else(Fault::missing)?;
    asked.note("log", &owner);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    Ok(if accept.contains(NDJSON) {
        pieces(NDJSON, lines(reader))
    } else if accept.contains(TEXT) {
        as_text(reader)
    } else {
        Sse::new(events(reader)).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
    })
}

/// The log as it would be read.
pub(in crate::doors) fn as_text(reader: Reader) -> Response {
    pieces("text/plain; charset=utf-8", texts(reader))
}

fn seen(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let parse = |id: &HeaderValue| id.to_str().ok()?.parse().ok();
    let bad = || Fault::bad("Last-Event-ID: the number of a record");
    headers.get("last-event-id").map(|id| parse(id).ok_or_else(bad)).transpose()
}

fn pieces(kind: &'static str, body: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // What a build prints is no page, whatever it looks like.
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(reader, async |mut reader| {
        let record = next(&mut reader).await?;
        let data = Value::Object(data(&record));
        let event = Event::default().id(record.seq.to_string()).event(record.kind.as_str()).data(data.to_string());
        Some((Ok(event), reader))
    })
}

fn lines(reader: Reader) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(reader, async |mut reader| {
        let line = match timeout(HEARTBEAT, next(&mut reader)).await {
            Ok(record) => line(&record?),
            Err(_) => Bytes::from_static(BEAT.as_bytes()),
        };
        Some((Ok(line), reader))
    })
}

fn line(record: &Record) -> Bytes {
    let mut fields = data(record);
    fields.insert("seq".to_owned(), record.seq.into());
    fields.insert("kind".to_owned(), record.kind.as_str().into());
    format!("{}\n", Value::Object(fields)).into()
}

fn texts(reader: Reader) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(reader, async |mut reader| Some((Ok(text(&next(&mut reader).await?)), reader)))
}

/// As it would be read: output as it was written, all else as a line of its own.
fn text(record: &Record) -> Bytes {
    match record.kind {
        RecordKind::Stdout | RecordKind::Stderr => record.bytes.clone(),
        kind => {
            let text = String::from_utf8_lossy(&record.bytes);
            format!("#{} {}: {text}\n", record.step, kind.as_str()).into()
        }
    }
}

async fn next(reader: &mut Reader) -> Option<Record> {
    reader.next().await.unwrap_or_else(|error| {
        tracing::error!(%error, "a log can't be read");
        None
    })
}

/// `text` where the bytes are UTF-8, else `base64`: output may be cut within a character.
fn data(record: &Record) -> serde_json::Map<String, Value> {
    let (field, value) = match std::str::from_utf8(&record.bytes) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", BASE64_STANDARD.encode(&record.bytes)),
    };
    serde_json::Map::from_iter([
        ("time".to_owned(), record.time.to_string().into()),
        ("step".to_owned(), record.step.into()),
        (field.to_owned(), value.into()),
    ])
}
