//! Accepting a build: a place in the queue first, then the ledger, then the answer.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use jiff::Timestamp;
use kiln_auth::{Identity, Origin, ScopedTarget, audit};
use kiln_backends::BuildId;

use super::{Arrived, Builds, Place, QueueFull, Request};
use crate::{
    ledger::{Accepted, Build, Content, Input, LedgerError, NewBuild},
    registry::{DestinationError, ProcessRegistry},
    webhooks::Wanted,
};

/// A build that a door asks for, complete and within its owner's scope.
#[derive(Debug)]
pub struct Submission {
    /// Where it comes from, for the audit line.
    pub origin: Origin,
    /// Where the image goes: registry, `host[:port]`.
    pub registry: String,
    /// The owner's repository and tag.
    pub target: ScopedTarget,
    /// What to build.
    pub request: Request,
    /// The requirements file.
    pub file: Option<Vec<u8>>,
    /// What makes an equal build the same build.
    pub content: Option<Content>,
    /// What its image is made from, where another's may answer for it.
    pub input: Option<Input>,
    /// Settings of the owner that the run needs and nobody else may read.
    pub owner_settings: BTreeMap<String, String>,
    /// Where the owner wants to be told of it.
    pub webhook: Option<Wanted>,
}

/// The settings of a user that say where images go, and with which credential.
const OWNER_SETTINGS: [&str; 2] = ["REGISTRY_HOST", "REGISTRY_SECRET"];

/// What a user's settings say of where their images go.
pub(crate) fn owner_settings(identity: &Identity) -> BTreeMap<String, String> {
    let settings = |name: &&str| Some(((*name).to_owned(), identity.environment().get(name)?.to_owned()));
    OWNER_SETTINGS.iter().filter_map(settings).collect()
}

impl Submission {
    /// Adds to a request where its image goes, and what of the user's settings the run will need.
    ///
    /// # Errors
    /// When the settings name no registry.
    pub fn new(
        origin: Origin,
        identity: &Identity,
        process: &ProcessRegistry,
        target: ScopedTarget,
        request: Request,
        file: Option<Vec<u8>>,
    ) -> Result<Self, DestinationError> {
        let owner_settings = owner_settings(identity);
        let registry = process.push_host(&owner_settings)?.to_string();
        Ok(Self { origin, registry, target, request, file, content: None, input: None, owner_settings, webhook: None })
    }
}

/// The build wasn't accepted; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The process is stopping.
    #[error("the gateway is stopping; try again")]
    Stopping,
    /// There is too little space.
    #[error("the gateway's disk is full; try again later")]
    DiskFull,
    /// Too many builds wait.
    #[error(transparent)]
    Queue(#[from] QueueFull),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The context can't be kept.
    #[error("the build's context can't be kept: {0}")]
    Context(#[source] std::io::Error),
    /// The owner's settings can't be kept.
    #[error("the build's secrets can't be sealed: {0}")]
    Seal(#[from] std::io::Error),
}

/// What became of a submission.
#[derive(Debug)]
pub enum Receipt {
    /// A new build is queued.
    Queued(BuildId),
    /// The owner has this build already.
    Existing(Box<Build>),
}

impl Builds {
    /// Accepts a build: when this returns, the build outlives a crash.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn accept(&self, submission: Submission) -> Result<Receipt, Refused> {
        let (origin, id) = (submission.origin, BuildId::new());
        let (build, place) = self.admit(submission, id)?;
        // A task of its own: a caller who goes away now must not leave a build that is in the
        // ledger and in no queue.
        let recorded = tokio::spawn(self.clone().record(build, place, origin)).await;
        recorded.map_err(|_| LedgerError::Closed)?
    }

    /// Accepts a build of a context: when this returns, both outlive a crash.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn accept_context(&self, submission: Submission, context: Arrived) -> Result<Receipt, Refused> {
        let (origin, id) = (submission.origin, BuildId::new());
        let (build, place) = self.admit(submission, id)?;
        let builds = self.clone();
        let recorded = tokio::spawn(async move {
            let stored = builds.0.stored.clone();
            // Before the row, which must never be without it.
            stored.keep(id, context).await.map_err(Refused::Context)?;
            let receipt = builds.record(build, place, origin).await;
            match &receipt {
                Ok(Receipt::Queued(_)) => {}
                Ok(Receipt::Existing(_)) => stored.release(id),
                Err(_) => stored.leave(id),
            }
            receipt
        });
        recorded.await.map_err(|_| LedgerError::Closed)?
    }

    /// Holds a place in the queue for a submission.
    pub(super) fn admit(&self, submission: Submission, id: BuildId) -> Result<(NewBuild, Place), Refused> {
        let shared = &self.0;
        if !shared.accepting.load(Ordering::Relaxed) {
            return Err(Refused::Stopping);
        }
        if !shared.disk_free.load(Ordering::Relaxed) {
            return Err(Refused::DiskFull);
        }
        let place = shared.queue.reserve(submission.target.owner())?;
        let sealed = if submission.owner_settings.is_empty() {
            None
        } else {
            let settings = serde_json::to_vec(&submission.owner_settings).map_err(std::io::Error::from)?;
            Some(shared.seal.seal(id.0.as_bytes(), &settings)?)
        };
        let webhook = submission.webhook.map(|wanted| wanted.sealed(&shared.seal, id)).transpose()?;
        let build = NewBuild {
            id,
            content: submission.content,
            input: submission.input,
            registry: submission.registry,
            target: submission.target,
            request: submission.request,
            file: submission.file,
            sealed,
            webhook,
            accepted_at: Timestamp::now(),
        };
        Ok((build, place))
    }

    pub(super) async fn record(self, build: NewBuild, place: Place, origin: Origin) -> Result<Receipt, Refused> {
        let id = build.id;
        match self.keep(build, origin).await? {
            Accepted::New | Accepted::Follows(_) => {
                place.fill(id);
                Ok(Receipt::Queued(id))
            }
            Accepted::Existing(build) => Ok(Receipt::Existing(build)),
        }
    }

    /// Writes a build to the ledger, and that it was accepted, if it was.
    pub(super) async fn keep(&self, build: NewBuild, origin: Origin) -> Result<Accepted, LedgerError> {
        let (id, owner, target) = (build.id, build.target.owner().clone(), build.target.to_string());
        let accepted = self.0.ledger.accept(build).await?;
        if !matches!(accepted, Accepted::Existing(_)) {
            self.0.metrics.accepted();
            audit::Line::by("accept", &owner).from(origin).build(&id).target(&target).done();
        }
        Ok(accepted)
    }
}
