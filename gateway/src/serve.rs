//! Puts the gateway together from its configuration and runs it until a stop signal.

use std::{future::Future, io, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc, time::Duration};

use axum::Router;
use kiln_backends::{
    BuildArg, BuildBackend, BuildkitdBackend, BuildkitdConfig, DockerBackend, DockerConfig, ForbiddenArg, InstanceId,
    KubernetesBackend, StepDeadline,
    buildkit::{Address, Tls},
    kubernetes::{DAEMON_FOLDER, DaemonRegistries},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    archive::{Limits, Spool},
    builds::{
        Builds, Committer, Materials, Queue, Runner, RunnerSettings, Sharing, Stored, recover, watch_disk,
        watch_engine, watch_retention,
    },
    config::{Config, Kubernetes, Reload, Steps},
    doors::{
        native::Native,
        openfaas::{InFlightBound, OpenFaas, Proof},
        openserverless::{Catalog, OpenServerless},
        page::{Page, Sessions},
        probes,
    },
    identities,
    images::Images,
    ledger::{Ledger, Lock, Seal},
    listener,
    log::Logs,
    metrics::Metrics,
    registry::{ClusterObjects, Network, ProcessRegistry, RegistryClient, TrustStore},
    stack::{self, Guard},
    webhooks::{Courier, Webhooks},
};

/// Kiln can't start.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct StartError {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Serves until `stop` is done; then drains.
///
/// # Errors
/// When a part can't be set up: the message names it and what to do.
pub async fn serve(mut config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let home = Home::open(&config.data_dir).await?;
    ask_cluster(&mut config).await?;
    let engine = engine(&config, home.ledger.instance()).await?;
    let public = bind(&config.listen.to_string(), "listen").await?;
    let admin = bind(&config.admin_listen.to_string(), "admin_listen").await?;
    let mut gateway = Gateway::of(&config, home, engine).await?;
    // Before it serves: whoever sees it do so may send the signal.
    let reload = Reload::of(config.source.clone()).map_err(failed("SIGHUP"))?;
    tracing::info!(
        listen = %address(&public),
        admin = %address(&admin),
        recovered = gateway.recovered,
        "kiln serves"
    );
    gateway.listen(public, admin, reload);
    gateway.run(config.limits.drain, stop).await
}

/// The data folder, which is one process's.
struct Home {
    ledger: Ledger,
    lock: Lock,
}

impl Home {
    async fn open(folder: &Path) -> Result<Self, StartError> {
        let what = || format!("data_dir {}", folder.display());
        // Nobody but Kiln has business there: callers' files, keys and logs lie in it.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(what()))?;
        let lock = Lock::take(folder).map_err(failed(what()))?;
        let ledger = Ledger::open(folder).await.map_err(failed("the ledger"))?;
        Ok(Self { ledger, lock })
    }
}

/// The gateway put together, what looks after it running: nothing listens yet, and nothing is built.
#[expect(missing_debug_implementations, reason = "its parts are no text")]
pub struct Gateway {
    router: Router,
    builds: Builds,
    admission: Admission,
    metrics: Metrics,
    runner: Runner,
    /// How many builds of an earlier process it goes on with.
    recovered: usize,
    tasks: JoinSet<()>,
    /// Nothing new is begun.
    draining: CancellationToken,
    /// The last build has ended.
    closing: CancellationToken,
    _lock: Lock,
}

impl Gateway {
    /// On an engine of the caller's own instead of the configured one.
    ///
    /// # Errors
    /// As [`serve`].
    pub async fn on(config: &Config, backend: impl BuildBackend + 'static) -> Result<Self, StartError> {
        Self::of(config, Home::open(&config.data_dir).await?, Engine::of(backend)).await
    }

