//! The backend for a cluster: a BuildKit daemon of its own for each attempt, in a Job that Kiln
//! creates and removes.
//!
//! The way of an attempt: [`manifest`] writes a Job that starts suspended and the Secret that it
//! owns, with the [`certificates`] of this build alone; [`owned`] creates, watches and removes them;
//! [`seen`] says what the watched amounts to, and [`trouble`] what that means for the build;
//! [`forward`] connects. From there on it is an attempt as on any other daemon. Where [`warm`] has a
//! daemon ready, all but the last is done already; with a volume of [`caches`] it finds its owner's layers.

mod api;
mod caches;
mod certificates;
mod config;
mod daemon;
mod forward;
mod manifest;
mod names;
mod objects;
mod owned;
mod prove;
mod resources;
mod run;
mod seen;
mod sweep;
mod trouble;
mod warm;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use api::NoAccess;
pub use config::{
    Access, AccountFiles, Caches, DAEMON_FOLDER, DaemonRegistries, KubernetesConfig, Pods, Profile, Reach, Requests,
    SharedCredential, Snapshotter, Warm,
};
pub use k8s_openapi::api::core::v1::{Affinity, Toleration};
pub use objects::{FoundSecret, Objects};
pub use trouble::Trouble;

use crate::{AttemptName, BuildBackend, BuildSpec, Capabilities, EngineError, EventSink, Pushed, RunError};
use api::{Cluster, ask, no_access};
use caches::Leases;
use prove::Proof;
use warm::Pool;

/// How long a proof stands: nodes come and go.
const PROOF_LASTS: Duration = Duration::from_secs(3600);

/// A cluster.
#[derive(Clone)]
pub struct KubernetesBackend(Arc<Inner>);

struct Inner {
    config: KubernetesConfig,
    cluster: Cluster,
    /// This process, as its Jobs have it.
    process: Uuid,
    proof: Arc<Mutex<Option<Proof>>>,
    pool: Pool,
    leases: Leases,
    /// What goes on although nobody waits for it any more: Jobs are removed in it.
    tasks: TaskTracker,
}

impl KubernetesBackend {
    /// A backend for the cluster; doesn't connect.
    ///
    /// # Errors
    /// When the kubeconfig or the service account can't be read, or the configuration can't be kept.
    pub async fn new(config: KubernetesConfig) -> Result<Self, NoAccess> {
        let cluster = Cluster::of(&config).await?;
        let backend = Self::on(cluster, config);
        if backend.0.config.profile == Some(Profile::Rootless) {
            backend.0.admit_rootless().map_err(no_access("the profile rootless"))?;
        }
        Ok(backend)
    }

    fn on(cluster: Cluster, config: KubernetesConfig) -> Self {
        let process = Uuid::new_v4();
        let (proof, pool, leases, tasks) = (Arc::default(), Pool::default(), Leases::new(), TaskTracker::new());
        Self(Arc::new(Inner { config, cluster, process, proof, pool, leases, tasks }))
    }

    /// Keeps pods ready for builds to come, as many as configured, and deletes caches that aren't used any more, until
    /// `stop`; returns when the pods that no build took are removed. What a killed process leaves of them, the next
    /// one's sweep removes.
    pub async fn upkeep(self, stop: CancellationToken) {
        tokio::join!(Arc::clone(&self.0).keep_warm(stop.clone()), self.0.keep_caches(stop));
    }

    /// How many pods are ready at the moment.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.0.pool.ready()
    }
}

impl fmt::Debug for KubernetesBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesBackend").field("namespace", &self.0.cluster.namespace).finish_non_exhaustive()
    }
}

#[async_trait]
impl BuildBackend for KubernetesBackend {
    /// Looks whether the cluster answers, and from time to time runs pods to prove what they can do.
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        let version = ask("read the version", || self.0.cluster.client.apiserver_version()).await?;
        let mut capabilities = Arc::clone(&self.0).proved(PROOF_LASTS).await?.capabilities;
        capabilities.version = format!("{} on Kubernetes {}", capabilities.version, version.git_version);
        Ok(capabilities)
    }

    async fn run(
        &self,
        spec: BuildSpec,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<Option<Pushed>, RunError> {
        // A task, so that a dropped run goes on to the removal of its Job.
        let stop = cancel.child_token();
        let _dropped = stop.clone().drop_guard();
        let task = self.0.tasks.spawn(Box::pin(Arc::clone(&self.0).run(spec, events, stop)));
        let ran = task.await.map_err(|error| RunError::Engine { retryable: false, source: own_fault(&error) });
        ran.and_then(|outcome| outcome)
    }

    async fn sweep(
        &self,
        is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        self.0.sweep(is_live).await
    }
}

impl Inner {
    /// The last proof if it is no older than `age`, or a new one. A proof that isn't waited for goes on to its end,
    /// and is the next one's.
    async fn proved(self: Arc<Self>, age: Duration) -> Result<Proof, EngineError> {
        let mut last = Arc::clone(&self.proof).lock_owned().await;
        if let Some(proof) = last.as_ref().filter(|proof| proof.at.elapsed() <= age) {
            return Ok(proof.clone());
        }
        let this = Arc::clone(&self);
        let proving = self.tasks.spawn(async move {
            *last = None;
            let proof = Box::pin(this.prove()).await?;
            *last = Some(proof.clone());
            Ok(proof)
        });
        proving.await.map_err(|error| own_fault(&error))?
    }

    /// What was proved may not hold any more.
    async fn doubt(&self) {
        *self.proof.lock().await = None;
    }
}

fn own_fault(error: &tokio::task::JoinError) -> EngineError {
    EngineError::Protocol(format!("nothing: Kiln itself has a fault: {error}"))
}
