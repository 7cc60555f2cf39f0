//! A build as the API shows it.

use jiff::Timestamp;
use kiln_backends::Failure;
use serde::Serialize;

use crate::{ledger::Build, recipes::Kind};

/// A build, without anything secret.
#[derive(Debug, Serialize)]
pub(super) struct View<'b> {
    id: String,
    owner: &'b str,
    /// `queued`, `running`, `pushed`, `succeeded`, `failed` or `cancelled`.
    state: &'static str,
    /// The base; null where a Dockerfile of the caller's may name several.
    source: Option<&'b str>,
    kind: Option<Kind>,
    size: Option<&'b str>,
    image: String,
    digest: Option<&'b str>,
    extender: Option<&'b str>,
    attempt: u32,
    accepted: Timestamp,
    started: Option<Timestamp>,
    finished: Option<Timestamp>,
    failure: Option<&'b Failure>,
}

impl<'b> View<'b> {
    pub(super) fn of(build: &'b Build) -> Self {
        Self {
            id: build.id.to_string(),
            owner: build.owner().as_str(),
            state: build.state.as_str(),
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
            failure: build.failure.as_ref(),
        }
    }
}
