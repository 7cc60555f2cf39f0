//! Builds whose callers wait: they end with the process that holds their contexts, and as a rule with the connection.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kiln_auth::{Origin, UserName};
use kiln_backends::{BuildId, Failure, Reason};
use tokio::runtime::Handle;

use super::{Builds, Receipt, Refused, Submission};
use crate::{
    config::OnDisconnect,
    ledger::{Build, LedgerError},
    log::Reader,
    recipes::Context,
};

/// The contexts of attached builds that haven't ended.
#[derive(Debug, Default)]
pub(super) struct Contexts(Mutex<HashMap<BuildId, Kept>>);

/// What is kept for an attached build until it ends, whether or not its caller still waits.
#[derive(Debug)]
struct Kept {
    context: Arc<Context>,
    /// What its caller took for it: a place, as a rule.
    _held: Held,
}

/// Given back by being dropped.
pub type Held = Box<dyn Any + Send>;

/// A build whose caller waits by holding this.
#[derive(Debug)]
pub struct Attached {
    builds: Builds,
    owner: UserName,
    id: BuildId,
    origin: Origin,
    on_disconnect: OnDisconnect,
    ended: bool,
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
        self.lock().get(&id).map(|kept| Arc::clone(&kept.context))
    }

    /// Nobody asks for the context any more, and what was taken for it is given back.
    pub(super) fn release(&self, id: BuildId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BuildId, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Builds ===

impl Builds {
    /// Accepts a build for a caller who waits. It is in the ledger as others are, for those who ask for
    /// its state and log; after a crash it ends as interrupted. What is `held` is dropped at its end.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn attach(
        &self,
        submission: Submission,
        context: Context,
        on_disconnect: OnDisconnect,
        held: Held,
    ) -> Result<Attached, Refused> {
        // A caller who goes away meanwhile leaves the task's result unread, which drops it.
        let attached = tokio::spawn(self.clone().attach_now(submission, context, on_disconnect, held)).await;
        attached.map_err(|_| LedgerError::Closed)?
    }

    async fn attach_now(
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
        self.0.contexts.lock().insert(id, Kept { context: Arc::new(context), _held: held });
        // Until it is recorded nobody's word counts that it is to go on.
        let cancel = OnDisconnect::Cancel;
        let mut attached = Attached { builds: self.clone(), owner, id, origin, on_disconnect: cancel, ended: false };
        match self.record(build, place, origin).await? {
            Receipt::Queued(_) => {
                attached.on_disconnect = on_disconnect;
                Ok(attached)
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
        self.id
    }

    /// Waits for the build's end; `None` when the process stops before.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn ended(&mut self) -> Result<Option<Build>, LedgerError> {
        if let Some(end) = self.builds.end(&self.owner, self.id).await? {
            end.come().await;
        }
        let build = self.builds.get(&self.owner, self.id).await?.filter(|build| build.state.is_terminal());
        self.ended = build.is_some();
        Ok(build)
    }

    /// The build's log from its beginning to its end, as it grows.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn follow(&self) -> Result<Option<Reader>, LedgerError> {
        self.builds.log(&self.owner, self.id, 0, true).await
    }

    /// The build's log from its beginning to where it is now.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn log(&self) -> Result<Option<Reader>, LedgerError> {
        self.builds.log(&self.owner, self.id, 0, false).await
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if self.ended || self.on_disconnect == OnDisconnect::Keep {
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
