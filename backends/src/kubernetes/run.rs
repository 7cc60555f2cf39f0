//! One attempt in a cluster: its Job made, its daemon reached, its build run, its Job removed.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Inner,
    caches::{self, Lease},
    certificates,
    config::{Profile, Reach},
    forward,
    manifest::{Cache, Plan, Purpose},
    names,
    owned::OwnedJob,
    resources,
    trouble::Trouble,
};
use crate::{
    BuildSpec, EngineError, EventKind, EventSink, Limits, Output, Pushed, RunError,
    buildkit::{
        Connection, StepSettings, Tls, Transport,
        attempt::{Attempt, Interrupt},
        pushed,
        solve::Export,
    },
};

/// Beyond a build's deadline and its pod's start: until then Kiln itself has removed the Job.
pub(super) const MARGIN: Duration = Duration::from_secs(60);
/// How long a daemon that waited may take to answer, a matter of milliseconds.
const WARM_ANSWERS: Duration = Duration::from_secs(2);
/// How many such daemons a build tries that turn out to be gone, before it gets one of its own.
const WARM_TRIES: usize = 2;
/// How long the cluster may take to say why a daemon's connection broke.
const CAUSE: Duration = Duration::from_secs(5);
/// How long a removed pod may take to be gone where the engine is to be clean; beyond its grace.
const LEAVING: Duration = Duration::from_secs(8);
/// How long the end of a build waits for the removal of its Job, a matter of milliseconds.
const REMOVING: Duration = Duration::from_secs(1);

/// A daemon for one build.
pub(super) struct Daemon {
    pub(super) owned: OwnedJob,
    /// What Kiln proves itself with to it.
    pub(super) tls: Tls,
    pub(super) profile: Profile,
    /// Whether it was ready before its build was there.
    pub(super) warm: bool,
    /// Its owner's volume.
    pub(super) lease: Option<Lease>,
}

impl Inner {
    /// Runs an attempt to its end, or until `stop` fires.
    pub(super) async fn run(
        self: Arc<Self>,
        mut spec: BuildSpec,
        events: EventSink,
        stop: CancellationToken,
    ) -> Result<Option<Pushed>, RunError> {
        let inner = stop.child_token();
        let interrupt = Interrupt::new(inner.clone(), spec.limits.deadline);
        let proof = interrupt.or(Arc::clone(&self).proved(Duration::MAX)).await?.map_err(engine)?;
        let limits = spec.limits;
        // The pod has them, and a daemon in a user namespace has no control groups to give.
        (spec.limits.memory, spec.limits.cpu_millis) = (None, None);
        // Its layers are worth more to a build than a pod at once.
        let mut lease = interrupt.or(self.lease(&spec.tenant)).await?;
        let mut tries = 0..WARM_TRIES;
        let (daemon, ended) = loop {
            let mut warm = || tries.next().and_then(|_| self.warm(&limits, proof.profile));
            let daemon = match lease.take() {
                Some(lease) => self.own(&spec, &limits, proof.profile, Some(lease)).await?,
                None => match warm() {
                    Some(daemon) => daemon,
                    None => self.own(&spec, &limits, proof.profile, None).await?,
                },
            };
            let build = Build { inner: &self, daemon: &daemon, spec: &spec, events: &events, interrupt: &interrupt };
            match build.run(&inner).await {
                Err(Ended::Unused(trouble)) => {
                    tracing::info!(attempt = %spec.attempt, %trouble, "the build gets another pod");
                    self.tasks.spawn(Arc::clone(&self).discard(daemon, trouble));
                }
                ended => break (daemon, ended),
            }
        };
        let outcome = match ended {
            Ok(pushed) => Ok(pushed),
            Err(Ended::So(error)) => Err(error),
            Err(Ended::By(_) | Ended::Unused(_)) if stop.is_cancelled() => Err(RunError::Cancelled),
            Err(Ended::By(trouble) | Ended::Unused(trouble)) => {
                tracing::warn!(attempt = %spec.attempt, %trouble, "a build's pod had trouble");
                if trouble.is_of_pods_like_it() {
                    self.doubt().await;
                }
                events.emit(EventKind::Warning { text: trouble.public().to_owned() }).await;
                Err(trouble.ends(&limits))
            }
        };
        let clean = matches!(outcome, Err(RunError::Cancelled | RunError::Build(_)));
        let this = Arc::clone(&self);
        let removed = self.tasks.spawn(async move {
            if let Some(lease) = &daemon.lease {
                this.leave(&daemon, lease).await;
            }
            daemon.owned.remove().await;
            if (clean || daemon.lease.is_some()) && !daemon.owned.gone(LEAVING).await {
                tracing::warn!("a build's pod was still there {LEAVING:?} after its Job was removed");
            }
        });
        let _ = timeout(if clean { LEAVING + MARGIN } else { REMOVING }, removed).await;
        outcome
    }

