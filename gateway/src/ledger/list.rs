//! An owner's builds, the newest first, a bounded part of them at a time.

use jiff::Timestamp;
use kiln_auth::{Target, UserName};
use sqlx::{QueryBuilder, Sqlite};

use super::{Build, Ledger, LedgerError, State};

/// How many builds are looked at for one page, so that a filter that fits few of very many costs
/// what others cost: such a page is short, and says where to go on.
const LOOKED_AT: i64 = 2000;

/// Which of an owner's builds are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// In one of these states; empty is any.
    pub states: Vec<State>,
    /// Of this target.
    pub target: Option<Target>,
    /// Accepted then or later.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
}

/// A part of a list.
#[derive(Debug)]
pub struct Rows {
    /// The newest first.
    pub builds: Vec<Build>,
    /// Where the next part begins, if there may be one: below this place in the order of acceptance.
    pub below: Option<i64>,
}

impl Ledger {
    /// The newest builds of an owner `below` a place in the order of acceptance, at most `limit`.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn list(
        &self,
        owner: &UserName,
        filter: &Filter,
        below: Option<i64>,
        limit: u32,
    ) -> Result<Rows, LedgerError> {
        let below = below.unwrap_or(i64::MAX);
        let query =
            sqlx::query_scalar("SELECT seq FROM builds WHERE owner = ? AND seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?");
        let query = query.bind(owner.as_str()).bind(below).bind(LOOKED_AT - 1);
        let last: Option<i64> = query.fetch_optional(&self.readers).await?;
        let rows = select(owner, filter, last.unwrap_or(0)..below, limit).build().fetch_all(&self.readers).await?;
        let builds = rows.iter().map(Build::from_row).collect::<Result<Vec<_>, _>>()?;
        let full = builds.len() >= limit as usize;
        let below = if full { builds.last().map(|build| build.seq) } else { last };
        Ok(Rows { builds, below })
    }
}

fn select(owner: &UserName, filter: &Filter, places: std::ops::Range<i64>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT * FROM builds WHERE owner = ");
    query.push_bind(owner.as_str().to_owned());
    query.push(" AND seq < ").push_bind(places.end).push(" AND seq >= ").push_bind(places.start);
    if !filter.states.is_empty() {
        let mut states = query.push(" AND state IN (").separated(", ");
        for state in &filter.states {
            states.push_bind(state.as_str());
        }
        query.push(")");
    }
    if let Some(target) = &filter.target {
        query.push(" AND repository = ").push_bind(target.repository().to_owned());
        query.push(" AND tag = ").push_bind(target.tag().to_owned());
    }
    if let Some(since) = filter.since {
        query.push(" AND accepted_at >= ").push_bind(since.as_millisecond());
    }
    if let Some(until) = filter.until {
        query.push(" AND accepted_at < ").push_bind(until.as_millisecond());
    }
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(limit);
    query
}
