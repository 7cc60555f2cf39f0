//! One attempt: the base resolved with the owner's credentials, the context made, the engine run.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kiln_backends::{
    AttemptName, BuildArg, BuildBackend, BuildSpec, Capabilities, Destination, EventKind, EventSink, Failure,
    InstanceId, Output, Pushed, Reason, RunError, Secret, SourceRule, SourceRules, Tree,
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, attached,
    opened::{Opened, platform},
    record::{Log, record},
    redact::Redactor,
    sources::Reach,
};
use crate::{
    config::{Bases, Size, Sizes, Sources, Steps},
    ledger::{Build, Seal},
    recipes::{Context, DOCKERFILE, Kind, extend},
    registry::{
        Base, BuildCredentials, Host, Platform, ProcessRegistry, PullGrant, Push, PushGrant, RegistryClient,
        RegistryError, ResolveError, TrustStore,
    },
};

/// How often a registry that doesn't answer is asked for the base, with growing pauses.
const RESOLVE_TRIES: u32 = 3;
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

/// What attempts are made with.
pub struct Materials {
    /// This installation.
    pub instance: InstanceId,
    /// Kiln's own registry client.
    pub registry: RegistryClient,
    /// Where images go, and with which credentials.
    pub process: Arc<ProcessRegistry>,
    /// What callers may build on.
    pub bases: Bases,
    /// Which registries requests may name for their images: `host[:port]`, where `*` stands for any characters.
    pub nameable: Vec<String>,
    /// What else their Dockerfiles may fetch.
    pub sources: Sources,
    /// What steps are given.
    pub steps: Steps,
    /// What steps may use.
    pub sizes: Arc<Sizes>,
    /// The CA certificates that steps are given.
    pub trust: Option<TrustStore>,
    /// Opens what builds keep of their owners' settings.
    pub seal: Seal,
}

/// An attempt at a build.
pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) build: &'a Build,
    pub(super) number: u32,
    pub(super) deadline: Duration,
    pub(super) capabilities: &'a Capabilities,
}

/// What a recipe asks of the engine.
struct Plan {
    context: Arc<Tree>,
    dockerfile: String,
    frontend: Option<String>,
    args: BTreeMap<BuildArg, String>,
    platforms: Vec<String>,
    sources: SourceRules,
    pulls: Vec<PullGrant>,
    secrets: BTreeMap<String, Secret>,
}

impl Materials {
    /// Where the build's image goes, with the credential for it.
    pub(super) async fn push(&self, build: &Build) -> Result<Push, Failure> {
        let internal = |message: &str| Failure::new(Reason::Internal, message);
        if build.request.names_registry {
            return self.named_push(build).await;
        }
        let settings: BTreeMap<String, String> = match &build.sealed {
            None => BTreeMap::new(),
            Some(sealed) => {
                let plain = self.seal.open_sealed(build.id.0.as_bytes(), sealed);
                let plain = plain.map_err(|e| internal(&e.to_string()))?;
                serde_json::from_slice(&plain).map_err(|_| internal("the build's sealed settings can't be read"))?
            }
        };
        let push = self.destination(&settings).await?;
        if push.host.as_str() != build.registry {
            let message = format!(
                "the build was accepted for {}, but images go to {} now; start it again",
                build.registry, push.host
            );
            return Err(Failure::new(Reason::PushDenied, message));
        }
        Ok(push)
    }

    /// Where everybody's images go who names no registry of their own.
    pub(super) fn installation(&self) -> Option<Host> {
        self.process.push_host(&BTreeMap::new()).ok()
    }

    /// The same where the request named the registry: the operator's credential for it is meant.
    async fn named_push(&self, build: &Build) -> Result<Push, Failure> {
        let denied = |error: &dyn std::fmt::Display| Failure::new(Reason::PushDenied, error.to_string());
        let host = Host::parse(&build.registry).map_err(|error| denied(&error))?;
        let credential = self.process.credential(&host).await.map_err(|error| denied(&error))?;
        let manner = self.registry.manner(&host, credential.as_ref()).await;
        Ok(Push { host, manner, credential })
    }
}