    /// Removes a daemon that learnt nothing of its build, and the cache that may have kept it from starting.
    async fn discard(self: Arc<Self>, daemon: Arc<Daemon>, trouble: Trouble) {
        if let Some(lease) = daemon.lease.as_ref().filter(|_| trouble.is_of_pods_like_it()) {
            self.give_up(lease).await;
        }
        daemon.owned.remove().await;
        daemon.owned.gone(LEAVING).await;
    }

    /// A daemon that is made for this build.
    async fn own(
        &self,
        spec: &BuildSpec,
        limits: &Limits,
        profile: Profile,
        lease: Option<Lease>,
    ) -> Result<Arc<Daemon>, RunError> {
        let plan = self.plan(spec, limits, profile, lease.as_ref());
        let daemon = self.daemon(&plan, profile).await.map_err(engine)?;
        Ok(Arc::new(Daemon { lease, ..daemon }))
    }

    fn plan(&self, spec: &BuildSpec, limits: &Limits, profile: Profile, lease: Option<&Lease>) -> Plan {
        let cache = lease.map(|lease| Cache { volume: lease.volume(), kept: caches::bound(self.config.caches.size) });
        let mut labels = names::labels(&spec.attempt, &spec.tenant, self.process);
        labels.extend(cache.as_ref().map(|cache| (names::CACHE.to_owned(), cache.volume.clone())));
        Plan {
            name: names::of_attempt(&spec.attempt),
            labels,
            cache,
            run: Uuid::new_v4(),
            purpose: Purpose::Daemon(profile),
            resources: resources::requirements(limits, &self.config.pods.requests),
            deadline: limits.deadline + self.config.start_deadline + MARGIN,
        }
    }

    /// Creates a daemon's Job.
    pub(super) async fn daemon(&self, plan: &Plan, profile: Profile) -> Result<Daemon, EngineError> {
        let certificates =
            certificates::issue(plan.deadline).map_err(|e| EngineError::Unfit(format!("no certificates: {e}")))?;
        let config = &self.config;
        let owned = OwnedJob::create(&self.cluster, plan, &config.pods, |job| {
            Some(plan.secret(job, &certificates, profile, config.snapshotter, &config.registries))
        });
        Ok(Daemon { owned: owned.await?, tls: certificates.client, profile, warm: false, lease: None })
    }

    /// Waits for the daemon's pod to run, and connects.
    pub(super) async fn reached(
        &self,
        daemon: &Daemon,
        until: Instant,
        events: Option<&EventSink>,
    ) -> Result<(Transport, Connection), Trouble> {
        let (owned, tls) = (&daemon.owned, daemon.tls.clone());
        let address = owned.running(until, events).await?;
        let transport = match self.config.reach {
            Reach::PodIp => {
                let address = address.ok_or_else(|| Trouble::Unstarted("its pod has no address".to_owned()))?;
                forward::at(&address, tls)
            }
            Reach::PortForward => {
                let pod = owned.pod().and_then(|pod| pod.name).unwrap_or_default();
                forward::through(self.cluster.pods.clone(), pod, tls)
            }
        };
        let connection = tokio::select! {
            connection = forward::connect(&transport, until) => connection?,
            Err(trouble) = owned.ended() => return Err(trouble),
        };
        Ok((transport, connection))
    }
}

