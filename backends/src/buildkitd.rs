//! The backend for a buildkitd that runs on its own.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    AttemptName, BuildBackend, BuildSpec, Capabilities, EngineError, EventSink, Output, Pushed, RunError,
    buildkit::{
        Address, InsecureAddress, StepSettings, Tls, Transport,
        attempt::{Attempt, Interrupt},
        probe, pushed,
        solve::Export,
    },
};

/// How a buildkitd is reached.
#[derive(Clone, Debug)]
pub struct BuildkitdConfig {
    /// Where it listens.
    pub address: Address,
    /// How it and Kiln prove to each other who they are; needed over TCP.
    pub tls: Option<Tls>,
    /// Allows TCP without TLS, on which everybody who reaches the port is root on the machine.
    pub insecure_engine: bool,
    /// The control group under which steps run.
    pub cgroup_parent: Option<String>,
}

/// A running buildkitd.
#[derive(Clone, Debug)]
pub struct BuildkitdBackend {
    transport: Transport,
    steps: StepSettings,
}

// === impl BuildkitdConfig ===

impl BuildkitdConfig {
    /// A daemon on a unix socket, with nothing else set.
    #[must_use]
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self::at(Address::Unix(socket.into()))
    }

    /// A daemon at an address, with nothing else set.
    #[must_use]
    pub fn at(address: Address) -> Self {
        Self { address, tls: None, insecure_engine: false, cgroup_parent: None }
    }
}

// === impl BuildkitdBackend ===

impl BuildkitdBackend {
    /// A backend for the daemon; doesn't connect.
    ///
    /// # Errors
    /// When the daemon would be reached over TCP without TLS and that isn't allowed.
    pub fn new(config: BuildkitdConfig) -> Result<Self, InsecureAddress> {
        if matches!(config.address, Address::Tcp(_)) && config.tls.is_none() && !config.insecure_engine {
            return Err(InsecureAddress(config.address));
        }
        let steps = StepSettings { cgroup_parent: config.cgroup_parent };
        Ok(Self { transport: Transport::Buildkitd(config.address, config.tls), steps })
    }
}

#[async_trait]
impl BuildBackend for BuildkitdBackend {
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        probe::probe(&self.transport).await
    }

    async fn run(
        &self,
        spec: BuildSpec,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<Option<Pushed>, RunError> {
        let interrupt = Interrupt::new(cancel, spec.limits.deadline);
        let attempt =
            |export| Attempt { spec: &spec, export, steps: &self.steps, events: &events, interrupt: &interrupt };
        match &spec.output {
            Output::Push(to) => pushed(attempt(Export::PushByDigest(to)).run(&self.transport).await?).map(Some),
            Output::Nothing => attempt(Export::Nothing).run(&self.transport).await.map(|_| None),
        }
    }

    /// A build on a buildkitd lives in its session and ends with it; there is nothing to remove.
    async fn sweep(
        &self,
        _is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        Ok(0)
    }
}
