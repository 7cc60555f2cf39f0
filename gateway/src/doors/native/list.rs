//! `GET /v1/builds`: the newest first, a page at a time.

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use jiff::Timestamp;
use kiln_auth::{Identity, Origin, Target, UserName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Whose; for operators.
    owner: Option<String>,
    /// States, with commas between them.
    state: Option<String>,
    /// `user:tag` or `user/path:tag`.
    target: Option<String>,
    /// Accepted at this time or later, RFC 3339.
    since: Option<Timestamp>,
    /// Accepted before this time.
    until: Option<Timestamp>,
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A page of builds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Builds)]
struct Page<'b> {
    builds: Vec<View<'b>>,
    /// The `cursor` of the page after it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The caller's builds, the newest first.
#[utoipa::path(
    get, path = "/v1/builds", tag = "builds", operation_id = "list_builds", params(ListParams),
    responses(
        (status = 200, body = Page<'_>),
        (status = 400, description = "a filter that can't be used"),
        (status = 404, description = "no such owner"),
    )
)]
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
    let shown = page.builds.iter().map(View::of).collect();
    Ok(Json(Page { builds: shown, next: page.next }).into_response())
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
