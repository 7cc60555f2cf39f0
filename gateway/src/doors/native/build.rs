//! One build: looked at, waited for, cancelled, tried again.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::{
    Native,
    asked::Asked,
    create,
    fault::{Fault, query},
    view::View,
};
use crate::{builds::Receipt, ledger::State as BuildState};

/// How long `wait` waits, in seconds: unless told, and at most. The stack ends an answer after 60.
const WAIT: u64 = 30;
const WAIT_AT_MOST: u64 = 50;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitParams {
    /// Seconds; 30 unless told.
    #[param(maximum = 50)]
    timeout: Option<u64>,
}

/// What a cancellation has come to.
#[derive(Debug, Serialize, ToSchema)]
struct Stopping {
    #[schema(value_type = uuid::Uuid)]
    id: String,
    state: BuildState,
}

/// A build, as it is now.
#[utoipa::path(
    get, path = "/v1/builds/{id}", tag = "builds", operation_id = "get_build",
    params(("id" = uuid::Uuid, Path, description = "the build's")),
    responses((status = 200, body = View<'_>), (status = 404, description = "no such build"))
)]
pub(super) async fn one(State(Native { builds, .. }): State<Native>, asked: Asked) -> Result<Response, Fault> {
    let owner = asked.owner(&builds).await?;
    let build = builds.get(&owner, asked.id).await?.ok_or_else(Fault::missing)?;
    asked.note("read", &owner);
    Ok(Json(View::of(&build)).into_response())
}

/// Answers when the build has ended, or after a while with what it is by then.
#[utoipa::path(
    get, path = "/v1/builds/{id}/wait", tag = "builds", operation_id = "wait_for_build",
    params(("id" = uuid::Uuid, Path, description = "the build's"), WaitParams),
    responses(
        (status = 200, body = View<'_>),
        (status = 400, description = "a wait that is too long, or none"),
        (status = 404, description = "no such build"),
    )
)]
pub(super) async fn wait(
    State(Native { builds, .. }): State<Native>,
    asked: Asked,
    params: Result<Query<WaitParams>, QueryRejection>,
) -> Result<Response, Fault> {
    let seconds = query(params)?.timeout.unwrap_or(WAIT);
    if seconds > WAIT_AT_MOST {
        return Err(Fault::bad(format!("timeout: at most {WAIT_AT_MOST} seconds; ask again after them")));
    }
    let owner = asked.owner(&builds).await?;
    let end = builds.end(&owner, asked.id).await?.ok_or_else(Fault::missing)?;
    asked.note("read", &owner);
    // Whichever comes first, the ledger knows what the build is now.
    let _ = timeout(Duration::from_secs(seconds), end.come()).await;
    let build = builds.get(&owner, asked.id).await?.ok_or_else(Fault::missing)?;
    Ok(Json(View::of(&build)).into_response())
}

/// Stops a build; one that has ended stays as it is.
#[utoipa::path(
    post, path = "/v1/builds/{id}/cancel", tag = "builds", operation_id = "cancel_build",
    params(("id" = uuid::Uuid, Path, description = "the build's")),
    responses((status = 202, body = Stopping), (status = 404, description = "no such build"))
)]
pub(super) async fn cancel(State(Native { builds, .. }): State<Native>, asked: Asked) -> Result<Response, Fault> {
    let owner = asked.owner(&builds).await?;
    let Asked { identity, origin, id } = asked;
    let state = builds.cancel(&owner, id, identity.user(), origin).await?.ok_or_else(Fault::missing)?;
    Ok((StatusCode::ACCEPTED, Json(Stopping { id: id.to_string(), state })).into_response())
}

/// A new build of what an earlier one of the caller's was asked for.
///
/// An operator retries nobody else's: it would be theirs, with their settings.
#[utoipa::path(
    post, path = "/v1/builds/{id}/retry", tag = "builds", operation_id = "retry_build",
    params(("id" = uuid::Uuid, Path, description = "the earlier build's")),
    responses(
        (status = 202, body = View<'_>, headers(("Location" = String, description = "the new build"))),
        (status = 400, description = "its target can't be used any more"),
        (status = 403, description = "its target isn't the caller's any more"),
        (status = 404, description = "no such build"),
        (status = 409, description = "it hasn't ended, or its files are gone"),
    )
)]
pub(super) async fn retry(State(native): State<Native>, asked: Asked) -> Result<Response, Fault> {
    let Asked { identity, origin, id } = asked;
    let earlier = native.builds.get(identity.user(), id).await?.ok_or_else(Fault::missing)?;
    let submission = native.builds.again(&earlier, &identity, origin, &native.registry).await?;
    let id = match native.sharing.accept(submission).await? {
        Receipt::Queued(id) => id,
        Receipt::Existing(build) => build.id,
    };
    let build = native.builds.get(identity.user(), id).await?.ok_or_else(Fault::missing)?;
    Ok(create::accepted(&build))
}