    async fn of(config: &Config, Home { ledger, lock }: Home, engine: Engine) -> Result<Self, StartError> {
        let Engine { backend, cluster } = engine;
        let backend: Arc<dyn BuildBackend> = Arc::new(StepDeadline::new(backend));
        let callers = identities::callers(&config.identity, &config.openfaas)?;
        let seal = Seal::open(&config.data_dir).map_err(failed("the sealing key"))?;
        let logs = Logs::open(&config.data_dir.join("logs"), config.limits.log).map_err(failed("the logs"))?;
        let registry = RegistryClient::new(&config.registry, config.registries.clone(), &network(config)?)
            .map_err(failed("the registry client"))?;
        let process = Arc::new(config.registry.clone());
        let materials = Arc::new(materials(config, ledger.instance(), &registry, &process, &seal)?);
        let metrics = Metrics::new();
        let queue = Queue::new(config.limits.queue, config.limits.queue_per_owner);
        let queue = queue.running_per_owner(config.limits.running_per_owner());
        let builds = Builds::new(ledger, logs, queue, seal.clone(), stored(config)?, metrics.clone());
        let committer = Arc::new(Committer::new(builds.clone(), Arc::clone(&materials)));
        let age = config.limits.image_age;
        let sharing = Sharing::new(builds.clone(), Arc::clone(&materials), Arc::clone(&committer), age);
        let webhooks = Webhooks::new(config.webhooks.clone(), network(config)?.extra_ca.as_deref());
        let webhooks = webhooks.map_err(failed("webhooks"))?;
        let admission = Admission::new(&config.limits);
        let images = Images::new(builds.clone(), registry, Arc::clone(&process));
        let native = Native {
            builds: builds.clone(),
            sharing: sharing.clone(),
            images: images.clone(),
            registry: Arc::clone(&process),
            sizes: Arc::clone(&materials.sizes),
            webhooks: webhooks.clone(),
        };
        let page = config.page.enabled.then(|| Page {
            builds: builds.clone(),
            images,
            registry: Arc::clone(&process),
            sessions: Sessions::new(seal, config.page.session),
        });
        let openserverless = openserverless(config, &builds, &process)?;
        let openfaas = openfaas(config, &builds, &process, &admission, &callers, &webhooks)?;
        let guard = Guard::new(callers.provider, admission.clone());
        let router = stack::public(&openserverless, openfaas.as_ref(), &native, page.as_ref(), &guard, metrics.clone());
        let recovered = recover(&builds, &sharing).await.map_err(failed("recovery"))?;

        let draining = CancellationToken::new();
        let closing = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_engine(builds.clone(), Arc::clone(&backend), draining.clone()));
        if let Some(cluster) = cluster {
            tasks.spawn(cluster.upkeep(draining.clone()));
        }
        tasks.spawn(watch_disk(builds.clone(), config.data_dir.clone(), config.limits.min_free, draining.clone()));
        tasks.spawn(watch_retention(builds.clone(), config.limits.retention, draining.clone()));
        // Until the last build has ended: its end is told of, too.
        tasks.spawn(Courier::new(builds.clone(), webhooks).run(closing.clone()));
        let settings = RunnerSettings {
            concurrency: config.limits.concurrency,
            deadline: config.limits.deadline,
            queue_deadline: config.limits.queue_deadline,
        };
        let runner = Runner::new(builds.clone(), backend, materials, committer, settings, draining.clone());
        Ok(Self { router, builds, admission, metrics, runner, recovered, tasks, draining, closing, _lock: lock })
    }

    /// What the public listener answers.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    fn listen(&mut self, public: TcpListener, admin: TcpListener, reload: Reload) {
        let Self { router, builds, admission, metrics, draining, closing, .. } = self;
        let reloaded = admission.clone();
        let admin_routes = probes::admin_routes(metrics.clone(), builds.clone());
        let tasks = &mut self.tasks;
        tasks.spawn(reload.run(move |limits| reloaded.apply(limits), draining.clone()));
        tasks.spawn(listener::serve(public, router.clone(), Some(admission.clone()), closing.clone()));
        tasks.spawn(listener::serve(admin, admin_routes, None, closing.clone()));
    }

    /// Runs builds until `stop` is done; then those that run may end within `drain`.
    ///
    /// # Errors
    /// When the runner panicked.
    pub async fn run(mut self, drain: Duration, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let running = tokio::spawn(self.runner.run(drain));
        stop.await;
        tracing::info!(?drain, "stopping: nothing is accepted any more, running builds may end");
        self.builds.stop_accepting();
        self.draining.cancel();
        // Status and logs are answered until the last build has ended or was handed back.
        let ended = running.await;
        self.builds.close_logs();
        self.closing.cancel();
        while self.tasks.join_next().await.is_some() {}
        ended.map_err(failed("the runner"))
    }
}

