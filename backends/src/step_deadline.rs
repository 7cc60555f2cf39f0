//! A backend that ends builds of which one step takes too long: policy around any other backend.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    AttemptName, BuildBackend, BuildSpec, Capabilities, EngineError, Event, EventKind, EventSink, FailedStep, Failure,
    Pushed, Reason, RunError,
};

/// Stands before another backend and cancels what a step overruns.
pub struct StepDeadline {
    inner: Arc<dyn BuildBackend>,
}

/// A step that is running.
struct Step {
    name: String,
    until: Instant,
}

impl StepDeadline {
    /// Gives every step of `inner`'s builds what their specs allow it, and no more.
    #[must_use]
    pub fn new(inner: Arc<dyn BuildBackend>) -> Self {
        Self { inner }
    }

    /// Hands events on until they end; if a step overruns, cancels and tells which.
    async fn watch(
        allowed: Duration,
        mut events: mpsc::Receiver<Event>,
        on: EventSink,
        overrun: CancellationToken,
    ) -> Option<Step> {
        let mut running: BTreeMap<u32, Step> = BTreeMap::new();
        let mut late = None;
        loop {
            let first = running.values().map(|step| step.until).min().filter(|_| late.is_none());
            let event = tokio::select! {
                event = events.recv() => event,
                () = async { sleep_until(first.unwrap_or_else(Instant::now)).await }, if first.is_some() => {
                    late = running.iter().find(|(_, step)| Some(step.until) == first).map(|(number, _)| *number);
                    overrun.cancel();
                    continue;
                }
            };
            let Some(event) = event else { return late.and_then(|number| running.remove(&number)) };
            match &event.kind {
                EventKind::StepStarted { step, name } => {
                    running.insert(*step, Step { name: name.clone(), until: Instant::now() + allowed });
                }
                EventKind::StepFinished { step, .. } if late != Some(*step) => drop(running.remove(step)),
                _ => {}
            }
            on.send(event).await;
        }
    }

    fn failure(allowed: Duration, step: Step) -> Failure {
        let message = format!("the step {:?} took longer than the {} s a step may take", step.name, allowed.as_secs());
        let step = FailedStep { name: step.name, ..FailedStep::default() };
        Failure { step: Some(step), ..Failure::new(Reason::DeadlineExceeded, message) }
    }
}

#[async_trait]
impl BuildBackend for StepDeadline {
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        self.inner.probe().await
    }

    async fn run(
        &self,
        spec: BuildSpec,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<Option<Pushed>, RunError> {
        let Some(allowed) = spec.limits.step_deadline else { return self.inner.run(spec, events, cancel).await };
        let overrun = cancel.child_token();
        let (sink, received) = EventSink::channel();
        // The receiver ends once the inner backend has dropped the last sink.
        let (outcome, late) =
            tokio::join!(self.inner.run(spec, sink, overrun.clone()), Self::watch(allowed, received, events, overrun));
        match (outcome, late) {
            (Err(RunError::Cancelled), Some(step)) if !cancel.is_cancelled() => {
                Err(RunError::Build(Self::failure(allowed, step)))
            }
            (outcome, _) => outcome,
        }
    }

    async fn sweep(
        &self,
        is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        self.inner.sweep(is_live).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buildkit::failure::tests::spec,
        fake::{Act, Fake},
    };

    fn started(step: u32) -> EventKind {
        EventKind::StepStarted { step, name: format!("step {step}") }
    }

    fn finished(step: u32) -> EventKind {
        EventKind::StepFinished { step, cached: false, error: None }
    }

    async fn run(act: Act, cancel: CancellationToken) -> (Result<Option<Pushed>, RunError>, usize) {
        let backend = StepDeadline::new(Arc::new(Fake::new([act])));
        let (sink, mut events) = EventSink::channel();
        let mut spec = spec();
        spec.limits.step_deadline = Some(Duration::from_secs(5));
        let outcome = backend.run(spec, sink, cancel).await;
        let mut seen = 0;
        while events.recv().await.is_some() {
            seen += 1;
        }
        (outcome, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn the_step_that_overruns_ends_the_build_and_is_named() {
        let act = Act::UntilCancelled(vec![started(1), finished(1), started(2)]);
        let (outcome, seen) = run(act, CancellationToken::new()).await;
        let Err(RunError::Build(failure)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.reason, Reason::DeadlineExceeded);
        assert_eq!((failure.step.unwrap().name.as_str(), seen), ("step 2", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_build_whose_steps_keep_their_time_is_left_alone() {
        let pushed = Pushed { digest: "sha256:1".to_owned() };
        let (outcome, seen) =
            run(Act::End(vec![started(1), finished(1)], Ok(pushed.clone())), CancellationToken::new()).await;
        assert_eq!((outcome.unwrap(), seen), (Some(pushed), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_from_outside_stays_one() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let (outcome, _) = run(Act::UntilCancelled(vec![started(1)]), cancel).await;
        assert!(matches!(outcome, Err(RunError::Cancelled)), "{outcome:?}");
    }
}
