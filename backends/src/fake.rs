//! A backend that does as it is told: for tests of what lies above the trait.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    AttemptName, BuildBackend, BuildSpec, Capabilities, EngineError, EventKind, EventSink, Output, Pushed, RunError,
    StepLimits, StepNetwork,
};

/// Plays one scripted outcome for each run, and succeeds when the script is at its end.
#[derive(Debug, Default)]
pub struct Fake {
    script: Mutex<VecDeque<Act>>,
}

/// What the fake does in one run.
#[derive(Debug)]
pub enum Act {
    /// Emits these events, then ends so.
    End(Vec<EventKind>, Result<Pushed, RunError>),
    /// Emits these events, then runs until it is cancelled.
    UntilCancelled(Vec<EventKind>),
}

impl Fake {
    /// A fake that plays `script`.
    pub fn new(script: impl IntoIterator<Item = Act>) -> Self {
        Self { script: Mutex::new(script.into_iter().collect()) }
    }
}

#[async_trait]
impl BuildBackend for Fake {
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        Ok(Capabilities {
            engine: "fake".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platforms: vec!["linux/amd64".to_owned()],
            atomic_tag: true,
            indexes: true,
            keeps_cache: true,
            step_network: StepNetwork::Own,
            step_limits: StepLimits::default(),
            warnings: Vec::new(),
        })
    }

    async fn run(
        &self,
        spec: BuildSpec,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<Option<Pushed>, RunError> {
        let act = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match act {
            Some(Act::End(script, outcome)) => {
                for kind in script {
                    events.emit(kind).await;
                }
                outcome.map(Some)
            }
            Some(Act::UntilCancelled(script)) => {
                for kind in script {
                    events.emit(kind).await;
                }
                cancel.cancelled().await;
                Err(RunError::Cancelled)
            }
            None => Ok(match spec.output {
                Output::Push(_) => Some(Pushed { digest: format!("sha256:{:0>64}", spec.attempt.build.0.simple()) }),
                Output::Nothing => None,
            }),
        }
    }

    async fn sweep(
        &self,
        _is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        Ok(0)
    }
}
