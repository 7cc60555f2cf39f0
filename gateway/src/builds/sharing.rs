//! Identical requests: those under way share one build, and an image that still stands answers for a new one.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kiln_auth::{Origin, UserName};
use kiln_backends::BuildId;
use moka::future::Cache;
use tokio::time::timeout;

use super::{
    Builds, Committer, Materials, Place, Receipt, Refused, Resolved, Submission, input,
    opened::{self, Opened},
};
use crate::{
    ledger::{Accepted, Build, Input, LedgerError, NewBuild, State, Wanted},
    registry::Push,
};

/// How long a request waits for its base to be looked up. What takes longer is built without being shared.
const RESOLVED_WITHIN: Duration = Duration::from_secs(3);
/// For how long a base that couldn't be looked up isn't asked for again, so that a registry that is away costs
/// the first request that time and no others.
const UNRESOLVED: Duration = Duration::from_secs(10);
/// How many of them are remembered.
const UNRESOLVED_AT_MOST: u64 = 4096;
/// How long a request waits for an image that is there to have its tag: longer only if the registry is slow.
const TAGGED_WITHIN: Duration = Duration::from_secs(5);

/// Takes requests whose builds may be shared.
#[derive(Clone)]
pub struct Sharing {
    pub(super) builds: Builds,
    pub(super) materials: Arc<Materials>,
    pub(super) committer: Arc<Committer>,
    /// How old an image may be that answers for a new one.
    image_age: Duration,
    /// Bases that couldn't be looked up lately, by who asked.
    unresolved: Cache<(UserName, String), ()>,
}

/// A build that waits for another's image, with its place in the queue in case that comes to nothing.
pub(super) struct Follower {
    pub(super) id: BuildId,
    pub(super) place: Place,
}

impl std::fmt::Debug for Sharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sharing")
    }
}

impl Sharing {
    /// Shares images that are no older than `image_age`.
    #[must_use]
    pub fn new(builds: Builds, materials: Arc<Materials>, committer: Arc<Committer>, image_age: Duration) -> Self {
        let unresolved = Cache::builder().max_capacity(UNRESOLVED_AT_MOST).time_to_live(UNRESOLVED).build();
        Self { builds, materials, committer, image_age, unresolved }
    }

    /// Accepts a build, unless one of the owner's is the answer already: one under way of the same input and
    /// target, or one whose tag still stands. Where only the target differs, the new build takes the other's image.
    /// One that is to be fresh is built whatever there is.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn accept(&self, mut submission: Submission) -> Result<Receipt, Refused> {
        let push = self.look_up(&mut submission).await;
        if let (Some(push), false, None, None) =
            (&push, submission.request.fresh, &submission.content, &submission.webhook)
            && let Some(build) = self.standing(push, &submission).await?
        {
            return Ok(Receipt::Existing(Box::new(build)));
        }
        let (origin, id, owner) = (submission.origin, BuildId::new(), submission.target.owner().clone());
        let (build, place) = self.builds.admit(submission, id)?;
        // A task of its own: a caller who goes away now must not leave a build that is in the
        // ledger and in no queue.
        let recorded = tokio::spawn(self.clone().record(build, place, origin)).await;
        let (receipt, soon) = recorded.map_err(|_| LedgerError::Closed)??;
        if soon && let Some(end) = self.builds.end(&owner, id).await? {
            let _ = timeout(TAGGED_WITHIN, end.come()).await;
        }
        Ok(receipt)
    }

    /// Records a build; also says whether it is to end in a moment, because there is an image for it.
    async fn record(self, build: NewBuild, place: Place, origin: Origin) -> Result<(Receipt, bool), Refused> {
        let id = build.id;
        let first = match self.builds.keep(build, origin).await? {
            Accepted::New => {
                place.fill(id);
                return Ok((Receipt::Queued(id), false));
            }
            Accepted::Existing(build) => return Ok((Receipt::Existing(build), false)),
            Accepted::Follows(first) => first,
        };
        let first = self.builds.0.ledger.load(first).await;
        self.spawn(Follower { id, place });
        Ok((Receipt::Queued(id), first?.is_some_and(|first| first.state == State::Succeeded)))
    }

    /// Adds what the request's image is made from, as far as that can be known; and where it goes.
    async fn look_up(&self, submission: &mut Submission) -> Option<Push> {
        let request = &submission.request;
        if request.has_context() || request.names_registry || request.skip_push {
            return None;
        }
        let owner = submission.target.owner();
        let push = self.materials.destination(&submission.owner_settings).await.ok()?;
        let opened = self.materials.open(owner, &request.source, &push).await.ok()?;
        let resolved = self.resolve(owner, &push, &opened).await?;
        let with_ca = self.materials.trust.is_some();
        let hash = input::hash(owner, request, &resolved, submission.file.as_deref(), with_ca);
        let since = Timestamp::now().checked_sub(self.image_age).unwrap_or(Timestamp::MIN);
        submission.input = Some(Input { hash, since, fresh: request.fresh });
        submission.request.resolved = Some(resolved);
        Some(push)
    }

    /// What the base is now; `None` where that can't be told in time.
    async fn resolve(&self, owner: &UserName, push: &Push, opened: &Opened) -> Option<Resolved> {
        let key = (owner.clone(), opened.base.to_string());
        if self.unresolved.get(&key).await.is_some() {
            return None;
        }
        let platform = opened::platform(self.builds.engine().capabilities.as_ref());
        let asked = async {
            self.materials.registry.admit(&push.host).await.ok()?;
            self.materials.resolve(opened, &platform).await.ok()
        };
        match timeout(RESOLVED_WITHIN, asked).await.ok().flatten() {
            Some(base) => Some(Resolved { digest: base.digest.clone(), platform: platform.to_string() }),
            None => {
                self.unresolved.insert(key, ()).await;
                None
            }
        }
    }

    /// The build that is the answer: it goes on, or the tag that it moved is still on its image.
    async fn standing(&self, push: &Push, submission: &Submission) -> Result<Option<Build>, LedgerError> {
        let Submission { registry, target, input, .. } = submission;
        let Some(input) = input else { return Ok(None) };
        let same = self.builds.0.ledger.same(Wanted { registry, target, input }).await?;
        let Some(build) = same else { return Ok(None) };
        if !build.state.is_terminal() {
            return Ok(Some(build));
        }
        let tagged = timeout(TAGGED_WITHIN, self.materials.registry.head(push, target, None)).await;
        let stands = matches!(tagged, Ok(Ok(Some(digest))) if Some(&digest) == build.digest.as_ref());
        Ok(Some(build).filter(|_| stands))
    }
}
