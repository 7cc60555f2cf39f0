//! Runs queued builds: takes the next one, has the engine build it, and sees it to its end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kiln_backends::{BuildBackend, BuildId, Capabilities, Failure, Pushed, Reason, RunError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Builds, Shared, attached,
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
/// How long to wait after an engine was lost, the first time and at most.
const ENGINE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How long to wait for a ledger that takes nothing, on a full disk for one.
const LEDGER_BACKOFF: Duration = Duration::from_secs(1);

/// Takes builds from the queue and runs them, so many at once.
#[derive(Clone)]
pub struct Runner {
    builds: Builds,
    backend: Arc<dyn BuildBackend>,
    materials: Arc<Materials>,
    committer: Arc<Committer>,
    settings: RunnerSettings,
    stop: CancellationToken,
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
    /// It begins again: with what is wrong with the engine, if something is.
    Again(Option<String>),
}

impl Runner {
    /// A runner over one engine, until `stop` fires.
    #[must_use]
    pub fn new(
        builds: Builds,
        backend: Arc<dyn BuildBackend>,
        materials: Arc<Materials>,
        committer: Arc<Committer>,
        settings: RunnerSettings,
        stop: CancellationToken,
    ) -> Self {
        Self { builds, backend, materials, committer, settings, stop }
    }

    /// Runs builds until the runner's `stop` fires, then lets those on the engine go on for `drain`,
    /// and hands back the rest.
    pub async fn run(self, drain: Duration) {
        let mut workers = JoinSet::new();
        for _ in 0..self.settings.concurrency.max(1) {
            let runner = self.clone();
            workers.spawn(async move {
                while let Some(turn) = runner.stop.run_until_cancelled(runner.builds.0.queue.next()).await {
                    runner.see_to_its_end(turn.id).await;
                }
            });
        }
        self.stop.cancelled().await;
        if tokio::time::timeout(drain, wait_for(&mut workers)).await.is_err() {
            self.builds.0.running.drain();
            wait_for(&mut workers).await;
        }
    }