impl Attempt<'_> {
    /// Runs the attempt to its end; with the pushed image, where there is one, comes what extended the base.
    pub(super) async fn run(
        &self,
        backend: &dyn BuildBackend,
        materials: &Materials,
        cancel: &CancellationToken,
    ) -> Result<(Option<Pushed>, Option<String>), RunError> {
        let begun = Instant::now();
        let (sink, events) = EventSink::channel();
        let log = Log::new(self.shared.logs.clone(), self.build.id);
        let redactor = Arc::new(self.redactor());
        let recorder = record(log, events, self.number, begun, self.shared.metrics.clone(), Arc::clone(&redactor));
        let recorder = tokio::spawn(recorder);
        let outcome = self.prepare_and_run(backend, materials, cancel, sink).await;
        // Ends once the last sink is gone.
        let seen = recorder.await.unwrap_or(None);
        let extender = self.extender(&outcome, seen).await;
        match outcome {
            Ok((pushed, _)) => Ok((pushed, extender)),
            // Only the recipe whose steps Kiln itself wrote gives their exit statuses a meaning.
            Err(RunError::Build(failure)) => {
                let failure = if self.build.request.has_context() { failure } else { extend::explain(failure) };
                Err(RunError::Build(redactor.failure(failure)))
            }
            Err(error) => Err(error),
        }
    }

    async fn prepare_and_run(
        &self,
        backend: &dyn BuildBackend,
        materials: &Materials,
        cancel: &CancellationToken,
        sink: EventSink,
    ) -> Result<(Option<Pushed>, Option<Arc<Base>>), RunError> {
        let prepared = cancel.run_until_cancelled(self.prepare(materials, &sink)).await.ok_or(RunError::Cancelled)?;
        let (spec, base) = prepared.map_err(RunError::Build)?;
        Ok((backend.run(spec, sink, cancel.clone()).await?, base))
    }

    async fn prepare(
        &self,
        materials: &Materials,
        sink: &EventSink,
    ) -> Result<(BuildSpec, Option<Arc<Base>>), Failure> {
        let push = materials.push(self.build).await?;
        // The engine will connect there too, so an internal address is refused before it does.
        let admitted = materials.registry.admit(&push.host).await;
        admitted.map_err(|error| Failure::new(Reason::PushDenied, error.to_string()))?;
        if self.build.request.has_context() {
            let plan = self.context(materials, &push, sink).await?;
            return Ok((self.spec(materials, push, plan, sink).await, None));
        }
        let (plan, base) = self.extend(materials, &push, sink).await?;
        Ok((self.spec(materials, push, plan, sink).await, Some(base)))
    }

    /// One base, and perhaps a file that extends it.
    async fn extend(&self, materials: &Materials, push: &Push, sink: &EventSink) -> Result<(Plan, Arc<Base>), Failure> {
        let build = self.build;
        let opened = materials.open(build.owner(), &build.request.source, push).await?;
        let resolved = self.resolve(materials, &opened).await?;
        let Opened { base, credentials } = opened;
        note(sink, format!("base {base} is {}", resolved.digest)).await;
        let requirements = self.requirements().await?;
        let file = requirements.as_ref().map(|(kind, file)| (*kind, file.as_slice()));
        let context = extend::context(&resolved, file, materials.trust.is_some())?;
        let pull = PullGrant {
            host: base.host().clone(),
            repositories: vec![base.repository().to_owned()],
            credential: credentials.get(base.host()).cloned(),
        };
        let plan = Plan {
            context: Arc::new(context),
            dockerfile: DOCKERFILE.to_owned(),
            frontend: None,
            args: BTreeMap::new(),
            platforms: Vec::new(),
            // Exactly the one base, as it was resolved.
            sources: SourceRules(vec![SourceRule::Allow(resolved.reference.policy_identifier())]),
            pulls: vec![pull],
            secrets: secrets(materials.trust.as_ref()),
        };
        Ok((plan, resolved))
    }

    /// A caller's own Dockerfile, and every base that they may name in it.
    async fn context(&self, materials: &Materials, push: &Push, sink: &EventSink) -> Result<Plan, Failure> {
        let owner = self.build.owner();
        let context = self.own_context().await?;
        let installation = materials.installation();
        let (bases, nameable) = (&materials.bases, &materials.nameable);
        let open = bases.open(push, installation.as_ref(), nameable, &materials.process).await;
        let reach = Reach {
            owner,
            own_registry: &push.host,
            installation: installation.as_ref(),
            registries: materials.registry.registries(),
            open: &open,
        };
        let frontend = materials.frontend(&context, sink).await;
        Ok(Plan {
            context: Arc::clone(&context.tree),
            dockerfile: context.dockerfile.clone(),
            args: context.args.clone(),
            platforms: context.platforms(self.capabilities)?,
            sources: materials.rules(reach, frontend),
            pulls: materials.pulls(owner, push, frontend, open.clone()).await?,
            frontend: frontend.map(ToString::to_string),
            secrets: context.secrets.clone(),
        })
    }

    /// The folder that the caller sent: held for one who waits, else kept on disk.
    async fn own_context(&self) -> Result<Arc<Context>, Failure> {
        let (id, owner) = (self.build.id, self.build.owner());
        let Some(options) = &self.build.request.context else {
            return self.shared.contexts.get(id).ok_or_else(attached::interrupted);
        };
        let tree = self.shared.stored.tree(id, owner).await.map_err(|error| {
            tracing::error!(build = %id, %error, "a build's context can't be read");
            Failure::new(Reason::Internal, "the build's context can't be read; the operator's log says why")
        })?;
        Ok(Arc::new(options.context(tree)))
    }

    async fn spec(&self, materials: &Materials, push: Push, plan: Plan, sink: &EventSink) -> BuildSpec {
        let build = self.build;
        let destination = Destination {
            registry: push.host.to_string(),
            plain_http: push.manner.plain_http,
            skip_verify: push.manner.skip_verify,
            target: build.target.clone(),
        };
        let push = PushGrant { to: push, repository: build.target.repository().to_owned() };
        let elsewhere = materials.bases.any.then(|| Arc::clone(&materials.process));
        let credentials = BuildCredentials { push, pulls: plan.pulls, elsewhere };
        let session = credentials.session(materials.registry.clone());
        let size = self.size(&materials.sizes, sink).await;
        BuildSpec {
            attempt: AttemptName { instance: materials.instance, build: build.id, attempt: self.number },
            tenant: self.shared.ledger.tenant_key(build.owner()),
            context: plan.context,
            dockerfile: plan.dockerfile,
            frontend: plan.frontend,
            args: plan.args,
            proxy: proxy(&materials.steps),
            platforms: plan.platforms,
            no_cache: build.request.fresh,
            output: if build.request.skip_push { Output::Nothing } else { Output::Push(destination) },
            sources: plan.sources,
            registry_auth: Arc::new(session),
            secrets: plan.secrets,
            limits: size.limits(self.deadline),
        }
    }

    /// What takes the build's secrets out of its words.
    fn redactor(&self) -> Redactor {
        let context = self.shared.contexts.get(self.build.id);
        context.map_or_else(Redactor::default, |context| Redactor::of(&context.secrets))
    }

    /// What the build's steps may use; a class that configuration has lost since is as the default one.
    async fn size(&self, sizes: &Sizes, sink: &EventSink) -> Size {
        let asked = self.build.request.size.as_deref();
        if let Some(size) = sizes.get(asked) {
            return size.clone();
        }
        let asked = asked.unwrap_or_default();
        let text = format!("there is no size {asked:?} any more; the build is made as {:?}", sizes.default);
        sink.emit(EventKind::Warning { text }).await;
        sizes.get(None).cloned().unwrap_or_default()
    }

    async fn resolve(&self, materials: &Materials, opened: &Opened) -> Result<Arc<Base>, Failure> {
        let wanted = platform(Some(self.capabilities));
        let mut pause = RESOLVE_PAUSE;
        for tried in 1.. {
            match materials.resolve(opened, &wanted).await {
                Err(ResolveError::Registry(RegistryError::Unavailable { .. })) if tried < RESOLVE_TRIES => {}
                Err(error) => return Err(unresolved(&error)),
                Ok(base) => {
                    self.keep_input_true(&base, &wanted).await?;
                    return Ok(base);
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Failure::new(Reason::Internal, "the base was not resolved"))
    }

    /// The base's tag may have moved since the request was hashed: then its image is nobody else's answer.
    async fn keep_input_true(&self, base: &Base, platform: &Platform) -> Result<(), Failure> {
        let Some(resolved) = &self.build.request.resolved else { return Ok(()) };
        if resolved.digest == base.digest && resolved.platform == platform.to_string() {
            return Ok(());
        }
        let forgotten = self.shared.ledger.forget_input(self.build.id).await;
        forgotten.map_err(|_| Failure::new(Reason::Internal, "the ledger can't be written"))
    }

    async fn requirements(&self) -> Result<Option<(Kind, Vec<u8>)>, Failure> {
        let lost = || Failure::new(Reason::Internal, "the build's file is gone");
        match (self.build.request.extend, self.build.request.kind) {
            (true, Some(kind)) => {
                let file = self.shared.ledger.file(self.build.id).await.map_err(|_| lost())?;
                Ok(Some((kind, file.ok_or_else(lost)?)))
            }
            _ => Ok(None),
        }
    }

    /// What extended the base: as the step said, or, if the cache answered for it, as it said when
    /// it ran.
    async fn extender(
        &self,
        outcome: &Result<(Option<Pushed>, Option<Arc<Base>>), RunError>,
        seen: Option<String>,
    ) -> Option<String> {
        let (Ok((_, Some(base))), true, Some(kind)) = (outcome, self.build.request.extend, self.build.request.kind)
        else {
            // A caller's own step may write whatever it likes.
            return seen.filter(|_| !self.build.request.has_context());
        };
        let ledger = &self.shared.ledger;
        let result = match &seen {
            Some(extender) => ledger.remember_extender(&base.digest, kind.as_str(), extender).await.map(|()| None),
            None => ledger.extender(&base.digest, kind.as_str()).await,
        };
        result
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "the base's extender is unknown");
                None
            })
            .or(seen)
    }
}

