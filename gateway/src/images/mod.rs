//! Images in the registry, looked after by those whose repositories they are in.
//!
//! Whoever calls, only what [`Name`] admits is asked of a registry: another's name, and one that is none, is
//! missing without a question. What a door makes of the answers is its own business.

mod copy;
mod document;
mod inspect;
mod list;
mod name;
mod remove;

use std::{sync::Arc, time::Duration};

use kiln_auth::{Identity, UserName};
use moka::future::Cache;
use tokio::{sync::OwnedRwLockWriteGuard, time::timeout};

use crate::{
    builds::{Builds, Turns, owner_settings},
    ledger::LedgerError,
    registry::{DestinationError, ProcessRegistry, Push, RegistryClient, RegistryError, destination},
};

pub use self::{
    copy::Copied,
    inspect::{Image, Layer, Part, Summary},
    list::{Catalogue, Catalogues, Entry},
    name::{Name, What},
    remove::Removed,
};

/// How long one question may take, with all that a registry is asked for it. The stack ends an answer after 60.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// What a registry is asked at once for one caller.
const AT_ONCE: usize = 8;

/// Summaries that are remembered, some 300 bytes each: what a digest names doesn't change.
const SUMMARIES: u64 = 20_000;

/// What callers may do with images of theirs; clones share what is remembered.
#[derive(Clone)]
pub struct Images(Arc<Shared>);

struct Shared {
    builds: Builds,
    registry: RegistryClient,
    process: Arc<ProcessRegistry>,
    /// By registry, repository and digest.
    summaries: Cache<(String, String, String), Arc<Summary>>,
    /// One expensive question of each owner at a time: a page of images is hundreds of requests.
    owners: Turns,
}

/// Why there is no such answer.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// Nothing there, or not the caller's: nobody learns which.
    #[error("no such image")]
    Missing,
    /// The name is a repository's.
    #[error("name one image: {0}:TAG or {0}@sha256:…")]
    NotOne(String),
    /// A name to be made, without a tag.
    #[error("the copy needs a tag: {0}:TAG")]
    NoTag(String),
    /// Where a page was to begin.
    #[error("cursor: not one of this list's; begin without it")]
    Cursor,
    /// The registry removes nothing.
    #[error("the registry {0} has the deletion of images switched off; its operator can allow it")]
    DeleteDisabled(String),
    /// Other tags would go, too.
    #[error("{digest} is also tagged {}, and its registry can only remove all of them together: all_tags=true does", some(.tags))]
    Shared {
        /// The image.
        digest: String,
        /// The other tags.
        tags: Vec<String>,
    },
    /// There are so many tags that it can't be known which others would go, too.
    #[error(
        "the repository has more than {0} tags, too many to know which others name this image; all_tags=true removes it with all of them"
    )]
    ManyTags(usize),
    /// The image can't be copied.
    #[error("the image can't be copied: {0}")]
    NotCopied(String),
    /// Other requests, or builds, were in the way for too long.
    #[error("the registry, or what else is done in this repository, took too long; try again")]
    Late,
    /// The caller's settings name no registry.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The registry didn't do it.
    #[error(transparent)]
    Registry(RegistryError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A question's registry, and the turn at asking it.
struct Asking {
    push: Push,
    _turn: OwnedRwLockWriteGuard<()>,
}

impl From<RegistryError> for ImagesError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound { .. } => Self::Missing,
            other => Self::Registry(other),
        }
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Images")
    }
}

impl Images {
    /// The images in the registry to which `process`, or the caller's own settings, send builds.
    #[must_use]
    pub fn new(builds: Builds, registry: RegistryClient, process: Arc<ProcessRegistry>) -> Self {
        let summaries = Cache::builder().max_capacity(SUMMARIES).build();
        Self(Arc::new(Shared { builds, registry, process, summaries, owners: Turns::default() }))
    }

    /// Where this caller's images are.
    async fn push(&self, identity: &Identity) -> Result<Push, ImagesError> {
        let settings = owner_settings(identity);
        Ok(destination(&self.0.process, self.0.registry.registries(), &settings).await?)
    }

    /// The same, once no other question of this owner's is under way.
    async fn ask(&self, identity: &Identity) -> Result<Asking, ImagesError> {
        let push = self.push(identity).await?;
        let owner: &UserName = identity.user();
        Ok(Asking { push, _turn: self.0.owners.take(owner.as_str()).await })
    }
}

/// The first few of many, for people.
fn some(tags: &[String]) -> String {
    const FEW: usize = 10;
    let first = tags.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join(", ");
    if tags.len() > FEW { format!("{first} and {} more", tags.len() - FEW) } else { first }
}

/// Ends an answer that takes too long.
async fn in_time<T>(answer: impl Future<Output = Result<T, ImagesError>>) -> Result<T, ImagesError> {
    timeout(ANSWER_WITHIN, answer).await.unwrap_or(Err(ImagesError::Late))
}
