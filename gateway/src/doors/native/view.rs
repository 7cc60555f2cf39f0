//! A build as the API shows it.

use jiff::Timestamp;
use kiln_backends::{FailedStep, Failure};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    ledger::{Build, State},
    recipes::Kind,
};

/// A build, without anything secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Build)]
pub(super) struct View<'b> {
    #[schema(value_type = uuid::Uuid)]
    id: String,
    owner: &'b str,
    state: State,
    /// The base; null where a Dockerfile of the caller's may name several.
    source: Option<&'b str>,
    kind: Option<Kind>,
    size: Option<&'b str>,
    /// The image's name, with its registry.
    image: String,
    digest: Option<&'b str>,
    /// What extended the base.
    extender: Option<&'b str>,
    /// 0 until an engine has begun it.
    attempt: u32,
    accepted: Timestamp,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    failure: Option<Failed<'b>>,
    /// The build whose image it takes.
    follows: Option<String>,
}

/// Why a build failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Failure)]
struct Failed<'b> {
    /// The word for programs.
    reason: String,
    /// The sentence for people.
    message: &'b str,
    /// The step that failed, where it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step<'b>>,
}

/// A build step that failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FailedStep)]
struct Step<'b> {
    /// Its name, as the log shows it.
    name: &'b str,
    /// The exit status of its process.
    exit_code: Option<i32>,
    /// Its first line in the Dockerfile, counted from 1.
    line: Option<u32>,
    /// The last lines it wrote.
    tail: &'b [String],
}

impl<'b> View<'b> {
    /// In a state that it came to, and may have left since.
    pub(super) fn when(self, state: State) -> Self {
        Self { state, ..self }
    }

    pub(super) fn of(build: &'b Build) -> Self {
        Self {
            id: build.id.to_string(),
            owner: build.owner().as_str(),
            state: build.state,
            source: Some(build.request.source.as_str()).filter(|source| !source.is_empty()),
            kind: build.request.kind,
            size: build.request.size.as_deref(),
            image: format!("{}/{}", build.registry, build.target),
            digest: build.digest.as_deref(),
            extender: build.extender.as_deref(),
            attempt: build.attempt,
            accepted: build.accepted_at,
            started: build.started_at,
            finished: build.finished_at,
            failure: build.failure.as_ref().map(Failed::of),
            follows: build.follows.map(|id| id.to_string()),
        }
    }
}

impl<'b> Failed<'b> {
    fn of(failure: &'b Failure) -> Self {
        let Failure { reason, message, step } = failure;
        Self { reason: reason.to_string(), message, step: step.as_ref().map(Step::of) }
    }
}

impl<'b> Step<'b> {
    fn of(step: &'b FailedStep) -> Self {
        let FailedStep { name, exit_code, line, tail } = step;
        Self { name, exit_code: *exit_code, line: *line, tail }
    }
}
