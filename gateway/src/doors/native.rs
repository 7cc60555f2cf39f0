//! Kiln's own API: builds as JSON, logs as server-sent events, errors as problem details.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use kiln_auth::{Identity, Origin, Target};
use kiln_backends::BuildId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{base64_text::decode, oversight};
use crate::{
    admission::Class,
    builds::{Builds, QueueFull, Receipt, Refused, Request, Submission},
    config::Sizes,
    ledger::{Build, LedgerError},
    log::{Reader, Record},
    recipes::Kind,
    registry::{BaseRef, ProcessRegistry},
    rescue::{problem, retry_after},
    stack::Guard,
};

/// A comment line so often keeps proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest requirements file, bytes.
const FILE_AT_MOST: usize = 5_000_000;
/// When to try again after a full queue or disk, in seconds: a build takes some.
const PLACES_AFTER: u64 = 10;
/// The longest list.
const LIST_AT_MOST: u32 = 100;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Native {
    /// Builds.
    pub builds: Builds,
    /// Where images go.
    pub registry: Arc<ProcessRegistry>,
    /// The size classes.
    pub sizes: Arc<Sizes>,
}

/// The door's routes.
pub fn routes(native: &Native, guard: &Guard) -> Router {
    Router::new()
        .route("/v1/builds", guard.protect(Class::Submit, post(create)))
        .route("/v1/builds", guard.protect(Class::Read, get(list)))
        .route("/v1/builds/{id}", guard.protect(Class::Read, get(one)))
        .route("/v1/builds/{id}/log", guard.protect(Class::Stream, get(log)))
        .route("/v1/builds/{id}/cancel", guard.protect(Class::Read, post(cancel)))
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED, "no such method here"))
        .with_state(native.clone())
}

#[derive(Debug, Deserialize)]
struct ListParams {
    owner: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LogParams {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    after: u64,
}

/// A build to be made. Without a file the base gets a new name only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBuild {
    source: String,
    target: String,
    kind: Option<Kind>,
    file: Option<String>,
    size: Option<String>,
}

async fn create(
    State(native): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    body: Result<Json<NewBuild>, JsonRejection>,
) -> Response {
    let submission = match body
        .map_err(|e| Fault(e.status(), e.body_text()))
        .and_then(|Json(body)| submission(&native, &identity, origin, body))
    {
        Ok(submission) => submission,
        Err(Fault(status, text)) => return problem(status, &text),
    };
    let id = match native.builds.accept(submission).await {
        Ok(Receipt::Queued(id)) => id,
        Ok(Receipt::Existing(build)) => build.id,
        Err(refused) => return refusal(&refused),
    };
    match native.builds.get(identity.user(), id).await {
        Ok(Some(build)) => (StatusCode::ACCEPTED, Json(describe(&build))).into_response(),
        Ok(None) => missing(),
        Err(error) => internal(&error),
    }
}

/// A request can't be taken: the status and the sentence.
struct Fault(StatusCode, String);

fn bad(text: impl Into<String>) -> Fault {
    Fault(StatusCode::BAD_REQUEST, text.into())
}

fn submission(native: &Native, identity: &Identity, origin: Origin, body: NewBuild) -> Result<Submission, Fault> {
    let target = Target::parse(&body.target).map_err(|e| bad(format!("target: {e}")))?;
    let foreign = |e| Fault(StatusCode::FORBIDDEN, format!("target: {e}"));
    let target = identity.scope().admit(target).map_err(foreign)?;
    let source = BaseRef::parse(&body.source).map_err(|e| bad(format!("source: {e}")))?;
    let file = body.file.map(|file| decode(&file).ok_or_else(|| bad("file: no standard base64"))).transpose()?;
    if file.as_ref().is_some_and(|file| file.len() > FILE_AT_MOST) {
        return Err(Fault(StatusCode::PAYLOAD_TOO_LARGE, format!("file: longer than {FILE_AT_MOST} bytes")));
    }
    if file.as_ref().is_some_and(|file| std::str::from_utf8(file).is_err()) {
        return Err(bad("file: no UTF-8 text"));
    }
    if file.is_some() && body.kind.is_none() {
        return Err(bad("kind: needed with a file"));
    }
    if native.sizes.get(body.size.as_deref()).is_none() {
        return Err(bad(format!("size: there is no such class; there are {}", native.sizes.names())));
    }
    let request = Request {
        source: source.to_string(),
        kind: body.kind,
        extend: file.is_some(),
        size: body.size,
        any_target: identity.scope().is_unbounded(),
        ..Request::default()
    };
    Submission::new(origin, identity, &native.registry, target, request, file).map_err(|e| bad(e.to_string()))
}

