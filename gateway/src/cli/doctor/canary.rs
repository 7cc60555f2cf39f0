//! The canary: a build step that tries to reach what is ours, and never becomes an image.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kiln_auth::{Scope, Target, UserName};
use kiln_backends::{
    AttemptName, BuildBackend, BuildId, BuildSpec, EventSink, Failure, InstanceId, Limits, Output, RunError,
    SourceRule, SourceRules, TenantKey, Tree,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::Config,
    recipes::dockerfile::{Dockerfile, Mount},
    registry::{BaseRef, BuildCredentials, Credentials, Platform, PullGrant, PushGrant, RegistryClient, destination},
};

/// The script's status when it has tried everything: no step of the canary ever ends well, so
/// nothing is pushed.
const TRIED: i32 = 70;
/// The base has neither python3 nor nc.
const NO_TOOL: i32 = 71;
const WITHIN: Duration = Duration::from_secs(120);
const SCRIPT: &str = include_str!("canary.sh");

/// What the step reached of `addresses`.
pub(super) struct Reached(pub(super) Vec<String>);

/// Runs the canary on a base image with a shell and python3 or nc.
///
/// # Errors
/// Why it couldn't be run.
pub(super) async fn run(
    config: &Config,
    backend: &dyn BuildBackend,
    client: &RegistryClient,
    image: &str,
    addresses: &[String],
) -> Result<Reached, String> {
    let spec = spec(config, client, image, addresses).await?;
    let (sink, mut events) = EventSink::channel();
    let drained = async { while events.recv().await.is_some() {} };
    let (outcome, ()) = tokio::join!(backend.run(spec, sink, CancellationToken::new()), drained);
    let failure = match outcome {
        Err(RunError::Build(failure)) => failure,
        Err(error) => return Err(error.to_string()),
        Ok(_) => return Err("the step ended well, which it never does".to_owned()),
    };
    read(&failure)
}

fn read(failure: &Failure) -> Result<Reached, String> {
    let step = failure.step.as_ref().ok_or_else(|| failure.to_string())?;
    match step.exit_code {
        Some(TRIED) => {
            let reached = step.tail.iter().filter_map(|line| line.trim().strip_prefix("canary: reached "));
            Ok(Reached(reached.map(str::to_owned).collect()))
        }
        Some(NO_TOOL) => Err("the image has neither python3 nor nc; name another".to_owned()),
        _ => Err(failure.to_string()),
    }
}

async fn spec(
    config: &Config,
    client: &RegistryClient,
    image: &str,
    addresses: &[String],
) -> Result<BuildSpec, String> {
    let base = BaseRef::parse(image).map_err(|e| e.to_string())?;
    let push = destination(&config.registry, client.registries(), &BTreeMap::new()).await;
    let push = push.map_err(|e| e.to_string())?;
    let mut credentials = Credentials::default();
    let credential = config.registry.credential(base.host()).await.map_err(|e| e.to_string())?;
    if let Some(credential) = &credential {
        credentials.insert(base.host().clone(), credential.clone());
    }
    let resolved = client.resolve(&base, &[Platform::native()], &credentials).await.map_err(|e| e.to_string())?;
    let owner = UserName::parse("kiln-doctor").map_err(|e| e.to_string())?;
    let target = Target::parse("kiln-doctor:canary").map_err(|e| e.to_string())?;
    let target = Scope::of(owner).admit(target).map_err(|e| e.to_string())?;
    let mut argv = vec!["/bin/sh", "/.kiln/canary.sh"];
    argv.extend(addresses.iter().map(String::as_str));
    let mount = Mount::Context { source: ".kiln", target: "/.kiln" };
    let dockerfile = Dockerfile::default().from(&resolved.reference.to_string()).map_err(|e| e.to_string())?;
    let dockerfile = dockerfile.user("0:0").map_err(|e| e.to_string())?.run(&[mount], &argv).finish();
    let context = Tree::builder()
        .file("Dockerfile", 0o644, dockerfile.as_bytes())
        .and_then(|tree| tree.file(".kiln/canary.sh", 0o644, SCRIPT.as_bytes()))
        .map_err(|e| e.to_string())?;
    let pull = PullGrant { host: base.host().clone(), repositories: vec![base.repository().to_owned()], credential };
    let push = PushGrant { to: push, repository: target.repository().to_owned() };
    // What it finds today must not come from a cache of yesterday, so the tenant is new each time.
    let mut tenant = [0; 32];
    tenant[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    Ok(BuildSpec {
        attempt: AttemptName { instance: InstanceId(Uuid::new_v4()), build: BuildId::new(), attempt: 1 },
        tenant: TenantKey::new(tenant),
        context: Arc::new(context.build()),
        dockerfile: "Dockerfile".to_owned(),
        frontend: None,
        args: BTreeMap::new(),
        proxy: BTreeMap::new(),
        platforms: Vec::new(),
        no_cache: false,
        output: Output::Nothing,
        sources: SourceRules(vec![SourceRule::Allow(resolved.reference.policy_identifier())]),
        registry_auth: Arc::new(BuildCredentials { push, pulls: vec![pull], elsewhere: None }.session(client.clone())),
        secrets: BTreeMap::new(),
        limits: Limits {
            deadline: WITHIN,
            memory: None,
            cpu_millis: None,
            processes: None,
            storage: None,
            step_deadline: None,
        },
    })
}
