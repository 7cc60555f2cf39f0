//! Benches on the development cluster, and what of it a test looks at or changes by hand.

#[allow(dead_code, reason = "one of the files only builds")]
pub(crate) mod namespace;

use std::{path::PathBuf, process::Output, time::Duration};

use kiln_backends::{
    BuildBackend as _, BuildId, InstanceId, KubernetesBackend, KubernetesConfig, Limits,
    conformance::Bench,
    kubernetes::{Access, Caches, DaemonRegistries, Pods, Profile, Reach, SharedCredential, Snapshotter, Warm},
};

use crate::backends_bench::{bench_at, needed as needed_of_engines};

/// A variable that `deploy/dev/cluster` sets.
pub(crate) fn needed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `deploy/dev/cluster up`, then `eval \"$(deploy/dev/cluster env)\"`")
    })
}

/// The registries as pods know them: the open one, and the one that wants a password.
pub(crate) fn registries() -> (String, String) {
    let open = needed("KILN_TEST_CLUSTER_REGISTRY");
    let (host, _) = open.rsplit_once(':').unwrap();
    let guarded = needed_of_engines("KILN_TEST_REGISTRY_AUTH");
    let (_, port) = guarded.rsplit_once(':').unwrap();
    let guarded = format!("{host}:{port}");
    (open, guarded)
}

/// How the development cluster is used, as an installation of its own.
pub(crate) fn config(profile: Option<Profile>, reach: Reach) -> KubernetesConfig {
    let (open, guarded) = registries();
    let toml = [open, guarded].map(|host| format!("[registry.\"{host}\"]\nhttp = true\n")).concat();
    KubernetesConfig {
        instance: InstanceId(BuildId::new().0),
        access: Access::Kubeconfig { file: PathBuf::from(needed("KUBECONFIG")), context: None },
        namespace: Some("default".to_owned()),
        reach,
        profile,
        snapshotter: Snapshotter::Auto,
        pods: Pods { image: image("userns"), rootless_image: image("rootless"), ..Pods::default() },
        start_deadline: Duration::from_secs(60),
        warm: Warm { pods: 0, limits: unbounded(), age: Duration::from_secs(600) },
        caches: Caches { volumes: 0, size: 1 << 30, storage_class: None, age: Duration::from_secs(3600) },
        registries: DaemonRegistries { toml, ..DaemonRegistries::default() },
        shared_credential: SharedCredential::None,
    }
}

/// What bounds the benches' builds: time alone.
fn unbounded() -> Limits {
    let deadline = Duration::from_secs(120);
    Limits { deadline, memory: None, cpu_millis: None, processes: None, storage: None, step_deadline: None }
}

/// The images that `deploy/dev/cluster` loads.
pub(crate) fn image(tag: &str) -> String {
    format!("kiln.invalid/buildkit:{tag}")
}

/// A bench on the cluster, whose profile has been proved.
#[allow(dead_code, reason = "one of the files proves others")]
pub(crate) async fn bench(profile: Profile, reach: Reach) -> Bench {
    let backend = KubernetesBackend::new(config(Some(profile), reach)).await.unwrap();
    backend.probe().await.unwrap_or_else(|error| panic!("{error}"));
    on(backend)
}

/// A bench on a backend of the cluster.
pub(crate) fn on(backend: KubernetesBackend) -> Bench {
    let (open, guarded) = registries();
    let mut bench = bench_at(backend, open, guarded);
    bench.reaches_suite = false;
    bench
}

/// Runs kubectl, and tells what it wrote.
#[allow(dead_code, reason = "one of the files only builds")]
pub(crate) async fn kubectl(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(arguments).await;
    assert!(status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[allow(dead_code, reason = "as above")]
async fn run(arguments: &[&str]) -> Output {
    let kubectl = PathBuf::from(needed("KILN_DEV_BIN")).join("kubectl");
    tokio::process::Command::new(kubectl).args(arguments).output().await.unwrap()
}
