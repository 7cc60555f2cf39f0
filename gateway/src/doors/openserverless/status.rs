//! `GET …/build/status?id=`: where a build is, in the words of a Kubernetes Job.

use axum::{
    Extension,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use kiln_auth::Identity;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    OpenServerless,
    envelope::{ko, ok},
    internal, require_environment,
    start::data,
    time,
};
use crate::ledger::{Build, State as BuildState};

#[derive(Debug, Default, Deserialize)]
pub(super) struct Params {
    #[serde(default)]
    id: String,
}

pub(super) async fn status(
    State(door): State<OpenServerless>,
    Extension(identity): Extension<Identity>,
    params: Result<Query<Params>, QueryRejection>,
) -> Response {
    if let Err(fault) = require_environment(&identity, false) {
        return fault.into_response();
    }
    let id = params.map(|Query(params)| params.id).unwrap_or_default();
    if id.is_empty() {
        return ko(StatusCode::BAD_REQUEST, "No id provided for build status.");
    }
    let not_found = || ko(StatusCode::NOT_FOUND, "Build job not found");
    let Ok(id) = id.parse() else { return not_found() };
    match door.builds.get(identity.user(), id).await {
        Ok(Some(build)) => ok(StatusCode::OK, "Build status retrieved successfully.", fields(&build)),
        Ok(None) => not_found(),
        Err(error) => internal(&error, "Build process failed."),
    }
}

fn fields(build: &Build) -> Map<String, Value> {
    let phase = match build.state {
        BuildState::Queued => "Pending",
        BuildState::Running | BuildState::Pushed => "Running",
        BuildState::Succeeded => "Succeeded",
        BuildState::Failed | BuildState::Cancelled => "Failed",
    };
    let succeeded = build.state == BuildState::Succeeded;
    let failure = build.failure.as_ref();
    data([
        ("active", u8::from(phase == "Running").into()),
        // As a Job has it: the time of success, null for a failure.
        ("completionTime", time(build.finished_at.filter(|_| succeeded))),
        ("failed", u8::from(phase == "Failed").into()),
        ("id", build.id.to_string().into()),
        ("job_name", format!("build-{}-{}", build.owner(), build.id).into()),
        ("phase", phase.into()),
        ("startTime", time(build.started_at)),
        ("succeeded", u8::from(succeeded).into()),
        ("image", image(build).into()),
        ("digest", build.digest.clone().filter(|_| succeeded).into()),
        ("extender", build.extender.clone().into()),
        ("reason", failure.map(|f| f.reason.to_string()).into()),
        ("error", failure.map(|f| f.message.clone()).into()),
    ])
}

/// The image's name for a pull, once it is there.
fn image(build: &Build) -> Option<String> {
    (build.state == BuildState::Succeeded).then(|| format!("{}/{}", build.registry, build.target))
}
