//! What the cases build with: an engine, a registry it can reach, a base image in it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use kiln_auth::{Scope, Target, UserName};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    AttemptName, BasicCredential, BuildBackend, BuildId, BuildSpec, Destination, Event, EventKind, EventSink, Failure,
    InstanceId, Limits, Output, Pushed, RegistryAuth, RegistryToken, RunError, SourceRule, SourceRules, TenantKey,
    TokenRefused, TokenRequest, Tree,
};

/// Longer than any case takes, so that an engine that hangs fails the case.
const PATIENCE: Duration = Duration::from_secs(90);

/// An engine and what it needs.
#[derive(Clone)]
pub struct Bench {
    /// The engine.
    pub backend: Arc<dyn BuildBackend>,
    /// A registry that speaks plain HTTP to the engine and to the suite, `host:port`.
    pub registry: String,
    /// A registry that wants a name and a password, `host:port`, and those.
    pub private: (String, BasicCredential),
    /// Whether the engine reaches what the suite itself listens at on loopback.
    pub reaches_suite: bool,
    /// A busybox in the first registry, `repository:tag`; its `/bin/sh` is all that the steps need.
    pub base: String,
    instance: InstanceId,
    builds: Arc<AtomicU32>,
}

/// How a run ended, and what was seen of it.
#[derive(Debug)]
pub struct Outcome {
    /// Its result.
    pub result: Result<Option<Pushed>, RunError>,
    /// Its events.
    pub events: Vec<Event>,
}

/// A run that goes on.
pub struct Running {
    events: Arc<Mutex<Vec<Event>>>,
    output: tokio::sync::watch::Receiver<usize>,
    cancel: CancellationToken,
    task: JoinHandle<Outcome>,
}

/// Credentials that are the same for every registry, or none.
#[derive(Default)]
pub struct Fixed(pub Option<BasicCredential>);

// === impl Fixed ===

#[async_trait]
impl RegistryAuth for Fixed {
    async fn basic(&self, _host: &str) -> Option<BasicCredential> {
        self.0.clone()
    }

    async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused> {
        Err(TokenRefused { host: request.host, cause: "the suite has no token service".to_owned() })
    }
}

// === impl Bench ===

impl Bench {
    /// A bench on an engine.
    #[must_use]
    pub fn new(
        backend: Arc<dyn BuildBackend>,
        registry: String,
        private: (String, BasicCredential),
        base: String,
    ) -> Self {
        let instance = InstanceId(BuildId::new().0);
        Self { backend, registry, private, reaches_suite: true, base, instance, builds: Arc::default() }
    }

    /// The base as a Dockerfile names it.
    #[must_use]
    pub fn base_reference(&self) -> String {
        format!("{}/{}", self.registry, self.base)
    }

    /// A word that no other build has used: in a step it makes the step a new one.
    #[must_use]
    pub fn unique(&self) -> String {
        let count = self.builds.fetch_add(1, Ordering::Relaxed);
        format!("u{}-{count}", BuildId::new().0.simple())
    }

    /// A context that is a Dockerfile alone; `{base}` in it stands for the base.
    ///
    /// # Panics
    /// Never: the path is a valid one.
    #[must_use]
    pub fn dockerfile(&self, text: &str) -> Tree {
        self.with_files(text, &[])
    }

    /// A context of a Dockerfile and other files.
    ///
    /// # Panics
    /// When a path is no path of a tree.
    #[must_use]
    pub fn with_files(&self, dockerfile: &str, files: &[(&str, &[u8])]) -> Tree {
        let text = dockerfile.replace("{base}", &self.base_reference());
        let files = [("Dockerfile", text.as_bytes())].into_iter().chain(files.iter().copied());
        let built = { files }.try_fold(Tree::builder(), |tree, (path, bytes)| tree.file(path, 0o644, bytes));
        match built {
            Ok(builder) => builder.build(),
            Err(error) => panic!("{error}"),
        }
    }

