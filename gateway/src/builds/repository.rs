//! What others who move tags must know of builds: their turns, and which repositories they push into.

use kiln_auth::{ScopedTarget, UserName};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::Builds;
use crate::ledger::LedgerError;

/// A turn at a tag, held until dropped.
#[derive(Debug)]
pub(crate) struct TagTurn {
    _repository: OwnedRwLockReadGuard<()>,
    _tag: OwnedRwLockWriteGuard<()>,
}

/// A turn at a whole repository, held until dropped.
#[derive(Debug)]
pub(crate) struct RepositoryTurn(
    #[expect(dead_code, reason = "it is let go by being dropped")] OwnedRwLockWriteGuard<()>,
);

impl Builds {
    /// Waits until nobody else looks at this tag and moves it, or removes anything from its repository.
    pub(crate) async fn turn_of_tag(&self, registry: &str, target: &ScopedTarget) -> TagTurn {
        let turns = &self.0.turns;
        // Always in this order, so that no two wait for each other.
        TagTurn {
            _repository: turns.share(&format!("{registry}/{}", target.repository())).await,
            _tag: turns.take(&format!("{registry}/{target}")).await,
        }
    }

    /// Waits until no tag of this repository is being moved.
    pub(crate) async fn turn_of_repository(&self, registry: &str, repository: &str) -> RepositoryTurn {
        RepositoryTurn(self.0.turns.take(&format!("{registry}/{repository}")).await)
    }

    /// The repositories of `registry` into which an owner's last builds went, in order.
    ///
    /// # Errors
    /// When the ledger failed.
    pub(crate) async fn repositories(&self, owner: &UserName, registry: &str) -> Result<Vec<String>, LedgerError> {
        self.0.ledger.repositories(owner, registry).await
    }

    /// Whether a build is under way that has pushed into a repository, or may be about to, and has no tag there yet.
    ///
    /// # Errors
    /// When the ledger failed.
    pub(crate) async fn pushes_into(&self, registry: &str, repository: &str) -> Result<bool, LedgerError> {
        self.0.ledger.pushes_into(registry, repository).await
    }
}
