//! Builds whose callers wait: they end with the process that holds their contexts, and as a rule with the connection.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use kiln_auth::{Origin, UserName, audit};
use kiln_backends::{BuildId, Failure, Reason};
use tokio::runtime::Handle;

use super::{Builds, Receipt, Refused, Submission};
use crate::{
    config::OnDisconnect,
    ledger::{Build, LedgerError},
    log::Reader,
    recipes::Context,
};

/// The contexts of attached builds that haven't ended, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    kept: Mutex<HashMap<BuildId, Kept>>,
    /// Builds under way, by whose they are and what their callers have in common. Those who send the same take
    /// turns, so that the second finds the first one's build.
    shared: Mutex<HashMap<(UserName, Same), Turn>>,
}

/// What requests of one owner have in common that ask for the same.
pub type Same = [u8; 32];

type Turn = Arc<tokio::sync::Mutex<Weak<Waited>>>;

/// What is kept for an attached build until it ends, whether or not its caller still waits.
#[derive(Debug)]
struct Kept {
    context: Arc<Context>,
    /// What its caller took for it: a place, as a rule.
    _held: Held,
}

/// Given back by being dropped.
pub type Held = Box<dyn Any + Send>;

/// A build whose caller waits by holding this; others who sent the same may hold it, too.
#[derive(Debug)]
pub struct Attached(Arc<Waited>);

/// A build that somebody waits for. When the last of them lets go before its end they all have hung up.
#[derive(Debug)]
struct Waited {
    builds: Builds,
    owner: UserName,
    id: BuildId,
    origin: Origin,
    on_disconnect: OnDisconnect,
    ended: AtomicBool,
}

/// Why an attached build ends without its caller's doing.
pub(super) fn interrupted() -> Failure {
    let message = "the gateway stopped before the build had ended, and its context is gone; send it again";
    Failure::new(Reason::Interrupted, message)
}

// === impl Contexts ===

impl Contexts {
    /// The context of a build, as long as it hasn't ended.
    pub(super) fn get(&self, id: BuildId) -> Option<Arc<Context>> {
        self.kept().get(&id).map(|kept| Arc::clone(&kept.context))
    }

    /// Nobody asks for the context any more, and what was taken for it is given back.
    pub(super) fn release(&self, id: BuildId) {
        self.kept().remove(&id);
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<BuildId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, key: (UserName, Same)) -> Turn {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_use =
            |turn: &Turn| Arc::strong_count(turn) > 1 || turn.try_lock().is_ok_and(|waited| waited.strong_count() > 0);
        shared.retain(|_, turn| is_of_use(turn));
        Arc::clone(shared.entry(key).or_default())
    }
}

// === impl Builds ===

impl Builds {
    /// Accepts a build for a caller who waits. It is in the ledger as others are, for those who ask for
    /// its state and log; after a crash it ends as interrupted. What is `held` is dropped at its end.
    ///
    /// A request that is the `same` as another one of its owner's, whose build is under way, waits for that one:
    /// it goes on while one of those waits, and nothing is built twice. `None` is the same as no other.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn attach(
        &self,
        submission: Submission,
        context: Context,
        on_disconnect: OnDisconnect,
        held: Held,
        same: Option<Same>,
    ) -> Result<Attached, Refused> {
        // A caller who goes away meanwhile leaves the task's result unread, which drops it.
        let builds = self.clone();
        let attached = tokio::spawn(async move {
            let Some(same) = same else { return builds.begin(submission, context, on_disconnect, held).await };
            builds.join_or_begin(submission, context, on_disconnect, held, same).await
        });
        attached.await.map_err(|_| LedgerError::Closed)?
    }

    async fn join_or_begin(
        self,
        submission: Submission,
        context: Context,
        on_disconnect: OnDisconnect,
        held: Held,
        same: Same,
    ) -> Result<Attached, Refused> {
        let turn = self.0.contexts.turn((submission.target.owner().clone(), same));
        let mut shared = turn.lock().await;
        if let Some(waited) = shared.upgrade()
            && self.0.ledger.makes_its_image(waited.id).await?
        {
            audit::Line::by("join", &waited.owner).from(submission.origin).build(&waited.id).done();
            return Ok(Attached(waited));
        }
        let attached = self.clone().begin(submission, context, on_disconnect, held).await?;
        *shared = Arc::downgrade(&attached.0);
        Ok(attached)
    }

    async fn begin(
        self,
        mut submission: Submission,
        context: Context,
        on_disconnect: OnDisconnect,
        held: Held,
    ) -> Result<Attached, Refused> {
        submission.request.attached = true;
        let (origin, id) = (submission.origin, BuildId::new());
        let owner = submission.target.owner().clone();
        let (build, place) = self.admit(submission, id)?;
        // Before the build can have its turn.
        self.0.contexts.kept().insert(id, Kept { context: Arc::new(context), _held: held });
        // Until it is recorded nobody's word counts that it is to go on.
        let cancel = OnDisconnect::Cancel;
        let ended = AtomicBool::new(false);
        let mut waited = Waited { builds: self.clone(), owner, id, origin, on_disconnect: cancel, ended };
        match self.record(build, place, origin).await? {
            Receipt::Queued(_) => {
                waited.on_disconnect = on_disconnect;
                Ok(Attached(Arc::new(waited)))
            }
            // Only requests with a key are found again, and these have none.
            Receipt::Existing(build) => Err(LedgerError::Corrupt(format!("{} is there twice", build.id)).into()),
        }
    }
}

// === impl Attached ===

impl Attached {
    /// The build's id.
    #[must_use]
    pub fn id(&self) -> BuildId {
        self.0.id
    }

    /// Waits for the build's end; `None` when the process stops before.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn ended(&self) -> Result<Option<Build>, LedgerError> {
        let Waited { builds, owner, id, ended, .. } = &*self.0;
        if let Some(end) = builds.end(owner, *id).await? {
            end.come().await;
        }
        let build = builds.get(owner, *id).await?.filter(|build| build.state.is_terminal());
        ended.fetch_or(build.is_some(), Ordering::Relaxed);
        Ok(build)
    }

    /// The build's log from its beginning to its end, as it grows.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn follow(&self) -> Result<Option<Reader>, LedgerError> {
        self.0.builds.log(&self.0.owner, self.0.id, 0, true).await
    }

    /// The build's log from its beginning to where it is now.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn log(&self) -> Result<Option<Reader>, LedgerError> {
        self.0.builds.log(&self.0.owner, self.0.id, 0, false).await
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if *self.ended.get_mut() || self.on_disconnect == OnDisconnect::Keep {
            return;
        }
        let (builds, owner, id, origin) = (self.builds.clone(), self.owner.clone(), self.id, self.origin);
        // Without a runtime the process ends, and the next one sees to it.
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = builds.hang_up(&owner, id, origin).await {
                tracing::error!(build = %id, %error, "a build whose caller went away was not cancelled");
            }
        });
    }
}
