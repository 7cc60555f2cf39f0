//! `capabilities`, `ensure` and `GET build/<id>`: builds found again by what they are made of.

use aws_lc_rs::digest;
use axum::{
    Extension,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kiln_auth::{Identity, Origin, Target};
use serde_json::{Map, Value, json};

use super::{
    OpenServerless,
    catalog::Builder,
    envelope::{ko, ok},
    fields::{self, Fault, bad},
    internal, refused,
    start::{complete, data},
};
use crate::{
    builds::{Receipt, Request, Submission},
    doors::base64_text::decode,
    ledger::{Build, Content, State as BuildState},
    registry::BaseRef,
};

/// Characters of base64; the proposal's bound.
const ENCODED_AT_MOST: usize = 750_000;
/// Decoded bytes; likewise.
const DECODED_AT_MOST: usize = 512 * 1024;

const NO_PAYLOAD: &str = "No JSON payload provided";
const FILE_TOO_LARGE: &str = "Build file is too large";

pub(super) async fn capabilities(State(door): State<OpenServerless>) -> Response {
    let builders: Vec<Value> =
        door.catalog.iter().map(|(id, builder)| json!({ "id": id, "kind": builder.kind.as_str() })).collect();
    ok(StatusCode::OK, "Builder capabilities retrieved", data([("builders", builders.into())]))
}

pub(super) async fn ensure(
    State(door): State<OpenServerless>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let (id, submission) = match submission(&door, &identity, origin, &headers, body) {
        Ok(made) => made,
        Err(fault) => return fault.into_response(),
    };
    match door.builds.accept(submission).await {
        Ok(Receipt::Queued(build)) => {
            let job = job_name(&identity, &id);
            tracing::debug!(%build, content = id, "ensure made a build");
            ok(StatusCode::ACCEPTED, "Build queued", fields(&id, &job, "queued", Value::Null))
        }
        Ok(Receipt::Existing(build)) => describe(&door, &identity, &id, &build),
        Err(error) => refused(&error),
    }
}

pub(super) async fn build(
    State(door): State<OpenServerless>,
    Extension(identity): Extension<Identity>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    // One that isn't UTF-8 is no id either.
    let id = id.map(|Path(id)| id).unwrap_or_default();
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return ko(StatusCode::BAD_REQUEST, "Invalid build id");
    }
    match door.builds.by_content(identity.user(), &id).await {
        Ok(Some(build)) => describe(&door, &identity, &id, &build),
        Ok(None) => ko(StatusCode::NOT_FOUND, "Build not found"),
        Err(error) => internal(&error, "Build process failed."),
    }
}

fn submission(
    door: &OpenServerless,
    identity: &Identity,
    origin: Origin,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(String, Submission), Fault> {
    fields::require_json(headers)?;
    let object = fields::object(&fields::received(body, FILE_TOO_LARGE)?, NO_PAYLOAD)?;
    if object.is_empty() {
        return Err(bad(NO_PAYLOAD));
    }
    let name = object.get("builder").and_then(Value::as_str).unwrap_or_default();
    let builder = door.catalog.get(name).ok_or_else(|| bad(format!("Unknown builder: {}", printable(name))))?;
    let file = file(object.get("file"))?;
    let retry = object.get("retry").and_then(Value::as_bool).unwrap_or(false);
    let id = content_id(name, builder, &file);
    let tag = format!("{}-{}", builder.kind.as_str(), &id[..20]);
    let target = Target::parse(&format!("{}:{tag}", identity.user())).map_err(|e| bad(e.to_string()))?;
    let target = identity.scope().admit(target).map_err(|e| bad(e.to_string()))?;
    let source = BaseRef::parse(&builder.source).map_err(|e| bad(e.to_string()))?;
    let request = Request {
        source: source.to_string(),
        kind: Some(builder.kind),
        extend: true,
        any_target: identity.scope().is_unbounded(),
        ..Request::default()
    };
    // The proposal passes over the user's own registry settings: `image` names the installation's registry.
    let nobodys_settings = Identity::new(identity.user().clone(), identity.provider());
    let mut submission = complete(door, &nobodys_settings, origin, target, request, Some(file))?;
    submission.content = Some(Content { id: id.clone(), retry });
    Ok((id, submission))
}

fn file(value: Option<&Value>) -> Result<Vec<u8>, Fault> {
    let encoded = match value {
        Some(Value::String(text)) if !text.is_empty() => text,
        _ => return Err(bad("Build file must be a non-empty base64 string")),
    };
    if encoded.len() > ENCODED_AT_MOST {
        return Err(bad(FILE_TOO_LARGE));
    }
    let decoded = decode(encoded).filter(|bytes| std::str::from_utf8(bytes).is_ok());
    let decoded = decoded.ok_or_else(|| bad("Build file must be valid base64-encoded UTF-8 text"))?;
    if decoded.len() > DECODED_AT_MOST { Err(bad("Decoded build file is too large")) } else { Ok(decoded) }
}

/// SHA-256 over the proposal's fields; ids of two owners may be equal, their builds aren't.
fn content_id(name: &str, builder: &Builder, file: &[u8]) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"openserverless-runtime-builder-v1\0");
    for field in [name.as_bytes(), builder.kind.as_str().as_bytes(), builder.source.as_bytes()] {
        hash.update(field);
        hash.update(b"\0");
    }
    hash.update(file);
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn describe(door: &OpenServerless, identity: &Identity, id: &str, build: &Build) -> Response {
    let job = job_name(identity, id);
    let (status, message, state) = match build.state {
        BuildState::Succeeded => (StatusCode::OK, "Build succeeded", "succeeded"),
        BuildState::Queued => (StatusCode::ACCEPTED, "Build queued", "queued"),
        BuildState::Running | BuildState::Pushed => (StatusCode::ACCEPTED, "Build running", "running"),
        BuildState::Failed | BuildState::Cancelled => {
            let why = build.failure.as_ref().map(ToString::to_string).unwrap_or_default();
            return ko(StatusCode::CONFLICT, &format!("Build failed: {why}"));
        }
    };
    let host = door.pull_host.as_deref().unwrap_or(&build.registry);
    let image = if state == "succeeded" { format!("{host}/{}", build.target).into() } else { Value::Null };
    ok(status, message, fields(id, &job, state, image))
}

fn fields(id: &str, job: &str, state: &str, image: Value) -> Map<String, Value> {
    data([("id", id.into()), ("image", image), ("job_name", job.into()), ("state", state.into())])
}

/// `build-<user, 24 characters at most>-<id, 20 characters>`, as proposed.
fn job_name(identity: &Identity, id: &str) -> String {
    let user = identity.user().as_str();
    format!("build-{}-{}", &user[..user.len().min(24)], &id[..20])
}

/// A caller's text in a message: bounded, without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
