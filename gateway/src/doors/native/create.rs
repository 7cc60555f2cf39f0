//! `POST /v1/builds`: a build to be made, once for each idempotency key.

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, Uri, header};
use kiln_auth::{Identity, Origin, ScopedTarget, Target};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Native, fault::Fault, upload::UploadParams, view::View, webhook::NewWebhook};
use crate::{
    builds::{Receipt, Request, Submission, hash_of},
    doors::base64_text::decode,
    ledger::{Build, Content},
    recipes::Kind,
    registry::BaseRef,
    webhooks::Wanted,
};

/// The longest requirements file, bytes.
const FILE_AT_MOST: usize = 5_000_000;
/// The name of draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The longest key, bytes: a UUID or a hash, with room.
const KEY_AT_MOST: usize = 255;

/// A build to be made. Without a file the base gets a new name only.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBuild {
    /// The base image.
    source: String,
    /// `user:tag` or `user/path:tag`.
    target: String,
    /// What the file is.
    kind: Option<Kind>,
    /// The requirements file, in base64.
    file: Option<String>,
    /// A size class; the gateway's own unless told.
    size: Option<String>,
    /// Builds whatever there is already.
    #[serde(default)]
    fresh: bool,
    /// Where to tell of it.
    webhook: Option<NewWebhook>,
}

/// Takes a build. It is kept once this is answered.
#[utoipa::path(
    post, path = "/v1/builds", tag = "builds", operation_id = "create_build",
    request_body(
        description = "requirements in JSON, or a folder with a Dockerfile as a tar, plain or compressed",
        content((NewBuild = "application/json"), (Vec<u8> = "application/x-tar"))
    ),
    params(UploadParams, ("Idempotency-Key" = Option<String>, Header, description = "makes a request that is sent twice one build")),
    responses(
        (status = 202, body = View<'_>, headers(("Location" = String, description = "the build"))),
        (
            status = 200, body = View<'_>,
            description = "the build of an earlier request with this key, or one of the same: it goes on, or its tag stands",
        ),
        (status = 400, description = "a field that can't be used"),
        (status = 403, description = "the target isn't the caller's"),
        (status = 415, description = "neither JSON nor a tar"),
        (status = 422, description = "a field is missing or of another type, or the key was another request's"),
    )
)]
pub(super) async fn create(
    State(native): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    uri: Uri,
    body: Result<Json<NewBuild>, JsonRejection>,
) -> Result<Response, Fault> {
    // Who thinks that they count would get another build than they asked for.
    if uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Fault::bad("the query has the options of a tar; those of JSON are in its body"));
    }
    let Json(body) = body.map_err(|rejection| Fault::new(rejection.status(), rejection.body_text()))?;
    let mut submission = submission(&native, &identity, origin, body)?;
    if let Some(id) = content_id(&headers)? {
        submission.request.fingerprint = Some(fingerprint(&submission));
        submission.content = Some(Content { id, retry: false });
    }
    let asked = submission.request.fingerprint.clone();
    let receipt = native.sharing.accept(submission).await?;
    answer(&native, &identity, receipt, asked.as_deref()).await
}

/// What became of a request with this fingerprint.
pub(super) async fn answer(
    native: &Native,
    identity: &Identity,
    receipt: Receipt,
    asked: Option<&str>,
) -> Result<Response, Fault> {
    match receipt {
        Receipt::Queued(id) => {
            let build = native.builds.get(identity.user(), id).await?.ok_or_else(Fault::missing)?;
            Ok(accepted(&build))
        }
        Receipt::Existing(build) if asked.is_none() || build.request.fingerprint.as_deref() == asked => {
            Ok((StatusCode::OK, Json(View::of(&build))).into_response())
        }
        Receipt::Existing(_) => {
            let text = "Idempotency-Key: another request of yours had this key; send a new one";
            Err(Fault::new(StatusCode::UNPROCESSABLE_ENTITY, text))
        }
    }
}

/// A build that was taken; 200 says that it has ended already.
pub(super) fn accepted(build: &Build) -> Response {
    let location = [(header::LOCATION, format!("/v1/builds/{}", build.id))];
    let status = if build.state.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, location, Json(View::of(build))).into_response()
}

fn submission(native: &Native, identity: &Identity, origin: Origin, body: NewBuild) -> Result<Submission, Fault> {
    let bad = |what: &str, error: &dyn std::fmt::Display| Fault::bad(format!("{what}: {error}"));
    let target = target(identity, &body.target)?;
    let source = BaseRef::parse(&body.source).map_err(|e| bad("source", &e))?;
    let file = body.file.map(|file| decode(&file).ok_or_else(|| bad("file", &"no standard base64"))).transpose()?;
    if file.as_ref().is_some_and(|file| file.len() > FILE_AT_MOST) {
        let text = format!("file: longer than {FILE_AT_MOST} bytes");
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    if file.as_ref().is_some_and(|file| std::str::from_utf8(file).is_err()) {
        return Err(bad("file", &"no UTF-8 text"));
    }
    if file.is_some() && body.kind.is_none() {
        return Err(bad("kind", &"needed with a file"));
    }
    size(native, body.size.as_deref())?;
    let request = Request {
        source: source.to_string(),
        kind: body.kind,
        extend: file.is_some(),
        size: body.size,
        fresh: body.fresh,
        any_target: identity.scope().is_unbounded(),
        ..Request::default()
    };
    let webhook = body.webhook.map(|webhook| webhook.wanted(&native.webhooks, identity.user())).transpose()?;
    let submission = Submission::new(origin, identity, &native.registry, target, request, file).map_err(Fault::bad)?;
    Ok(Submission { webhook, ..submission })
}

/// A target of the caller's own.
pub(super) fn target(identity: &Identity, text: &str) -> Result<ScopedTarget, Fault> {
    let target = Target::parse(text).map_err(|e| Fault::bad(format!("target: {e}")))?;
    identity.scope().admit(target).map_err(|e| Fault::new(StatusCode::FORBIDDEN, format!("target: {e}")))
}

/// Whether there is such a size class.
pub(super) fn size(native: &Native, size: Option<&str>) -> Result<(), Fault> {
    let missing = || Fault::bad(format!("size: there is no such class; there are {}", native.sizes.names()));
    native.sizes.get(size).map(drop).ok_or_else(missing)
}

/// What the ledger finds a request by that is sent again; keys are short, and of any characters, so a hash.
pub(super) fn content_id(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() || key.is_empty() || key.len() > KEY_AT_MOST {
        return Err(Fault::bad(format!("Idempotency-Key: one of 1 to {KEY_AT_MOST} bytes")));
    }
    Ok(Some(format!("key:{}", hash_of(&[key.as_bytes()]))))
}

/// What two requests with one key must have in common.
fn fingerprint(submission: &Submission) -> String {
    let Submission { registry, target, request, file, webhook, .. } = submission;
    let webhook = webhook.as_ref().map(Wanted::fingerprint);
    let kind = request.kind.map_or("", Kind::as_str);
    hash_of(&[
        registry.as_bytes(),
        target.to_string().as_bytes(),
        request.source.as_bytes(),
        kind.as_bytes(),
        request.size.as_deref().unwrap_or_default().as_bytes(),
        file.as_deref().map_or(b"-", |_| b"+"),
        file.as_deref().unwrap_or_default(),
        webhook.as_deref().unwrap_or_default().as_bytes(),
    ])
}
