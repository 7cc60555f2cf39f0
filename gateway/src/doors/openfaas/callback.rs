//! `X-Callback-Url`: the answer comes there when the build has ended, as OpenFaaS's queue worker brings a function's.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use kiln_auth::UserName;

use super::{
    OpenFaas,
    answer::outcome,
    dialect::{Dialect, Fault, quoted},
    lines::Lines,
};
use crate::{
    builds::Builds,
    ledger::{Build, LedgerError, Style, Webhook},
    webhooks::{Message, Wanted},
};

/// The names that OpenFaaS has for them.
const CALLBACK_URL: &str = "x-callback-url";
const CALL_ID: &str = "x-call-id";
/// How much of a log is sent, bytes of text: a message is signed, so it is in memory as a whole.
const LOG_AT_MOST: usize = 256 * 1024;
const LOG_LEFT_OUT: &str = "the rest of the log is left out here; it is at /v1/builds/<id>/log";

/// Where the caller wants the answer, if not on this connection.
pub(super) fn wanted(
    door: &OpenFaas,
    headers: &HeaderMap,
    dialect: Dialect,
    owner: &UserName,
    image: &str,
) -> Result<Option<Wanted>, Fault> {
    let Some(url) = headers.get(CALLBACK_URL) else { return Ok(None) };
    let bad = |error: &dyn std::fmt::Display| Fault::bad(format!("X-Callback-Url: {error}"));
    let url = url.to_str().map_err(|_| bad(&"no URL"))?;
    let style = if dialect == Dialect::Pro { Style::Pro } else { Style::OfBuilder };
    let wanted = door.webhooks.look(owner, style, url, None).map_err(|error| bad(&error))?;
    Ok(Some(wanted.image(image.to_owned())))
}

/// The answer to who doesn't wait.
pub(super) fn later(id: kiln_backends::BuildId) -> Response {
    (StatusCode::ACCEPTED, [(CALL_ID, id.to_string())]).into_response()
}

/// What the receiver is told.
pub(crate) async fn told(builds: &Builds, build: &Build, webhook: &Webhook) -> Result<Message, LedgerError> {
    let dialect = if webhook.style == Style::Pro { Dialect::Pro } else { Dialect::OfBuilder };
    let (status, text) = outcome(build);
    let took = build.finished_at.map_or(0.0, |end| end.duration_since(build.accepted_at).as_secs_f64());
    let image = quoted(webhook.image.as_deref().unwrap_or_default());
    let succeeded = status == StatusCode::OK;
    let log = log(builds, build, dialect).await?;
    let body = match dialect {
        Dialect::Pro => {
            let text = quoted(if succeeded { "success" } else { &text });
            format!(r#"{{"log":[{log}],"image":{image},"status":{text},"duration":{took:.3}}}"#)
        }
        Dialect::OfBuilder | Dialect::Text => {
            let text = if succeeded { quoted("success") } else { quoted(&format!("failure: {text}")) };
            format!(r#"{{"log":[{log}],"imageName":{image},"status":{text}}}"#)
        }
    };
    let begun = build.accepted_at.as_nanosecond();
    let message = Message::new(dialect.content_type(), body).with(CALL_ID, &build.id.to_string());
    let message = message.with("x-function-status", status.as_str()).with("x-function-name", "build");
    Ok(message.with("x-duration-seconds", &format!("{took:.6}")).with("x-start-time", &begun.to_string()))
}

/// The log's lines as a JSON array has them between its brackets.
async fn log(builds: &Builds, build: &Build, dialect: Dialect) -> Result<String, LedgerError> {
    let (mut lines, mut text) = (Lines::new(dialect), String::new());
    let Some(mut reader) = builds.log(build.owner(), build.id, 0, false).await? else { return Ok(text) };
    loop {
        let record = match reader.next().await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(text),
            Err(error) => {
                tracing::error!(build = %build.id, %error, "a log can't be read");
                return Ok(text);
            }
        };
        let Some(line) = lines.line(&record) else { continue };
        let line = quoted(&line);
        let comma = if text.is_empty() { "" } else { "," };
        if text.len() + line.len() > LOG_AT_MOST {
            return Ok(format!("{text}{comma}{}", quoted(LOG_LEFT_OUT)));
        }
        text.push_str(comma);
        text.push_str(&line);
    }
}
