//! One build: how it goes, why it failed, its steps and its log.

use askama::Template;
use axum::{extract::State, response::Response};
use http::StatusCode;
use jiff::Timestamp;
use kiln_auth::Identity;
use kiln_backends::Failure;

use super::{
    Page,
    answer::{Frame, Here, html},
    asked::Asked,
    fault::Fault,
    list::detail,
    outline::Outline,
    shown::{self, short},
    waterfall::Waterfall,
    when::{Moment, took},
};
use crate::{
    doors::native,
    ledger::{Build, State as BuildState},
};

/// How much of what callers named is shown, bytes of HTML.
const NAME: usize = 1024;
const SENTENCE: usize = 2048;
/// Lines of a failed step's output, and how much of each.
const LINES: usize = 10;
const LINE: usize = 400;

#[derive(Template)]
#[template(path = "build.html")]
struct BuildPage {
    frame: Frame,
    id: String,
    short_id: String,
    state: &'static str,
    goes_on: bool,
    may_retry: bool,
    /// Repository and tag.
    name: String,
    /// With the registry.
    image: String,
    /// Whether it is there, and the caller's to look at.
    is_there: bool,
    digest: Option<String>,
    detail: String,
    size: Option<String>,
    attempt: u32,
    /// Whose it is, where it is another's.
    owner: Option<String>,
    accepted: Moment,
    waited: Option<String>,
    took: Option<String>,
    /// When it began, as all times of the script's.
    began: i64,
    why: Option<Why>,
    waterfall: Waterfall,
    steps_before: usize,
    log: Outline,
    now: i64,
}

/// Why it failed, or was cancelled.
struct Why {
    reason: String,
    sentence: String,
    step: Option<String>,
    place: Option<String>,
    lines: Vec<String>,
}

pub(super) async fn build(State(Page { builds, .. }): State<Page>, asked: Asked) -> Result<Response, Fault> {
    let owner = asked.owner(&builds).await?;
    let build = builds.get(&owner, asked.id).await?.ok_or_else(Fault::missing)?;
    let reader = builds.log(&owner, asked.id, 0, false).await?.ok_or_else(Fault::missing)?;
    asked.note("read", &owner);
    let log = Outline::read(reader).await?;
    Ok(html(StatusCode::OK, &BuildPage::of(&build, log, &asked.identity)))
}

/// The whole log, as text.
pub(super) async fn raw(State(Page { builds, .. }): State<Page>, asked: Asked) -> Result<Response, Fault> {
    let owner = asked.owner(&builds).await?;
    let reader = builds.log(&owner, asked.id, 0, false).await?.ok_or_else(Fault::missing)?;
    asked.note("log", &owner);
    Ok(native::log::as_text(reader))
}

impl BuildPage {
    fn of(build: &Build, log: Outline, identity: &Identity) -> Self {
        let now = Timestamp::now();
        let goes_on = !build.state.is_terminal();
        let began = build.started_at.unwrap_or_else(|| build.finished_at.unwrap_or(now));
        let is_own = build.owner() == identity.user();
        let request = &build.request;
        // What would be built again: archives go with their connection, files with success.
        let is_kept = !request.attached && (!request.extend || build.state != BuildState::Succeeded);
        Self {
            frame: Frame::of(identity, Here::Elsewhere),
            id: build.id.to_string(),
            short_id: build.id.to_string().chars().take(13).collect(),
            state: build.state.as_str(),
            goes_on,
            may_retry: is_own && !goes_on && is_kept,
            name: shown::line(&build.target.to_string(), NAME),
            image: shown::line(&format!("{}/{}", build.registry, build.target), NAME),
            is_there: is_own && build.state == BuildState::Succeeded && !request.skip_push && !request.names_registry,
            digest: build.digest.clone(),
            detail: shown::line(&detail(build), NAME),
            size: request.size.clone(),
            attempt: build.attempt,
            owner: (!is_own).then(|| build.owner().to_string()),
            accepted: Moment::of(build.accepted_at, now),
            waited: (!goes_on || build.started_at.is_some()).then(|| took(began.duration_since(build.accepted_at))),
            took: build.started_at.map(|at| took(build.finished_at.unwrap_or(now).duration_since(at))),
            began: began.as_millisecond(),
            why: build.failure.as_ref().map(Why::of),
            waterfall: Waterfall::of(&log, now),
            steps_before: log.steps_before,
            log,
            now: now.as_millisecond(),
        }
    }
}

impl Why {
    fn of(failure: &Failure) -> Self {
        let step = failure.step.as_ref();
        let exit = step.and_then(|step| step.exit_code).map(|code| format!("exit status {code}"));
        let line = step.and_then(|step| step.line).map(|line| format!("line {line} of the Dockerfile"));
        let place = [line, exit].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let tail = step.map_or(&[][..], |step| &step.tail);
        let last = &tail[tail.len().saturating_sub(LINES)..];
        Self {
            reason: failure.reason.to_string(),
            sentence: shown::line(&failure.message, SENTENCE),
            step: step.map(|step| shown::line(&step.name, LINE)).filter(|name| !name.is_empty()),
            place: Some(place).filter(|place| !place.is_empty()),
            lines: last.iter().map(|line| shown::line_of_output(line, LINE)).collect(),
        }
    }
}