    async fn see_to_its_end(&self, id: BuildId) {
        loop {
            let runner = self.clone();
            // A task of its own: a bug that one build meets must not take the worker with it.
            match tokio::spawn(async move { runner.advance(id).await }).await {
                Ok(Ok(())) => break,
                // The ledger has the last word: the build goes on where it says.
                Ok(Err(error)) => tracing::error!(build = %id, %error, "a build waits for the ledger"),
                Err(error) => {
                    tracing::error!(build = %id, %error, "a build can't be run");
                    let failure = Failure::new(Reason::Internal, "the gateway has a bug; the operator's log says more");
                    if self.builds.0.finish(id, Change::Failed(failure.clone()), Some(&failure)).await.is_ok() {
                        break;
                    }
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(LEDGER_BACKOFF)).await.is_none() {
                break;
            }
        }
        self.builds.0.running.leave(id);
    }

    async fn advance(&self, id: BuildId) -> Result<(), LedgerError> {
        let shared = &self.builds.0;
        let stop = shared.running.enter(id);
        let mut wait = ENGINE_BACKOFF.0;
        let mut lost_at = None;
        while let Some(build) = shared.ledger.load(id).await? {
            let ended = match build.state {
                // Cancelled while it ran, and then cut off before it could end.
                State::Queued if build.cancelled => Some(cancelled(&build, &stop)),
                State::Queued => self.attempt(&build, lost_at, &stop).await?,
                // An attempt of this process ended, but the ledger couldn't take it.
                State::Running => Some(Ended::Again(None)),
                State::Pushed => return self.committer.commit(&build, &stop).await,
                State::Succeeded | State::Failed | State::Cancelled => return Ok(()),
            };
            match ended {
                Some(Ended::Terminal(change)) => return self.end(&build, change).await,
                // Nobody can go on with it: its context goes with this process.
                Some(Ended::Handed) if build.request.attached => {
                    return self.end(&build, Change::Failed(attached::interrupted())).await;
                }
                Some(Ended::Handed) => return self.requeue(&build).await,
                Some(Ended::Again(None)) => {
                    self.requeue(&build).await?;
                    tokio::time::sleep(LEDGER_BACKOFF).await;
                }
                Some(Ended::Again(Some(trouble))) => {
                    shared.lost_engine(&trouble);
                    lost_at.get_or_insert_with(Timestamp::now);
                    let text = "the engine went away; the build begins again as soon as there is one".to_owned();
                    shared.note(id, RecordKind::Warning, text).await;
                    self.requeue(&build).await?;
                    // Whoever stops it now is seen by the next round.
                    tokio::select! {
                        () = stop.token.cancelled() => {}
                        () = self.stop.cancelled() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = (wait * 2).min(ENGINE_BACKOFF.1);
                }
                // Pushed, or lost to somebody else: the ledger says which.
                None => {}
            }
        }
        Ok(())
    }

    /// One attempt; `None` when the ledger has moved on.
    async fn attempt(
        &self,
        build: &Build,
        lost_at: Option<Timestamp>,
        stop: &Stop,
    ) -> Result<Option<Ended>, LedgerError> {
        let shared = &self.builds.0;
        let capabilities = match self.engine(build, lost_at, stop).await {
            Ok(capabilities) => capabilities,
            Err(ended) => return Ok(Some(ended)),
        };
        let lease = self.settings.deadline + LEASE_BEYOND;
        let Some(number) = shared.ledger.claim(build.id, lease).await? else {
            // Whatever keeps a queued build from being claimed, it must not be asked without a pause.
            tokio::time::sleep(LEDGER_BACKOFF).await;
            return Ok(None);
        };
        stop.begin(number);
        let waited = Timestamp::now().duration_since(build.accepted_at).unsigned_abs();
        let _running = shared.metrics.started(waited);
        let begun = Instant::now();
        let attempt = Attempt { shared, build, number, deadline: self.settings.deadline, capabilities: &capabilities };
        let outcome = attempt.run(&*self.backend, &self.materials, &stop.token).await;
        shared.metrics.attempt_took(begun.elapsed());
        let change = match outcome {
            Ok((Some(Pushed { digest }), extender)) => Change::Pushed { digest, extender, made_at: Timestamp::now() },
            // There is no tag to be moved, so this is the end.
            Ok((None, _)) if stop.why() == Some(Why::Cancelled) => return Ok(Some(cancelled(build, stop))),
            Ok((None, _)) => return Ok(Some(Ended::Terminal(Change::Succeeded))),
            Err(error) => return Ok(Some(self.ended(build, error, stop))),
        };
        shared.move_on(build.id, number, State::Running, change).await?;
        Ok(None)
    }

    /// Waits for an engine that keeps the rules, as long as a build may wait for one. It counts from
    /// when there was none, or from when this build lost one, but not while others were built.
    async fn engine(&self, build: &Build, lost_at: Option<Timestamp>, stop: &Stop) -> Result<Capabilities, Ended> {
        let mut engine = self.builds.0.engine.subscribe();
        let missing_since = engine.borrow().missing_since;
        let since = lost_at.or(missing_since.map(|missing| missing.max(build.accepted_at)));
        let waited = since.map_or(Duration::ZERO, |since| Timestamp::now().duration_since(since).unsigned_abs());
        let left = self.settings.queue_deadline.checked_sub(waited).unwrap_or_default();
        tokio::select! {
            biased;
            () = stop.token.cancelled() => {
                Err(if stop.why() == Some(Why::Cancelled) { cancelled(build, stop) } else { Ended::Handed })
            }
            // The next process may find one; waiting for it here would only hold up the stop.
            () = self.stop.cancelled() => Err(Ended::Handed),
            () = tokio::time::sleep(left) => Err(self.no_engine(build)),
            Ok(health) = engine.wait_for(|health| health.capabilities.is_some()) => {
                health.capabilities.clone().ok_or(Ended::Handed)
            }
        }
    }

    fn no_engine(&self, build: &Build) -> Ended {
        let trouble = self.builds.engine().trouble;
        tracing::error!(build = %build.id, trouble, "no engine took a build");
        let message = format!("no engine took the build within {:?}; ask the operator", self.settings.queue_deadline);
        Ended::Terminal(Change::Failed(Failure::new(Reason::EngineUnavailable, message)))
    }

    fn ended(&self, build: &Build, error: RunError, stop: &Stop) -> Ended {
        match error {
            RunError::Build(failure) => Ended::Terminal(Change::Failed(failure)),
            RunError::Cancelled if stop.why() == Some(Why::Draining) => Ended::Handed,
            RunError::Cancelled => cancelled(build, stop),
            RunError::Engine { retryable: true, source } => Ended::Again(Some(source.to_string())),
            RunError::Engine { retryable: false, source } => {
                tracing::error!(build = %build.id, error = %source, "the engine failed");
                let message = "the engine can't run this build; the operator's log says why";
                Ended::Terminal(Change::Failed(Failure::new(Reason::EngineUnavailable, message)))
            }
        }
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
        tracing::info!(build = %build.id, owner = %build.owner(), state = state.as_str(), reason = failure.as_ref().map(|f| tracing::field::display(f.reason)), "build ended");
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
        self.contexts.release(id);
        self.end_log(id, change.state(), failure).await;
        let state = change.state();
        let moved = self.move_on(id, now.attempt, now.state, change).await?;
        self.logs.seal(id);
        if moved {
            self.stored.release(id);
            self.metrics.ended(state, failure);
        }
        Ok(moved)
    }

    /// Moves a build on as soon as the ledger takes it: what an engine did isn't forgotten, and an
    /// end that stands in the log isn't taken back, because a disk is full for a while.
    async fn move_on(&self, id: BuildId, attempt: u32, from: State, to: Change) -> Result<bool, LedgerError> {
        loop {
            match self.ledger.transition(id, attempt, from, to.clone()).await {
                Err(error) if self.accepting.load(Ordering::Relaxed) => {
                    tracing::error!(build = %id, %error, "a build waits for the ledger");
                    tokio::time::sleep(LEDGER_BACKOFF).await;
                }
                moved => return moved,
            }
        }
    }

    /// A word of Kiln's own in a build's log.
    pub(super) async fn note(&self, id: BuildId, kind: RecordKind, text: String) {
        let written = async { self.logs.append(id).await?.write(&[(kind, 0, text.into())]).await };
        if let Err(error) = written.await {
            tracing::warn!(build = %id, %error, "a note was not written to the build's log");
        }
    }
}

fn cancelled(build: &Build, stop: &Stop) -> Ended {
    Ended::Terminal(Change::Cancelled(Failure::new(Reason::CancelledByUser, stop.by(build.owner()))))
}

async fn wait_for(workers: &mut JoinSet<()>) {
    while workers.join_next().await.is_some() {}
}
