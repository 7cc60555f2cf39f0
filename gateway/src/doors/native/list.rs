//! `GET /v1/builds`: the newest first, a page at a time.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use kiln_auth::{Identity, Origin, Target, UserName};
use serde::Deserialize;
use serde_json::json;

use super::{
    Native,
    fault::{Fault, query},
    view::View,
};
use crate::{
    doors::oversight,
    ledger::{Filter, State as BuildState},
};

/// The longest page.
const PAGE_AT_MOST: u32 = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    owner: Option<String>,
    /// States, with commas between them.
    state: Option<String>,
    /// `user:tag` or `user/path:tag`.
    target: Option<String>,
    /// Accepted at this time or later, RFC 3339.
    since: Option<Timestamp>,
    /// Accepted before this time.
    until: Option<Timestamp>,
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

pub(super) async fn list(
    State(Native { builds, .. }): State<Native>,
    Extension(identity): Extension<Identity>,
    Extension(origin): Extension<Origin>,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Result<Response, Fault> {
    let params = query(params)?;
    let owner = oversight::named(&identity, params.owner.as_deref());
    let owner: UserName = owner.ok_or_else(|| Fault::new(StatusCode::NOT_FOUND, "no such owner"))?;
    let limit = params.limit.unwrap_or(PAGE_AT_MOST);
    if !(1..=PAGE_AT_MOST).contains(&limit) {
        return Err(Fault::bad(format!("limit: 1 to {PAGE_AT_MOST}")));
    }
    let filter = filter(&params)?;
    let page = builds.page(&owner, &filter, params.cursor.as_deref(), limit).await?;
    let page = page.ok_or_else(|| Fault::bad("cursor: not one of this list's; begin without it"))?;
    oversight::note("list", &identity, origin, &owner, None);
    let shown: Vec<_> = page.builds.iter().map(View::of).collect();
    let mut answer = json!({ "builds": shown });
    // Only where there is one, as for those who knew no pages.
    if let Some(next) = page.next {
        answer["next"] = next.into();
    }
    Ok(Json(answer).into_response())
}

fn filter(params: &ListParams) -> Result<Filter, Fault> {
    let state = |word: &str| BuildState::from_word(word).ok_or_else(|| Fault::bad(format!("state: no {word:?}")));
    let states = params.state.as_deref().map(|words| words.split(',').map(state).collect::<Result<_, _>>());
    let target = params.target.as_deref().map(Target::parse).transpose();
    Ok(Filter {
        states: states.transpose()?.unwrap_or_default(),
        target: target.map_err(|error| Fault::bad(format!("target: {error}")))?,
        since: params.since,
        until: params.until,
    })
}
