//! The whole gateway within the test, on an engine that pushes an image at once.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use bytes::Bytes;
use kiln_backends::{
    AttemptName, BuildBackend, BuildSpec, Capabilities, EngineError, EventKind, EventSink, Output, Pushed, RunError,
    StepLimits, StepNetwork, Stream,
};
use kiln_conformance_tests::{Engine, Launch, kiln::base, registry};
use kiln_gateway::{
    config::Config,
    serve::{Gateway, StartError},
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{REPOSITORIES, Tenant};

/// What a tag begins with whose build runs until it is cancelled.
pub(crate) const HOLD: &str = "hold";
/// What the catalogue of `ensure` has.
pub(crate) const BUILDER: &str = "python:3.13";

/// A gateway, and whose it is.
pub(crate) struct Opened {
    pub(crate) router: Router,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) running: JoinHandle<Result<(), StartError>>,
    /// Of its files.
    pub(crate) _folder: Launch,
}

/// Opens it for these users; it runs until it is stopped.
pub(crate) async fn open(names: &[&str], stopped: oneshot::Receiver<()>) -> Opened {
    // Nobody else's in the registry, and still each the beginning of others.
    let run = Uuid::new_v4().simple().to_string();
    let names: Vec<_> = names.iter().map(|name| format!("t{}{name}", &run[..8])).collect();
    let rates = "{ per_minute = 600000, burst = 600000 }";
    let catalogue = json!({ "builders": { BUILDER: { "kind": "python", "source": base("busybox") } } });
    let mut launch = Launch::on(Engine::Buildkitd)
        .set("KILN_LIMITS__RATES__SUBMIT", rates)
        .set("KILN_LIMITS__RATES__READ", rates)
        .set("KILN_LIMITS__RATES__STREAM", rates)
        .set("KILN_LIMITS__RATES__FAILURES", rates)
        .set("KILN_LIMITS__CONCURRENCY", "16")
        .set("KILN_LIMITS__RUNNING_PER_OWNER", "4")
        .set("KILN_IDENTITY__SHARED_NAMES", "true")
        .set("BUILDER_CATALOG_JSON", catalogue.to_string());
    for name in &names {
        let key = launch.folder().join(name);
        fs::write(&key, format!("the key of {name}")).unwrap();
        let tenant = format!("[openfaas.tenants.{name}]\npayload_secret_file = \"{}\"\n", key.display());
        launch = launch.user(name).config(&tenant);
    }
    let tenants = names.iter().map(|name| Tenant::of(name, launch.token(name), &format!("the key of {name}")));
    let tenants: Vec<_> = tenants.collect();
    let gateway = Gateway::on(&config(&launch), Quick::for_all(&tenants).await).await.unwrap();
    let router = gateway.router();
    let stop = async { drop(stopped.await) };
    Opened { router, tenants, running: tokio::spawn(gateway.run(Duration::from_secs(1), stop)), _folder: launch }
}

/// What the program would be configured with.
fn config(launch: &Launch) -> Config {
    let command = launch.command(&["serve"]);
    let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
    let variables = command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?))));
    let variables: BTreeMap<_, _> = variables.collect();
    let file = variables["KILN_CONFIG"].clone();
    Config::load(Some(file.as_ref()), &variables).unwrap()
}

/// An engine that pushes an image for each build, and says in its log whose it is.
struct Quick {
    http: reqwest::Client,
    /// An image of each repository, by its name.
    images: Arc<HashMap<String, Value>>,
}

impl Quick {
    async fn for_all(tenants: &[Tenant]) -> Self {
        let mut images = HashMap::new();
        for tenant in tenants {
            for repository in REPOSITORIES {
                let repository = tenant.repository(repository);
                let image = registry::image(&repository, "amd64").await;
                images.insert(repository, image.manifest);
            }
        }
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, images: Arc::new(images) }
    }
}

#[async_trait]
impl BuildBackend for Quick {
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        Ok(Capabilities {
            engine: "quick".to_owned(),
            version: "1".to_owned(),
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
        let Output::Push(to) = spec.output else { return Ok(None) };
        let name = format!("{}:{}\n", to.target.repository(), to.target.tag());
        events.emit(EventKind::StepStarted { step: 1, name: "RUN".to_owned() }).await;
        events.emit(EventKind::Output { step: 1, stream: Stream::Stdout, bytes: Bytes::from(name) }).await;
        if to.target.tag().starts_with(HOLD) {
            cancel.cancelled().await;
            return Err(RunError::Cancelled);
        }
        let mut manifest = self.images[to.target.repository()].clone();
        manifest["annotations"] = json!({ "attempt": Uuid::new_v4() });
        let manifest = manifest.to_string();
        let hash: String = digest(&SHA256, manifest.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let digest = format!("sha256:{hash}");
        let url = format!("http://{}/v2/{}/manifests/{digest}", to.registry, to.target.repository());
        let put = self.http.put(url).header("content-type", registry::MANIFEST).body(manifest).send().await;
        assert!(put.unwrap().status().is_success());
        Ok(Some(Pushed { digest }))
    }

    async fn sweep(
        &self,
        _is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError> {
        Ok(0)
    }
}