    /// A build of `context` for `owner`, allowed nothing but the base.
    ///
    /// # Panics
    /// When `owner` is no user name.
    #[must_use]
    pub fn spec(&self, owner: &str, context: Tree) -> BuildSpec {
        let target = Target::parse(&format!("{owner}/conformance:{}", self.unique()))
            .ok()
            .zip(UserName::parse(owner).ok())
            .and_then(|(target, owner)| Scope::of(owner).admit(target).ok());
        let Some(target) = target else { panic!("{owner:?} is no user name") };
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, owner.as_bytes()).as_ref());
        BuildSpec {
            attempt: AttemptName { instance: self.instance, build: BuildId::new(), attempt: 1 },
            tenant: TenantKey::new(key),
            context: Arc::new(context),
            dockerfile: "Dockerfile".to_owned(),
            frontend: None,
            args: BTreeMap::new(),
            proxy: BTreeMap::new(),
            platforms: Vec::new(),
            no_cache: false,
            output: Output::Push(Destination {
                registry: self.registry.clone(),
                plain_http: true,
                skip_verify: false,
                target,
            }),
            sources: SourceRules(vec![SourceRule::Allow(format!("docker-image://{}*", self.base_reference()))]),
            registry_auth: Arc::new(Fixed::default()),
            secrets: BTreeMap::new(),
            limits: Limits {
                deadline: PATIENCE,
                memory: None,
                cpu_millis: None,
                processes: None,
                storage: None,
                step_deadline: None,
            },
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When the run panics or outlasts every deadline.
    pub async fn run(&self, spec: BuildSpec) -> Outcome {
        self.start(spec).end().await
    }

    /// Runs a Dockerfile for `owner` to its end.
    ///
    /// # Panics
    /// As [`Bench::run`].
    pub async fn build(&self, owner: &str, dockerfile: &str) -> Outcome {
        self.run(self.spec(owner, self.dockerfile(dockerfile))).await
    }

    /// Begins a run.
    #[must_use]
    pub fn start(&self, spec: BuildSpec) -> Running {
        let (sink, mut received) = EventSink::channel();
        let cancel = CancellationToken::new();
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let (seen, output) = tokio::sync::watch::channel(0);
        let backend = Arc::clone(&self.backend);
        let task = tokio::spawn({
            let (cancel, events) = (cancel.clone(), Arc::clone(&events));
            async move {
                let collect = async {
                    while let Some(event) = received.recv().await {
                        events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                        seen.send_modify(|count| *count += 1);
                    }
                };
                let run = tokio::time::timeout(PATIENCE * 2, backend.run(spec, sink, cancel));
                let (result, ()) = tokio::join!(run, collect);
                let Ok(result) = result else { panic!("the run outlasted every deadline") };
                Outcome { result, events: events.lock().unwrap_or_else(PoisonError::into_inner).clone() }
            }
        });
        Running { events, output, cancel, task }
    }
}

/// Where a build's image goes.
pub(super) fn destination(spec: &mut BuildSpec) -> &mut Destination {
    match &mut spec.output {
        Output::Push(to) => to,
        Output::Nothing => panic!("the build pushes nothing"),
    }
}

// === impl Running ===

impl Running {
    /// Waits until the run's output has `text` in it.
    ///
    /// # Panics
    /// When the run ends, or the time, before it does.
    pub async fn shows(&mut self, text: &str) {
        let shown = async {
            loop {
                let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if output(&events).contains(text) {
                    return;
                }
                assert!(self.output.changed().await.is_ok(), "ended without {text:?}: {events:?}");
            }
        };
        assert!(tokio::time::timeout(PATIENCE, shown).await.is_ok(), "{text:?} never came");
    }

    /// Cancels it.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Drops the run where it is, as a task that is aborted does.
    pub async fn drop_run(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When the run panics.
    pub async fn end(self) -> Outcome {
        match self.task.await {
            Ok(outcome) => outcome,
            Err(error) => panic!("{error}"),
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// The digest of what it pushed.
    ///
    /// # Panics
    /// When it failed.
    #[must_use]
    pub fn digest(&self) -> &str {
        match &self.result {
            Ok(Some(pushed)) => &pushed.digest,
            Ok(None) => panic!("nothing was pushed\n{}", self.output()),
            Err(error) => panic!("{error}\n{}", self.output()),
        }
    }

    /// Why it failed.
    ///
    /// # Panics
    /// When it didn't, or not as a build.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match &self.result {
            Err(RunError::Build(failure)) => failure,
            other => panic!("no failed build: {other:?}\n{}", self.output()),
        }
    }

    /// What its steps wrote.
    #[must_use]
    pub fn output(&self) -> String {
        output(&self.events)
    }

    /// Its warnings.
    #[must_use]
    pub fn warnings(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Warning { text } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }
}

fn output(events: &[Event]) -> String {
    let written: Vec<Bytes> = events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Output { bytes, .. } => Some(bytes.clone()),
            _ => None,
        })
        .collect();
    String::from_utf8_lossy(&written.concat()).into_owned()
}