fn refusal(refused: &Refused) -> Response {
    tracing::warn!(error = %refused, "a build was not accepted");
    match refused {
        Refused::Queue(QueueFull::Owner(_)) => {
            retry_after(problem(StatusCode::TOO_MANY_REQUESTS, &refused.to_string()), PLACES_AFTER)
        }
        Refused::Ledger(_) | Refused::Seal(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
        _ => retry_after(problem(StatusCode::SERVICE_UNAVAILABLE, &refused.to_string()), PLACES_AFTER),
    }
}

async fn list(
    State(Native { builds, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Response {
    let params = match params {
        Ok(Query(params)) => params,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let Some(owner) = oversight::named(&identity, params.owner.as_deref()) else {
        return problem(StatusCode::NOT_FOUND, "no such owner");
    };
    oversight::note("list", &identity, origin, &owner, None);
    match builds.newest(&owner, LIST_AT_MOST).await {
        Ok(builds) => Json(json!({ "builds": builds.iter().map(describe).collect::<Vec<_>>() })).into_response(),
        Err(error) => internal(&error),
    }
}

async fn one(
    State(Native { builds, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let Some(id) = parsed(id) else { return missing() };
    let found = async {
        let Some(owner) = oversight::owner_of(&builds, &identity, id).await? else { return Ok(None) };
        let build = builds.get(&owner, id).await?;
        Ok(build.inspect(|_| oversight::note("read", &identity, origin, &owner, Some(id))))
    };
    match found.await {
        Ok(Some(build)) => Json(describe(&build)).into_response(),
        Ok(None) => missing(),
        Err(error) => internal(&error),
    }
}

async fn cancel(
    State(Native { builds, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let Some(id) = parsed(id) else { return missing() };
    let cancelled = async {
        let Some(owner) = oversight::owner_of(&builds, &identity, id).await? else { return Ok(None) };
        builds.cancel(&owner, id, identity.user(), origin).await
    };
    match cancelled.await {
        Ok(Some(state)) => {
            (StatusCode::ACCEPTED, Json(json!({ "id": id.to_string(), "state": state.as_str() }))).into_response()
        }
        Ok(None) => missing(),
        Err(error) => internal(&error),
    }
}

/// The log as server-sent events; `Last-Event-ID`, or `after`, is the last record already seen.
async fn log(
    State(Native { builds, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    id: Result<Path<String>, PathRejection>,
    params: Result<Query<LogParams>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Some(id) = parsed(id) else { return missing() };
    let params = match params {
        Ok(Query(params)) => params,
        Err(rejection) => return problem(rejection.status(), &rejection.body_text()),
    };
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let opened = async {
        let Some(owner) = oversight::owner_of(&builds, &identity, id).await? else { return Ok(None) };
        let reader = builds.log(&owner, id, seen.unwrap_or(params.after), params.follow).await?;
        Ok(reader.inspect(|_| oversight::note("log", &identity, origin, &owner, Some(id))))
    };
    match opened.await {
        Ok(Some(reader)) => {
            let events = stream::unfold(reader, |mut reader| async { Some((next(&mut reader).await?, reader)) });
            Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
        }
        Ok(None) => missing(),
        Err(error) => internal(&error),
    }
}

async fn next(reader: &mut Reader) -> Option<Result<Event, Infallible>> {
    match reader.next().await {
        Ok(record) => record.map(|record| Ok(event(&record))),
        Err(error) => {
            tracing::error!(%error, "a log can't be read");
            None
        }
    }
}

/// `text` where the bytes are UTF-8, else `base64`: output may be cut within a character.
fn event(record: &Record) -> Event {
    let (field, value) = match std::str::from_utf8(&record.bytes) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", BASE64_STANDARD.encode(&record.bytes)),
    };
    let data = json!({ "time": record.time.to_string(), "step": record.step, field: value });
    Event::default().id(record.seq.to_string()).event(record.kind.as_str()).data(data.to_string())
}

fn describe(build: &Build) -> Value {
    json!({
        "id": build.id.to_string(),
        "owner": build.owner().as_str(),
        "state": build.state.as_str(),
        // A Dockerfile of the caller's may name several.
        "source": Some(&build.request.source).filter(|source| !source.is_empty()),
        "kind": build.request.kind,
        "size": build.request.size,
        "image": format!("{}/{}", build.registry, build.target),
        "digest": build.digest,
        "extender": build.extender,
        "attempt": build.attempt,
        "accepted": build.accepted_at.to_string(),
        "started": build.started_at.map(|t| t.to_string()),
        "finished": build.finished_at.map(|t| t.to_string()),
        "failure": build.failure,
    })
}

/// A build's id; what isn't one, UTF-8 or not, is no build's.
fn parsed(id: Result<Path<String>, PathRejection>) -> Option<BuildId> {
    id.ok()?.parse().ok()
}

fn missing() -> Response {
    problem(StatusCode::NOT_FOUND, "no such build")
}

fn internal(error: &LedgerError) -> Response {
    tracing::error!(%error, "the ledger failed");
    problem(StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
}
