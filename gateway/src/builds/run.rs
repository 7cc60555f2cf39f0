//! Runs queued builds: takes the next one, has the engine build it, and sees it to its end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kiln_backends::{BuildBackend, BuildId, Failure, Pushed, Reason, RunError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Builds, Shared,
    attempt::{Attempt, Materials},
    commit::Committer,
    running::{Stop, Why},
};
use crate::{
    ledger::{Build, Change, LedgerError, State},
    log::RecordKind,
};

/// What an attempt's lease is beyond its deadline; only a dead process lets one run out.
const LEASE_BEYOND: Duration = Duration::from_secs(60);
/// How long to wait for an engine that doesn't answer, the first time and at most.
const ENGINE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Takes builds from the queue and runs them, so many at once.
#[derive(Clone)]
pub struct Runner {
    builds: Builds,
    backend: Arc<dyn BuildBackend>,
    materials: Arc<Materials>,
    committer: Arc<Committer>,
    settings: RunnerSettings,
}

/// How builds are run.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// Builds at once.
    pub concurrency: usize,
    /// From an attempt's start to the pushed image.
    pub deadline: Duration,
    /// How long a build waits for an engine that doesn't answer.
    pub queue_deadline: Duration,
}

/// How an attempt ended, as far as the build is concerned.
enum Ended {
    Terminal(Change),
    /// The process stops; another one goes on with the build.
    Handed,
    /// The engine was away: try again on it.
    Again(String),
}

impl Runner {
    /// A runner over one engine.
    #[must_use]
    pub fn new(builds: Builds, backend: Arc<dyn BuildBackend>, materials: Materials, settings: RunnerSettings) -> Self {
        let committer = Arc::new(Committer::new(builds.clone()));
        Self { builds, backend, materials: Arc::new(materials), committer, settings }
    }

    /// Runs builds until `stop` fires, then lets the running ones go on for `drain`, and hands
    /// back the rest.
    pub async fn run(self, stop: CancellationToken, drain: Duration) {
        let mut workers = JoinSet::new();
        for _ in 0..self.settings.concurrency.max(1) {
            let (runner, stop) = (self.clone(), stop.clone());
            workers.spawn(async move {
                while let Some(id) = stop.run_until_cancelled(runner.builds.0.queue.next()).await {
                    runner.see_to_its_end(id).await;
                }
            });
        }
        stop.cancelled().await;
        if tokio::time::timeout(drain, wait_for(&mut workers)).await.is_err() {
            self.builds.0.running.drain();
            wait_for(&mut workers).await;
        }
    }

    async fn see_to_its_end(&self, id: BuildId) {
        if let Err(error) = self.advance(id).await {
            // The ledger has the last word; the next start takes the build up where it says.
            tracing::error!(build = %id, %error, "a build is left as the ledger has it");
        }
        self.builds.0.running.leave(id);
    }

