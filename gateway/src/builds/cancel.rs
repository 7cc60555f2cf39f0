//! Cancelling a build: whose doing it is, and what of it the owner reads.

use kiln_auth::{Origin, UserName, audit};
use kiln_backends::{BuildId, Failure, Reason};

use super::Builds;
use crate::ledger::{LedgerError, State};

/// Whose doing it is.
#[derive(Clone, Debug)]
enum By {
    Owner,
    Operator(UserName),
    /// Of nobody's: the caller went away who waited for it.
    HangUp,
}

impl Builds {
    /// Stops a build of this owner, on behalf of them or of an operator; `None` if there is none, else the
    /// state it is in now: one that runs ends a little later, one that has ended stays as it is.
    ///
    /// # Errors
    /// When the ledger failed.
    pub async fn cancel(
        &self,
        owner: &UserName,
        id: BuildId,
        by: &UserName,
        origin: Origin,
    ) -> Result<Option<State>, LedgerError> {
        let Some(build) = self.0.ledger.get(owner, id).await? else { return Ok(None) };
        if build.state.is_terminal() {
            if by != owner {
                let line = audit::Line::by("cancel", by).from(origin).whose(owner);
                line.build(&id).reason(&"it had ended already").refused();
            }
            return Ok(Some(build.state));
        }
        let by = if by == owner { By::Owner } else { By::Operator(by.clone()) };
        self.stop(owner, id, by, origin).await
    }

    /// Stops a build whose caller waited for it and has gone.
    pub(super) async fn hang_up(&self, owner: &UserName, id: BuildId, origin: Origin) -> Result<(), LedgerError> {
        match self.0.ledger.get(owner, id).await? {
            Some(build) if build.state.is_terminal() => {}
            Some(_) => drop(self.stop(owner, id, By::HangUp, origin).await?),
            // It was never recorded.
            None => self.0.contexts.release(id),
        }
        Ok(())
    }

    async fn stop(&self, owner: &UserName, id: BuildId, by: By, origin: Origin) -> Result<Option<State>, LedgerError> {
        // A task of its own: a caller who goes away now must not leave a build that is marked and runs on.
        let stopped = tokio::spawn(self.clone().stop_now(owner.clone(), id, by, origin)).await;
        stopped.map_err(|_| LedgerError::Closed)?
    }

    async fn stop_now(
        self,
        owner: UserName,
        id: BuildId,
        by: By,
        origin: Origin,
    ) -> Result<Option<State>, LedgerError> {
        let failure = Failure::new(Reason::CancelledByUser, by.sentence(&owner));
        // The ledger has a queued build's end before its log has.
        let held = self.0.logs.hold(id);
        let found = self.0.ledger.request_cancel(id, failure.clone()).await?;
        by.audit(&owner, id, origin);
        // Also for one that waits for an engine: its worker is free again.
        self.0.running.cancel(id, &failure.message);
        if found != Some(State::Queued) {
            drop(held);
            // Readers who came meanwhile to one that had ended.
            if found.is_some_and(State::is_terminal) {
                self.0.logs.seal(id);
            }
            return Ok(found);
        }
        self.0.queue.remove(&owner, id);
        self.0.contexts.release(id);
        self.0.stored.release(id);
        self.0.end_log(id, State::Cancelled, Some(&failure)).await;
        drop(held);
        self.0.logs.seal(id);
        self.0.metrics.ended(State::Cancelled, Some(&failure));
        Ok(Some(State::Cancelled))
    }
}

impl By {
    /// What the owner reads. Which operator it was, the audit line says.
    fn sentence(&self, owner: &UserName) -> String {
        match self {
            Self::Owner => format!("{owner} cancelled the build"),
            Self::Operator(_) => "an operator cancelled the build".to_owned(),
            Self::HangUp => "the caller went away".to_owned(),
        }
    }

    fn audit(&self, owner: &UserName, id: BuildId, origin: Origin) {
        let line = match self {
            Self::Owner => audit::Line::by("cancel", owner),
            Self::Operator(operator) => audit::Line::by("cancel", operator).whose(owner),
            Self::HangUp => audit::Line::of("cancel", "gateway").whose(owner).reason(&"the caller went away"),
        };
        line.from(origin).build(&id).done();
    }
}
