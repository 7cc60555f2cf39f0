//! `POST …/build/start`: takes a build and answers as soon as it is durably queued.

use axum::{
    Extension,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use kiln_auth::{Identity, Origin, ScopedTarget, Target};
use serde_json::{Map, Value};

use super::{
    OpenServerless,
    envelope::ok,
    fields::{self, Fault, bad},
    refused, require_environment,
    shallow::Body,
};
use crate::{
    builds::{Receipt, Request, Submission},
    registry::BaseRef,
};

pub(super) async fn start(
    State(door): State<OpenServerless>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Err(fault) = require_environment(&identity, true) {
        return fault.into_response();
    }
    let submission = match submission(&door, &identity, origin, &headers, body) {
        Ok(submission) => submission,
        Err(fault) => return fault.into_response(),
    };
    match door.builds.accept(submission).await {
        Ok(Receipt::Queued(id)) => {
            let job = format!("build-{}-{id}", identity.user());
            let message = format!("Build process initiated successfully. Job: {job}");
            let data = Map::from_iter([("id".to_owned(), id.to_string().into()), ("job_name".to_owned(), job.into())]);
            ok(StatusCode::OK, &message, data)
        }
        // Only `ensure` gives a key by which builds are found again.
        Ok(Receipt::Existing(_)) => super::error(StatusCode::INTERNAL_SERVER_ERROR, "Build process failed."),
        Err(error) => refused(&error),
    }
}

fn submission(
    door: &OpenServerless,
    identity: &Identity,
    origin: Origin,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Submission, Fault> {
    fields::require_json(headers)?;
    let object = object(&fields::received(body, fields::FILE_TOO_LARGE)?)?;
    // What is missing comes first, then whose the target is: the real service looks at nothing else.
    let source = fields::present(&object, "source")?;
    let target = fields::present(&object, "target")?;
    let kind = fields::present(&object, "kind")?;
    let target = scoped(identity, fields::text(target, "target")?)?;
    let source = BaseRef::parse(fields::text(source, "source")?)
        .map_err(|e| bad(format!("Invalid source for the build: {e}.")))?;
    let kind = fields::kind(fields::text(kind, "kind")?, object.contains_key("file"))?;
    let file = object.get("file").map(fields::file).transpose()?;
    let request = Request {
        source: source.to_string(),
        kind,
        extend: file.is_some(),
        any_target: identity.scope().is_unbounded(),
        ..Request::default()
    };
    complete(door, identity, origin, target, request, file)
}

/// An empty list counts as an object without fields, as there.
fn object(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    match fields::parse(body)? {
        Body::Object(object) => Ok(object),
        Body::EmptyList => Ok(Map::new()),
        Body::Null => Err(bad("No JSON payload provided for build.")),
        Body::Other => Err(bad("The JSON payload must be an object.")),
    }
}

/// Adds where the image goes and what of the user's settings the run will need.
pub(super) fn complete(
    door: &OpenServerless,
    identity: &Identity,
    origin: Origin,
    target: ScopedTarget,
    request: Request,
    file: Option<Vec<u8>>,
) -> Result<Submission, Fault> {
    Submission::new(origin, identity, &door.registry, target, request, file).map_err(|e| bad(e.to_string()))
}

/// The real service compares what stands before the first `:` with the user, and nothing else;
/// here the rest must be a tag too.
fn scoped(identity: &Identity, text: &str) -> Result<ScopedTarget, Fault> {
    let invalid = || bad("Invalid target for the build.");
    let target = Target::parse(text).map_err(|_| invalid())?;
    if !identity.scope().is_unbounded() && target.repository() != identity.user().as_str() {
        return Err(invalid());
    }
    identity.scope().admit(target).map_err(|_| invalid())
}

/// The fields of an answer as a map.
pub(super) fn data<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
