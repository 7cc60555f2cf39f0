//! The caller's builds, the newest first.

use askama::Template;
use axum::{
    Extension,
    extract::{Query, Request, State, rejection::QueryRejection},
    response::Response,
};
use http::StatusCode;
use jiff::Timestamp;
use kiln_auth::Identity;
use serde::Deserialize;

use super::{
    Page,
    answer::{Frame, Here, html},
    fault::Fault,
    same_origin, session, shown,
    when::{Moment, took},
};
use crate::ledger::{Build, Filter, State as BuildState};

const PAGE: u32 = 25;
/// How much of a line's parts is shown, bytes of HTML: with these a page of the longest is within 100 KB.
const NAME: usize = 400;
const DETAIL: usize = 240;
/// How often the script looks for news, in milliseconds: while something goes on, and otherwise.
const SOON: u32 = 2_000;
const LATER: u32 = 15_000;

/// Which builds a tab has.
const TABS: [(&str, &str, &[BuildState]); 5] = [
    ("", "All", &[]),
    ("active", "Under way", &[BuildState::Queued, BuildState::Running, BuildState::Pushed]),
    ("succeeded", "Succeeded", &[BuildState::Succeeded]),
    ("failed", "Failed", &[BuildState::Failed]),
    ("cancelled", "Cancelled", &[BuildState::Cancelled]),
];

#[derive(Debug, Deserialize)]
pub(super) struct ListParams {
    #[serde(default)]
    state: String,
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    tabs: Vec<Tab>,
    lines: Vec<Line>,
    /// The address of the next page.
    older: Option<String>,
    /// The address of the first one, where this isn't it.
    newest: Option<String>,
    first: First,
    every: u32,
}

struct Tab {
    title: &'static str,
    address: String,
    current: bool,
}

/// A build in the list.
struct Line {
    id: String,
    state: &'static str,
    name: String,
    detail: String,
    accepted: Moment,
    took: Option<String>,
    why: Option<String>,
}

/// What a first build is sent with.
struct First {
    url: String,
    user: String,
}

pub(super) async fn list(
    State(Page { builds, .. }): State<Page>,
    Extension(identity): Extension<Identity>,
    params: Result<Query<ListParams>, QueryRejection>,
    request: Request,
) -> Result<Response, Fault> {
    let bad = || Fault::new(StatusCode::BAD_REQUEST, "There is no such list. Begin with all builds.");
    let Query(ListParams { state, cursor }) = params.map_err(|_| bad())?;
    let (word, _, states) = TABS.iter().find(|(word, ..)| *word == state).ok_or_else(bad)?;
    let filter = Filter { states: states.to_vec(), ..Filter::default() };
    let page = builds.page(identity.user(), &filter, cursor.as_deref(), PAGE).await?.ok_or_else(bad)?;
    let now = Timestamp::now();
    let goes_on = page.builds.iter().any(|build| !build.state.is_terminal());
    let list = ListPage {
        frame: Frame::of(&identity, Here::Builds),
        tabs: TABS
            .iter()
            .map(|(tab, title, _)| Tab { title, address: address(tab, None), current: tab == word })
            .collect(),
        lines: page.builds.iter().map(|build| Line::of(build, now)).collect(),
        older: page.next.map(|next| address(word, Some(&next))),
        newest: cursor.map(|_| address(word, None)),
        first: First { url: own_url(&request), user: identity.user().to_string() },
        every: if goes_on { SOON } else { LATER },
    };
    Ok(html(StatusCode::OK, &list))
}

/// Words and cursors are of letters that stand for themselves.
fn address(state: &str, cursor: Option<&str>) -> String {
    match (state, cursor) {
        ("", None) => "/".to_owned(),
        ("", Some(cursor)) => format!("/?cursor={cursor}"),
        (state, None) => format!("/?state={state}"),
        (state, Some(cursor)) => format!("/?state={state}&cursor={cursor}"),
    }
}

/// Kiln's address, as this caller has it.
fn own_url(request: &Request) -> String {
    let scheme = if session::is_secure(request.headers()) { "https" } else { "http" };
    format!("{scheme}://{}", shown::line(same_origin::host(request).unwrap_or("localhost:8080"), NAME))
}

impl Line {
    fn of(build: &Build, now: Timestamp) -> Self {
        let end = build.finished_at.unwrap_or(now);
        Self {
            id: build.id.to_string(),
            state: build.state.as_str(),
            name: shown::line(&build.target.to_string(), NAME),
            detail: shown::line(&detail(build), DETAIL),
            accepted: Moment::of(build.accepted_at, now),
            took: build.started_at.map(|began| took(end.duration_since(began))),
            // That it was cancelled, its state says.
            why: build
                .failure
                .as_ref()
                .filter(|_| build.state == BuildState::Failed)
                .map(|failure| shown::line(&failure.to_string(), DETAIL)),
        }
    }
}

/// What the image is made from.
pub(super) fn detail(build: &Build) -> String {
    let source = build.request.source.as_str();
    match (source, build.request.kind) {
        ("", _) => "a Dockerfile".to_owned(),
        (source, Some(kind)) => format!("{source}, {}", kind.as_str()),
        (source, None) => source.to_owned(),
    }
}