async fn note(sink: &EventSink, text: String) {
    sink.emit(EventKind::Note { text }).await;
}

fn proxy(steps: &Steps) -> BTreeMap<String, String> {
    let settings =
        [("HTTP_PROXY", &steps.http_proxy), ("HTTPS_PROXY", &steps.https_proxy), ("NO_PROXY", &steps.no_proxy)];
    settings.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

fn secrets(trust: Option<&TrustStore>) -> BTreeMap<String, Secret> {
    let Some(trust) = trust else { return BTreeMap::new() };
    let secret = |bytes: &[u8]| Secret::from(bytes.to_vec());
    BTreeMap::from([
        (extend::CA_SECRET.to_owned(), secret(trust.pem())),
        (extend::TRUSTSTORE_SECRET.to_owned(), secret(trust.pkcs12())),
    ])
}

fn unresolved(error: &ResolveError) -> Failure {
    let reason = match error {
        ResolveError::UnsupportedPlatform { .. } => Reason::BaseUnsupported,
        ResolveError::Registry(RegistryError::NotFound { .. }) => Reason::BaseNotFound,
        ResolveError::Registry(RegistryError::Forbidden { .. } | RegistryError::Refused { .. }) => {
            Reason::BaseForbidden
        }
        ResolveError::Registry(RegistryError::Unavailable { .. }) => Reason::RegistryUnavailable,
        ResolveError::Registry(RegistryError::Invalid { .. }) => Reason::BaseUnsupported,
    };
    Failure::new(reason, error.to_string())
}