/// What builds are made of beside what their callers send.
fn materials(
    config: &Config,
    instance: InstanceId,
    registry: &RegistryClient,
    process: &Arc<ProcessRegistry>,
    seal: &Seal,
) -> Result<Materials, StartError> {
    Ok(Materials {
        instance,
        registry: registry.clone(),
        process: Arc::clone(process),
        bases: config.bases.clone(),
        nameable: config.openfaas.registries.clone(),
        sources: config.sources.clone(),
        steps: config.steps.clone(),
        sizes: Arc::new(config.sizes.clone()),
        trust: trust(config)?,
        seal: seal.clone(),
    })
}

/// The folder of contexts that wait.
fn stored(config: &Config) -> Result<Stored, StartError> {
    let limits = Limits { free: left_by_archives(config.limits.min_free), ..config.contexts.archive() };
    Stored::open(config.data_dir.join("contexts"), limits, config.contexts.per_owner)
        .map_err(failed("the folder of contexts"))
}

/// The OpenServerless door.
fn openserverless(
    config: &Config,
    builds: &Builds,
    registry: &Arc<ProcessRegistry>,
) -> Result<OpenServerless, StartError> {
    let settings = &config.openserverless;
    let catalog = Catalog::load(settings.catalog_json.as_deref(), settings.catalog_file.as_deref())
        .map_err(failed("openserverless.catalog"))?;
    Ok(OpenServerless {
        builds: builds.clone(),
        registry: Arc::clone(registry),
        catalog: Arc::new(catalog),
        pull_host: settings.pull_host.as_deref().map(Into::into),
    })
}

/// The OpenFaaS door, where it is on.
fn openfaas(
    config: &Config,
    builds: &Builds,
    registry: &Arc<ProcessRegistry>,
    admission: &Admission,
    callers: &identities::Callers,
    webhooks: &Webhooks,
) -> Result<Option<OpenFaas>, StartError> {
    let settings = &config.openfaas;
    if !settings.is_on() {
        return Ok(None);
    }
    if !config.opened.is_empty() {
        tracing::warn!(opened = ?config.opened, "as with OpenFaaS's builders, whose variables are set, these permit everything");
    }
    if settings.disable_hmac && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "archives need no signature, and whoever reaches the listener may send them");
    }
    let spool = config.data_dir.join("spool");
    let what = format!("the spool {}", spool.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&spool).map_err(failed(what))?;
    let limits = Limits { free: left_by_archives(config.limits.min_free), ..settings.archive() };
    let argument = |(name, value): (&String, &String)| Ok((BuildArg::parse(name)?, value.clone()));
    let build_args = settings.build_args.iter().map(argument).collect::<Result<_, ForbiddenArg>>();
    let proof = Proof::new(settings, &callers.signers, callers.signers_alone).map_err(failed("openfaas"))?;
    Ok(Some(OpenFaas {
        builds: builds.clone(),
        registry: Arc::clone(registry),
        registries: settings.registries.clone().into(),
        build_args: Arc::new(build_args.map_err(failed("openfaas.build_args"))?),
        admission: admission.clone(),
        spool: Spool::new(spool, limits),
        body_at_most: limits.body,
        build_secrets: settings.build_secrets_key_file.as_deref().map(Into::into),
        proof: Arc::new(proof),
        in_flight: InFlightBound::of(settings.max_inflight, !settings.tenants.is_empty()),
        on_disconnect: settings.on_disconnect,
        webhooks: webhooks.clone(),
    }))
}

/// A quarter more than the mark below which nothing is accepted: no archive alone brings the disk there.
fn left_by_archives(min_free: u64) -> u64 {
    min_free.saturating_add(min_free / 4)
}

/// Kiln's own way to registries: the same proxy and authorities as its steps have.
pub(crate) fn network(config: &Config) -> Result<Network, StartError> {
    let Steps { http_proxy, https_proxy, no_proxy, ca_file, .. } = config.steps.clone();
    let what = || format!("steps.ca_file {}", ca_file.as_deref().unwrap_or(Path::new("")).display());
    let extra_ca = ca_file.as_ref().map(std::fs::read).transpose().map_err(failed(what()))?;
    Ok(Network { http_proxy, https_proxy, no_proxy, extra_ca, ..Network::default() })
}

