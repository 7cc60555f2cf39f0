//! A build that takes another's image: it waits for that one's end, and only its tag is put.

use kiln_backends::{BuildId, Failure, Reason};

use super::{
    running::Stop,
    sharing::{Follower, Sharing},
};
use crate::{
    ledger::{Build, Change, LedgerError, State},
    log::RecordKind,
};

/// How it goes on with a follower.
enum Next {
    /// It has ended, or the next process goes on with it.
    Done,
    /// It is to be built, as if it had followed nobody.
    Build,
}

/// What became of the build that is followed.
enum Outcome {
    /// It has an image, which stands.
    Image(Box<Build>),
    /// It failed by what was asked for, which is the same here.
    Failed(Failure),
    /// Nothing that helps.
    Nothing,
    /// The process stops before it has ended.
    Unknown,
}

impl Sharing {
    /// Sees to a follower in a task of its own. Whatever goes wrong there, the build is in the ledger as queued.
    pub(super) fn spawn(&self, follower: Follower) {
        let sharing = self.clone();
        tokio::spawn(async move {
            let Follower { id, place } = follower;
            let stop = sharing.builds.0.running.enter(id);
            let next = sharing.follow(id, &stop).await;
            sharing.builds.0.running.leave(id);
            match next {
                Ok(Next::Done) => {}
                Ok(Next::Build) => place.fill(id),
                Err(error) => {
                    tracing::error!(build = %id, %error, "a build goes its own way instead of following another one");
                    place.fill(id);
                }
            }
        });
    }

    async fn follow(&self, id: BuildId, stop: &Stop) -> Result<Next, LedgerError> {
        let shared = &self.builds.0;
        while let Some(build) = shared.ledger.load(id).await? {
            let first = match (build.state, build.follows) {
                (State::Queued, Some(first)) if !build.cancelled => first,
                (State::Queued, _) => return Ok(Next::Build),
                (State::Pushed, _) => return self.committer.commit(&build, stop).await.map(|()| Next::Done),
                _ => return Ok(Next::Done),
            };
            let outcome = tokio::select! {
                outcome = self.outcome(&build, first) => outcome?,
                // Cancelled: the ledger has it. Stopping: the next process follows anew.
                () = stop.token.cancelled() => return Ok(Next::Done),
            };
            match outcome {
                Outcome::Image(first) => self.take(&build, *first).await?,
                Outcome::Failed(failure) => {
                    shared.finish(id, Change::Failed(failure.clone()), Some(&failure)).await?;
                }
                Outcome::Nothing => drop(shared.ledger.stop_following(id).await?),
                Outcome::Unknown => return Ok(Next::Done),
            }
        }
        Ok(Next::Done)
    }

    /// Waits for the end of the first one.
    async fn outcome(&self, build: &Build, first: BuildId) -> Result<Outcome, LedgerError> {
        let shared = &self.builds.0;
        let Some(found) = shared.ledger.get(build.owner(), first).await? else { return Ok(Outcome::Nothing) };
        if !found.state.is_terminal() {
            shared
                .note(build.id, RecordKind::Note, format!("waiting for the image of build {first}, of the same"))
                .await;
        }
        if let Some(end) = self.builds.end(build.owner(), first).await? {
            end.come().await;
        }
        let Some(found) = shared.ledger.get(build.owner(), first).await? else { return Ok(Outcome::Nothing) };
        Ok(match (found.state, &found.failure) {
            (State::Succeeded, _) if self.has_image(build, &found).await => Outcome::Image(Box::new(found)),
            (State::Failed, Some(failure)) if by_input(failure.reason) => Outcome::Failed(failure.clone()),
            (state, _) if state.is_terminal() => Outcome::Nothing,
            _ => Outcome::Unknown,
        })
    }

    /// Whether the first one's image still stands where the build can tag it.
    async fn has_image(&self, build: &Build, first: &Build) -> bool {
        let (Some(digest), Ok(push)) = (&first.digest, self.materials.push(build).await) else { return false };
        let found = self.materials.registry.head(&push, &build.target, Some(digest)).await;
        matches!(found, Ok(Some(found)) if found == *digest)
    }

    /// From here on it is like any build whose image is pushed; if it isn't queued any more, nothing happens.
    async fn take(&self, build: &Build, first: Build) -> Result<(), LedgerError> {
        let shared = &self.builds.0;
        let Some(digest) = first.digest else { return Ok(()) };
        shared.note(build.id, RecordKind::Note, format!("the image is that of build {}: {digest}", first.id)).await;
        let made_at = first.made_at.unwrap_or(first.accepted_at);
        let pushed = Change::Pushed { digest, extender: first.extender, made_at };
        shared.ledger.transition(build.id, build.attempt, State::Queued, pushed).await?;
        Ok(())
    }
}

/// Whether a build of the same would fail likewise; all else may go well another time, or for another target.
fn by_input(reason: Reason) -> bool {
    use Reason::{
        BaseForbidden, BaseNotFound, BaseUnsupported, OutOfMemory, OutOfStorage, RecipeInvalid, SourceDenied,
        StepFailed,
    };
    matches!(
        reason,
        BaseNotFound
            | BaseForbidden
            | BaseUnsupported
            | RecipeInvalid
            | SourceDenied
            | StepFailed
            | OutOfMemory
            | OutOfStorage
    )
}
