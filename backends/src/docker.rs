//! The backend for a Docker Engine: its embedded BuildKit builds, and, where its store can't push by
//! digest, the Engine itself pushes.

mod engine;
mod push;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    AttemptName, BuildBackend, BuildSpec, Capabilities, EngineError, EventSink, InstanceId, Output, Pushed, RunError,
    buildkit::{
        Address, InsecureAddress, StepSettings, Transport,
        attempt::{Attempt, Interrupt},
        probe, pushed,
        solve::Export,
    },
};
use engine::{Engine, Store};
use push::{Push, kept_name};

/// How a Docker Engine is reached.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// Where it listens, as in `DOCKER_HOST`.
    pub host: Address,
    /// Allows TCP, on which everybody who reaches the port is root on the machine.
    pub insecure_engine: bool,
    /// Whose images on the engine are this installation's.
    pub instance: InstanceId,
    /// The control group under which steps run.
    pub cgroup_parent: Option<String>,
}

/// A running Docker Engine.
#[derive(Clone, Debug)]
pub struct DockerBackend {
    host: Address,
    instance: InstanceId,
    steps: StepSettings,
    /// One push at a time for each repository: with the graph driver a local tag stands for it.
    pushes: Arc<Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>>,
}

// === impl DockerConfig ===

impl DockerConfig {
    /// An engine with nothing else set.
    #[must_use]
    pub fn at(host: Address, instance: InstanceId) -> Self {
        Self { host, insecure_engine: false, instance, cgroup_parent: None }
    }
}

// === impl DockerBackend ===

impl DockerBackend {
    /// A backend for the engine; doesn't connect.
    ///
    /// # Errors
    /// When the engine would be reached over TCP and that isn't allowed.
    pub fn new(config: DockerConfig) -> Result<Self, InsecureAddress> {
        if matches!(config.host, Address::Tcp(_)) && !config.insecure_engine {
            return Err(InsecureAddress(config.host));
        }
        let steps = StepSettings { cgroup_parent: config.cgroup_parent };
        Ok(Self { host: config.host, instance: config.instance, steps, pushes: Arc::default() })
    }

    fn transport(&self) -> Transport {
        Transport::DockerEngine(self.host.clone())
    }

    /// The lock of a repository; forgotten when nobody holds it.
    fn lock_of(&self, repository: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pushes = self.pushes.lock().unwrap_or_else(PoisonError::into_inner);
        pushes.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = pushes.get(repository).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        pushes.insert(repository.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[async_trait]
impl BuildBackend for DockerBackend {
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        let engine = Engine::connect(&self.host).await?;
        let version = engine.version().await?;
        let store = engine.store().await?;
        let mut capabilities = probe::probe(&self.transport()).await?;
        capabilities.engine = "docker".to_owned();
        capabilities.version = format!("{version} (BuildKit {})", capabilities.version);
        capabilities.atomic_tag = store == Store::Containerd;
        capabilities.indexes = store == Store::Containerd;
        // The Engine gives each step a namespace on its bridge, and has no setting against it.
        capabilities.step_network = crate::StepNetwork::Own;
        Ok(capabilities)
    }

    async fn run(
        &self,
        spec: BuildSpec,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<Option<Pushed>, RunError> {
        let interrupt = Interrupt::new(cancel, spec.limits.deadline);
        let lost = |source| RunError::Engine { retryable: true, source };
        let engine = interrupt.or(Engine::connect(&self.host)).await?.map_err(lost)?;
        let store = interrupt.or(engine.store()).await?.map_err(lost)?;
        let transport = self.transport();
        let attempt =
            |export| Attempt { spec: &spec, export, steps: &self.steps, events: &events, interrupt: &interrupt };
        match (&spec.output, store) {
            (Output::Nothing, _) => attempt(Export::Nothing).run(&transport).await.map(|_| None),
            (Output::Push(to), Store::Containerd) => {
                pushed(attempt(Export::PushByDigest(to)).run(&transport).await?).map(Some)
            }
            (Output::Push(to), Store::GraphDriver) => {
                let kept = kept_name(&spec.attempt);
                let push = Push::new(engine, &*spec.registry_auth, to, &events, &interrupt, kept.clone());
                let built = attempt(Export::Keep(kept)).run(&transport).await;
                let lock = self.lock_of(push.repository());
                let outcome = match built {
                    Ok(_) => push.run(&lock).await,
                    Err(error) => Err(error),
                };
                push.forget_build().await;
                outcome.map(Some)
            }
        }
    }

    /// What a killed Kiln leaves are images under names of its own; a build ends with its session.
    async fn sweep(
        &self,
        is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        let engine = Engine::connect(&self.host).await?;
        let mut removed = 0;
        for (name, attempt) in push::kept_images(&engine, self.instance).await? {
            if !is_live(&attempt) {
                engine.untag(&name).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}