/// How an attempt didn't give an image.
enum Ended {
    So(RunError),
    By(Trouble),
    /// The daemon learnt nothing of the build: one that had waited was gone, or one didn't start on its volume.
    Unused(Trouble),
}

/// An attempt on a daemon of its own.
struct Build<'a> {
    inner: &'a Inner,
    daemon: &'a Arc<Daemon>,
    spec: &'a BuildSpec,
    events: &'a EventSink,
    interrupt: &'a Interrupt,
}

impl Build<'_> {
    async fn run(&self, stop: &CancellationToken) -> Result<Option<Pushed>, Ended> {
        let connection = self.reached().await?;
        let steps = StepSettings::default();
        let attempt = Attempt {
            spec: self.spec,
            export: match &self.spec.output {
                Output::Push(to) => Export::PushByDigest(to),
                Output::Nothing => Export::Nothing,
            },
            steps: &steps,
            events: self.events,
            interrupt: self.interrupt,
        };
        let mut attempt = Box::pin(attempt.run_on(connection));
        let outcome = tokio::select! {
            outcome = &mut attempt => outcome,
            trouble = self.over() => {
                // Its steps come to their ends in the log.
                stop.cancel();
                let _ = attempt.await;
                return Err(Ended::By(trouble));
            }
        };
        match outcome {
            Ok(_) if matches!(self.spec.output, Output::Nothing) => Ok(None),
            Ok(exported) => pushed(exported).map(Some).map_err(Ended::So),
            // The cluster knows better why a connection broke.
            Err(RunError::Engine { retryable: true, source }) => match timeout(CAUSE, self.over()).await {
                Ok(trouble) => Err(Ended::By(trouble)),
                Err(_) => Err(Ended::So(RunError::Engine { retryable: true, source })),
            },
            Err(error) => Err(Ended::So(error)),
        }
    }

    async fn reached(&self) -> Result<Connection, Ended> {
        let Self { inner, daemon, spec, .. } = self;
        if !daemon.warm {
            // Without its volume a build still can be made.
            let patience = inner.config.start_deadline / if daemon.lease.is_some() { 2 } else { 1 };
            let until = Instant::now() + patience;
            let reached = self.interrupt.or(inner.reached(daemon, until, Some(self.events))).await;
            let ended = |trouble| match trouble {
                trouble @ (Trouble::Unscheduled(_)
                | Trouble::Unstarted(_)
                | Trouble::Silent(_)
                | Trouble::Exited { .. })
                    if daemon.lease.is_some() =>
                {
                    Ended::Unused(trouble)
                }
                trouble => Ended::By(trouble),
            };
            return Ok(reached.map_err(Ended::So)?.map_err(ended)?.1);
        }
        let until = Instant::now() + WARM_ANSWERS;
        let reached = self.interrupt.or(timeout_at(until, inner.reached(daemon, until, None))).await;
        let silent = || Trouble::Silent(format!("within {WARM_ANSWERS:?}"));
        let reached = reached.map_err(Ended::So)?.unwrap_or_else(|_| Err(silent())).map_err(Ended::Unused)?;
        let (daemon, labels) = (Arc::clone(daemon), names::labels(&spec.attempt, &spec.tenant, inner.process));
        inner.tasks.spawn(async move { daemon.owned.relabel(&labels).await });
        Ok(reached.1)
    }

    /// Returns when the daemon's pod is over.
    async fn over(&self) -> Trouble {
        self.daemon.owned.ended().await.map_or_else(|trouble| trouble, |words| Trouble::Exited { status: 0, words })
    }
}

/// What went wrong before there was a daemon.
fn engine(source: EngineError) -> RunError {
    let retryable = match &source {
        EngineError::Pod(trouble) => trouble.retryable(),
        EngineError::Protocol(_) | EngineError::TooOld { .. } => false,
        EngineError::Unreachable { .. } | EngineError::Lost(_) | EngineError::Unfit(_) => true,
    };
    RunError::Engine { retryable, source }
}