/// An error with all its causes, for people.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let words = deeper.to_string();
        // Some errors repeat their source in their own words.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = deeper.source();
    }
    text
}

pub(crate) fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: impl Into<String>,
) -> impl FnOnce(E) -> StartError {
    let what = what.into();
    move |source| StartError { what, source: source.into() }
}

async fn bind(address: &str, key: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(failed(format!("{key} {address}")))
}

/// Where it really listens: the configured port may be 0, which lets the system choose.
fn address(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|e| e.to_string(), |address| address.to_string())
}

/// Has the cluster say what it is configured to say of registries.
pub(crate) async fn ask_cluster(config: &mut Config) -> Result<(), StartError> {
    let Some(settings) = &config.registry.cluster else { return Ok(()) };
    let access = config.engine.kubernetes.clone().unwrap_or_default().access();
    let objects = ClusterObjects::read(settings, &access).await.map_err(failed("registry.cluster"))?;
    config.registry.of_cluster = Some(Arc::new(objects));
    Ok(())
}

/// An engine, and where it is a cluster, that again: there is something to do in it beside builds.
pub(crate) struct Engine {
    pub(crate) backend: Arc<dyn BuildBackend>,
    cluster: Option<KubernetesBackend>,
}

impl Engine {
    fn of(backend: impl BuildBackend + 'static) -> Self {
        Self { backend: Arc::new(backend), cluster: None }
    }
}

/// The configured engine. It needn't answer yet.
pub(crate) async fn engine(config: &Config, instance: InstanceId) -> Result<Engine, StartError> {
    let engine = &config.engine;
    if let Some(text) = &engine.buildkit {
        let what = format!("engine.buildkit {text}");
        let address: Address = text.parse().map_err(failed(what.clone()))?;
        let tls = engine.tls_dir.as_deref().map(|folder| tls(folder, engine.server_name.clone())).transpose()?;
        let config = BuildkitdConfig { tls, insecure_engine: engine.insecure_engine, ..BuildkitdConfig::at(address) };
        return Ok(Engine::of(BuildkitdBackend::new(config).map_err(failed(what))?));
    }
    if let Some(text) = &engine.docker {
        let what = format!("engine.docker {text}");
        let host: Address = text.parse().map_err(failed(what.clone()))?;
        let config = DockerConfig { insecure_engine: engine.insecure_engine, ..DockerConfig::at(host, instance) };
        return Ok(Engine::of(DockerBackend::new(config).map_err(failed(what))?));
    }
    if let Some(settings) = &engine.kubernetes {
        let cluster = cluster(config, settings, instance).await?;
        return Ok(Engine { cluster: Some(cluster.clone()), ..Engine::of(cluster) });
    }
    let missing =
        io::Error::other("set engine.buildkit (BUILDKIT_HOST), engine.docker (DOCKER_HOST) or [engine.kubernetes]");
    Err(failed("no engine")(missing))
}

async fn cluster(
    config: &Config,
    settings: &Kubernetes,
    instance: InstanceId,
) -> Result<KubernetesBackend, StartError> {
    let client = RegistryClient::new(&config.registry, config.registries.clone(), &network(config)?)
        .map_err(failed("the registry client"))?;
    let (toml, authorities) =
        client.registries().buildkitd_files(Path::new(DAEMON_FOLDER)).map_err(failed("registries"))?;
    let registries = DaemonRegistries { toml, authorities };
    let usual = config.sizes.get(None).cloned().unwrap_or_default().limits(config.limits.deadline);
    let engine = settings.engine(instance, registries, config.registry.has_credential(), usual);
    KubernetesBackend::new(engine).await.map_err(failed("engine.kubernetes"))
}

fn tls(folder: &Path, server_name: Option<String>) -> Result<Tls, StartError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(failed(format!("engine.tls_dir: {}", path.display())))
    };
    Ok(Tls { ca: read("ca.pem")?, cert: read("cert.pem")?, key: read("key.pem")?.into(), server_name })
}

pub(crate) fn trust(config: &Config) -> Result<Option<TrustStore>, StartError> {
    let Some(path) = &config.steps.ca_file else { return Ok(None) };
    let what = format!("steps.ca_file {}", path.display());
    let pem = std::fs::read(path).map_err(failed(what.clone()))?;
    TrustStore::with(&pem).map(Some).map_err(failed(what))
}
