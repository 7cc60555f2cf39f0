//! Builds of the same input: which one a request can be answered with, or its build take the image from.

use jiff::Timestamp;
use kiln_auth::ScopedTarget;
use kiln_backends::BuildId;
use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{Build, Ledger, LedgerError};

/// What an image is made from, and how old one may be that answers for it.
#[derive(Clone, Debug)]
pub struct Input {
    /// A hash over all that the image is made from.
    pub hash: String,
    /// Images made before are stale.
    pub since: Timestamp,
    /// Whether it is to be built whatever there is.
    pub fresh: bool,
}

/// Where an image goes, and what it is made from.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'w> {
    /// The registry, `host[:port]`.
    pub registry: &'w str,
    /// Repository and tag, and whose they are.
    pub target: &'w ScopedTarget,
    /// What it is made from.
    pub input: &'w Input,
}

/// What there is already of what is wanted.
#[derive(Debug)]
pub(super) enum Twin {
    /// A build of the same target that nothing accepted later moves: it is the answer while it goes on.
    Same(Box<Build>),
    /// A build whose image can be tagged anew.
    Other(BuildId),
    /// Only images that are too old.
    Stale,
    /// Nothing.
    None,
}

/// Asks for those of one owner, input and repository that can still be of use. The index wants its own words.
macro_rules! of_input {
    ($more:literal) => {
        concat!(
            "SELECT * FROM builds WHERE owner = ?1 AND input = ?2 AND registry = ?3 AND repository = ?4 \
             AND input IS NOT NULL AND state IN ('queued', 'running', 'pushed', 'succeeded') ",
            $more
        )
    };
}

impl Ledger {
    /// The build that a request may be answered with, as far as the ledger knows: it goes on, or has succeeded,
    /// and nothing that was accepted later has moved its tag, or may yet.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn same(&self, wanted: Wanted<'_>) -> Result<Option<Build>, LedgerError> {
        let mut db = self.readers.acquire().await?;
        same(&mut db, wanted).await
    }

    /// Whether a build goes on, isn't to be cancelled, and is the last that was accepted for its tag: a request for
    /// the same may wait for its image.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn makes_its_image(&self, build: BuildId) -> Result<bool, LedgerError> {
        let mut db = self.readers.acquire().await?;
        let query = sqlx::query(
            "SELECT * FROM builds WHERE id = ?1 AND state IN ('queued', 'running', 'pushed') AND cancelled = 0",
        );
        let row = query.bind(build.0.as_bytes().to_vec()).fetch_optional(&mut *db).await?;
        let Some(row) = row else { return Ok(false) };
        Ok(!moved_after(&mut db, &Build::from_row(&row)?).await?)
    }
}

pub(super) async fn find(db: &mut SqliteConnection, wanted: Wanted<'_>) -> Result<Twin, LedgerError> {
    if let Some(build) = same(db, wanted).await? {
        return Ok(Twin::Same(Box::new(build)));
    }
    // Who follows makes nothing, so only makers are followed; of finished ones any will do.
    let query = of_input!(
        "AND (state <> 'succeeded' AND cancelled = 0 AND follows IS NULL OR state = 'succeeded' AND made_at >= ?5) \
         ORDER BY seq DESC LIMIT 1"
    );
    let query = bound(query, wanted).bind(wanted.input.since.as_millisecond());
    if let Some(row) = query.fetch_optional(&mut *db).await? {
        return Ok(Twin::Other(Build::from_row(&row)?.id));
    }
    let stale = bound(of_input!("AND state = 'succeeded' LIMIT 1"), wanted).fetch_optional(db).await?;
    Ok(if stale.is_some() { Twin::Stale } else { Twin::None })
}

/// A build of the same input and repository that still makes its image, other than `build`.
pub(super) async fn maker(db: &mut SqliteConnection, build: BuildId) -> Result<Option<BuildId>, LedgerError> {
    let query = sqlx::query(
        "SELECT maker.* FROM builds AS maker JOIN builds AS own ON own.id = ?1 AND own.input IS NOT NULL \
         WHERE maker.owner = own.owner AND maker.input = own.input AND maker.registry = own.registry \
         AND maker.repository = own.repository AND maker.input IS NOT NULL \
         AND maker.state IN ('queued', 'running', 'pushed', 'succeeded') AND maker.state <> 'succeeded' \
         AND maker.cancelled = 0 AND maker.follows IS NULL AND maker.id <> ?1 ORDER BY maker.seq DESC LIMIT 1",
    );
    let row = query.bind(build.0.as_bytes().to_vec()).fetch_optional(db).await?;
    Ok(row.as_ref().map(Build::from_row).transpose()?.map(|build| build.id))
}

async fn same(db: &mut SqliteConnection, wanted: Wanted<'_>) -> Result<Option<Build>, LedgerError> {
    let query = of_input!(
        "AND (state <> 'succeeded' AND cancelled = 0 OR state = 'succeeded' AND made_at >= ?5) AND tag = ?6 \
         ORDER BY seq DESC LIMIT 1"
    );
    let query = bound(query, wanted).bind(wanted.input.since.as_millisecond()).bind(wanted.target.tag());
    let Some(row) = query.fetch_optional(&mut *db).await? else { return Ok(None) };
    let build = Build::from_row(&row)?;
    Ok(if moved_after(db, &build).await? { None } else { Some(build) })
}

/// Whether a build of the same target that was accepted later has moved its tag, or may yet.
async fn moved_after(db: &mut SqliteConnection, build: &Build) -> Result<bool, LedgerError> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM builds WHERE registry = ?1 AND repository = ?2 AND tag = ?3 AND seq > ?4 \
         AND state IN ('queued', 'running', 'pushed')) OR EXISTS (SELECT 1 FROM builds WHERE registry = ?1 \
         AND repository = ?2 AND tag = ?3 AND seq > ?4 AND state = 'succeeded' AND digest IS NOT NULL)",
    );
    let query = query.bind(&build.registry).bind(build.target.repository()).bind(build.target.tag());
    Ok(query.bind(build.seq).fetch_one(db).await?)
}

fn bound<'q>(sql: &'static str, wanted: Wanted<'q>) -> Query<'q, Sqlite, SqliteArguments> {
    let Wanted { registry, target, input } = wanted;
    sqlx::query(sql).bind(target.owner().as_str()).bind(&input.hash).bind(registry).bind(target.repository())
}
