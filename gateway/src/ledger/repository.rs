//! What the ledger knows of repositories: into which ones an owner's builds went, and where some are under way.

use kiln_auth::UserName;

use super::{Ledger, LedgerError};

/// How many of an owner's builds are looked at, the newest first.
const LOOKED_AT: i64 = 2000;

impl Ledger {
    /// The repositories of `registry` into which an owner's last builds went, in order.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn repositories(&self, owner: &UserName, registry: &str) -> Result<Vec<String>, LedgerError> {
        let query = sqlx::query_scalar(
            "SELECT DISTINCT repository FROM (SELECT registry, repository, state FROM builds WHERE owner = ? \
             ORDER BY seq DESC LIMIT ?) WHERE registry = ? AND state = 'succeeded' ORDER BY repository",
        );
        let query = query.bind(owner.as_str()).bind(LOOKED_AT).bind(registry);
        Ok(query.fetch_all(&self.readers).await?)
    }

    /// Whether a build is under way that has pushed into a repository, or may be about to, and has no tag there yet.
    ///
    /// # Errors
    /// When the database failed.
    pub async fn pushes_into(&self, registry: &str, repository: &str) -> Result<bool, LedgerError> {
        // The words of the index of what is unfinished, which is bounded by the queue.
        let query = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM builds INDEXED BY builds_unfinished \
             WHERE state IN ('queued', 'running', 'pushed') AND state <> 'queued' AND registry = ? AND repository = ?)",
        );
        Ok(query.bind(registry).bind(repository).fetch_one(&self.readers).await?)
    }
}