    async fn advance(&self, id: BuildId) -> Result<(), LedgerError> {
        let shared = &self.builds.0;
        let stop = shared.running.enter(id);
        let mut wait = ENGINE_BACKOFF.0;
        loop {
            let Some(build) = shared.ledger.load(id).await? else { return Ok(()) };
            let ended = match build.state {
                State::Queued if build.cancelled => return Ok(()),
                State::Queued => self.attempt(&build, &stop).await?,
                State::Pushed => {
                    self.committer.commit(&build, &self.materials, &stop).await?;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            match ended {
                Some(Ended::Terminal(change)) => return self.end(&build, change).await,
                Some(Ended::Handed) => {
                    self.requeue(&build).await?;
                    return Ok(());
                }
                Some(Ended::Again(trouble)) => {
                    let waited = Timestamp::now().duration_since(build.accepted_at).unsigned_abs();
                    if waited > self.settings.queue_deadline {
                        let message = format!("no engine took the build within {waited:.0?}; ask the operator");
                        tracing::error!(build = %id, trouble, "no engine took a build");
                        let failure = Failure::new(Reason::EngineUnavailable, message);
                        return self.end(&build, Change::Failed(failure)).await;
                    }
                    self.requeue(&build).await?;
                    if stop.token.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        // Queued again: whoever stopped it sees to the rest.
                        return Ok(());
                    }
                    wait = (wait * 2).min(ENGINE_BACKOFF.1);
                }
                // Pushed, or lost to somebody else: the ledger says which.
                None => {}
            }
        }
    }

    /// One attempt; `None` when the ledger has moved on.
    async fn attempt(&self, build: &Build, stop: &Stop) -> Result<Option<Ended>, LedgerError> {
        let shared = &self.builds.0;
        let Some(capabilities) = self.engine(stop).await else {
            return Ok(Some(if stop.why() == Some(Why::Cancelled) { self.cancelled(build) } else { Ended::Handed }));
        };
        let lease = self.settings.deadline + LEASE_BEYOND;
        let Some(number) = shared.ledger.claim(build.id, lease).await? else { return Ok(None) };
        let waited = Timestamp::now().duration_since(build.accepted_at).unsigned_abs();
        let _running = shared.metrics.started(waited);
        let begun = Instant::now();
        let attempt = Attempt { shared, build, number, deadline: self.settings.deadline, capabilities: &capabilities };
        let outcome = attempt.run(&*self.backend, &self.materials, &stop.token).await;
        shared.metrics.attempt_took(begun.elapsed());
        let (Pushed { digest }, extender) = match outcome {
            Ok(pushed) => pushed,
            Err(error) => return Ok(Some(self.ended(build, error, stop))),
        };
        let change = Change::Pushed { digest, extender };
        shared.ledger.transition(build.id, number, State::Running, change).await?;
        Ok(None)
    }

    /// Waits for an engine that keeps the rules; `None` if the build is stopped before.
    async fn engine(&self, stop: &Stop) -> Option<kiln_backends::Capabilities> {
        let mut health = self.builds.0.engine.subscribe();
        let found = stop.token.run_until_cancelled(health.wait_for(|health| health.capabilities.is_some())).await?;
        found.ok()?.capabilities.clone()
    }

    fn ended(&self, build: &Build, error: RunError, stop: &Stop) -> Ended {
        match error {
            RunError::Build(failure) => Ended::Terminal(Change::Failed(failure)),
            RunError::Cancelled if stop.why() == Some(Why::Draining) => Ended::Handed,
            RunError::Cancelled => self.cancelled(build),
            RunError::Engine { retryable: true, source } => {
                tracing::warn!(build = %build.id, error = %source, "the engine is away");
                Ended::Again(source.to_string())
            }
            RunError::Engine { retryable: false, source } => {
                tracing::error!(build = %build.id, error = %source, "the engine failed");
                let message = "the engine can't run this build; the operator's log says why";
                Ended::Terminal(Change::Failed(Failure::new(Reason::EngineUnavailable, message)))
            }
        }
    }

    fn cancelled(&self, build: &Build) -> Ended {
        let message = format!("{} cancelled the build", build.owner());
        Ended::Terminal(Change::Cancelled(Failure::new(Reason::CancelledByUser, message)))
    }

    /// Back to `queued`, as if the attempt had never been.
    async fn requeue(&self, build: &Build) -> Result<(), LedgerError> {
        let ledger = &self.builds.0.ledger;
        let Some(now) = ledger.load(build.id).await? else { return Ok(()) };
        ledger.transition(build.id, now.attempt, State::Running, Change::Requeued).await?;
        Ok(())
    }

    /// Writes a terminal state: the log's end first, so that nobody sees a state without its log.
    async fn end(&self, build: &Build, change: Change) -> Result<(), LedgerError> {
        let shared = &self.builds.0;
        let state = change.state();
        let failure = match &change {
            Change::Failed(failure) | Change::Cancelled(failure) => Some(failure.clone()),
            _ => None,
        };
        shared.finish(build.id, change, failure.as_ref()).await?;
        tracing::info!(build = %build.id, owner = %build.owner(), state = state.as_str(), reason = ?failure.map(|f| f.reason), "build ended");
        Ok(())
    }
}

impl Shared {
    /// Ends a build from whatever state it is in, if nobody else has.
    pub(super) async fn finish(
        &self,
        id: BuildId,
        change: Change,
        failure: Option<&Failure>,
    ) -> Result<bool, LedgerError> {
        let Some(now) = self.ledger.load(id).await? else { return Ok(false) };
        if now.state.is_terminal() {
            return Ok(false);
        }
        self.end_log(id, change.state(), failure).await;
        let state = change.state();
        let moved = self.ledger.transition(id, now.attempt, now.state, change).await?;
        if moved {
            self.metrics.ended(state, failure);
        }
        Ok(moved)
    }

    /// A word of Kiln's own in a build's log.
    pub(super) async fn note(&self, id: BuildId, kind: RecordKind, text: String) {
        let written = async { self.logs.append(id).await?.write(&[(kind, 0, text.into())]).await };
        if let Err(error) = written.await {
            tracing::warn!(build = %id, %error, "a note was not written to the build's log");
        }
    }
}

async fn wait_for(workers: &mut JoinSet<()>) {
    while workers.join_next().await.is_some() {}
}
