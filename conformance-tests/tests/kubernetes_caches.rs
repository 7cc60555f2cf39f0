//! Owners' volumes in a real cluster: layers outlive their daemon there, one build has a volume at a time, and there
//! are no more of them than there may be.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;
mod cluster;

use std::time::Duration;

use cluster::{
    kubectl,
    namespace::{Namespace, nothing_is_left},
    on,
};
use kiln_backends::{
    BuildId, BuildSpec, KubernetesBackend, KubernetesConfig, SourceRule,
    conformance::{self, Bench, Running},
    kubernetes::{Caches, Warm},
};
use kiln_conformance_tests::registry;
use tokio_util::sync::CancellationToken;

/// A namespace with volumes to claim, and builds in it.
struct Cached {
    namespace: Namespace,
    volumes: Vec<String>,
    bench: Bench,
    stop: CancellationToken,
    upkeep: tokio::task::JoinHandle<()>,
    backend: KubernetesBackend,
}

impl Cached {
    async fn new(volumes: usize, change: impl FnOnce(&mut KubernetesConfig)) -> Self {
        let namespace = Namespace::new().await;
        let mut config = namespace.config();
        config.caches = Caches { volumes, storage_class: Some(namespace.0.clone()), ..config.caches };
        change(&mut config);
        // One more than may be claimed at once: those that are given back don't come again.
        let volumes: Vec<_> = (0..volumes + 2).map(|at| format!("{}-{at}", namespace.0)).collect();
        for volume in &volumes {
            provide(&namespace.0, volume).await;
        }
        let backend = KubernetesBackend::new(config).await.unwrap();
        let stop = CancellationToken::new();
        let upkeep = tokio::spawn(backend.clone().upkeep(stop.clone()));
        Self { namespace, volumes, bench: on(backend.clone()), stop, upkeep, backend }
    }

    /// The label of a Job by which it shows its volume.
    async fn cache_of(&self, build: BuildId) -> String {
        let shown = "--output=jsonpath={.items[*].metadata.labels.kiln/cache}";
        self.namespace.kubectl(&["get", "jobs", "--selector", &format!("kiln/build={build}"), shown]).await
    }

    async fn claims(&self) -> Vec<String> {
        let listed = self.namespace.kubectl(&["get", "persistentvolumeclaims", "--output=name"]).await;
        listed.lines().map(str::to_owned).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.upkeep.await.unwrap();
        self.namespace.delete().await;
        let volumes: Vec<_> = self.volumes.iter().map(String::as_str).collect();
        kubectl(&[&["delete", "persistentvolume", "--ignore-not-found", "--wait=false"], &volumes[..]].concat()).await;
    }
}

/// A folder of the node as a volume of a class of its own.
async fn provide(class: &str, name: &str) {
    let volume = serde_json::json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": format!("/tmp/kiln-caches/{name}"), "type": "DirectoryOrCreate"},
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("volume.json");
    std::fs::write(&file, volume.to_string()).unwrap();
    kubectl(&["create", "--filename", file.to_str().unwrap()]).await;
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let held = async {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        while !holds().await {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), held).await.is_ok(), "{what}: never");
}

fn spec(bench: &Bench, owner: &str) -> BuildSpec {
    bench.spec(owner, bench.dockerfile(&format!("FROM {{base}}\nRUN echo {}; echo runs; sleep 600", bench.unique())))
}

async fn running(bench: &Bench, owner: &str) -> (BuildId, Running) {
    let spec = spec(bench, owner);
    let build = spec.attempt.build;
    let mut running = bench.start(spec);
    running.shows("runs").await;
    (build, running)
}

async fn cancelled(running: Running) {
    running.cancel();
    let _ = running.end().await;
}

/// Not only counted: between the builds the registry loses the base's bytes.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_build_of_an_owner_pulls_no_base_bytes() {
    let cached = Cached::new(2, |_| ()).await;
    let repository = format!("bases/{}", BuildId::new());
    registry::copy("bases/busybox", &repository).await;
    let base = format!("{}/{repository}:latest", cached.bench.registry);
    let build = |owner: &str| {
        let text = format!("FROM {base}\nRUN echo {}", cached.bench.unique());
        let mut spec = cached.bench.spec(owner, cached.bench.dockerfile(&text));
        spec.sources.0.push(SourceRule::Allow(format!("docker-image://{base}*")));
        spec
    };
    assert!(cached.bench.run(build("ann")).await.digest().starts_with("sha256:"));
    for layer in registry::manifest(&repository, "latest").await.unwrap().1["layers"].as_array().unwrap() {
        registry::delete_blob(&repository, layer["digest"].as_str().unwrap()).await;
    }
    let second = cached.bench.run(build("ann")).await;
    assert!(second.digest().starts_with("sha256:") && second.warnings().is_empty(), "{second:?}");
    // Nobody else has ann's bytes, and without them there is no build.
    let others = cached.bench.run(build("bob")).await;
    assert!(others.result.is_err(), "{others:?}");
    cached.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_one_build_and_another_at_once_takes_a_ready_pod() {
    let cached = Cached::new(1, |config| config.warm = Warm { pods: 1, ..config.warm }).await;
    until("a pod is ready", async || cached.backend.ready() == 1).await;
    let (first, one) = running(&cached.bench, "ann").await;
    assert_eq!(cached.backend.ready(), 1, "an owner's layers are worth more than a pod at once");
    let volume = cached.cache_of(first).await;
    assert!(cached.claims().await.concat().ends_with(&volume) && !volume.is_empty(), "{volume:?}");
    let (second, two) = running(&cached.bench, "ann").await;
    until("the Job shows its build", async || {
        let jobs = ["get", "jobs", "--output=name", "--selector", &format!("kiln/build={second}")];
        cached.namespace.kubectl(&jobs).await.contains("-warm-")
    })
    .await;
    assert_eq!(cached.cache_of(second).await, "");
    // The bound is reached, and no other owner's volume is free.
    let (third, three) = running(&cached.bench, "bob").await;
    assert_eq!(cached.cache_of(third).await, "");
    for running in [one, two, three] {
        cancelled(running).await;
    }
    for build in [first, second, third] {
        nothing_is_left(&cached.namespace.0, build).await;
    }
    // Now ann's is the oldest, and has to go for bob's.
    let (fourth, four) = running(&cached.bench, "bob").await;
    let other = cached.cache_of(fourth).await;
    assert!(!other.is_empty() && other != volume, "{other:?}");
    until("one volume is left", async || cached.claims().await.len() == 1).await;
    cancelled(four).await;
    cached.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_used_for_long_is_deleted_but_not_under_a_build() {
    let cached = Cached::new(2, |config| config.caches.age = Duration::from_secs(4)).await;
    let (build, running) = running(&cached.bench, "ann").await;
    let claimed = cached.claims().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(claimed.len() == 1 && cached.claims().await == claimed, "{claimed:?}");
    cancelled(running).await;
    nothing_is_left(&cached.namespace.0, build).await;
    until("the volume is gone", async || cached.claims().await.is_empty()).await;
    cached.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_nobody_provides_costs_time_and_no_build() {
    let cached = Cached::new(1, |config| config.caches.storage_class = Some("nobodys".to_owned())).await;
    let spec = cached.bench.spec("ann", cached.bench.dockerfile("FROM {base}"));
    let build = spec.attempt.build;
    assert!(cached.bench.run(spec).await.digest().starts_with("sha256:"));
    nothing_is_left(&cached.namespace.0, build).await;
    cached.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_keep_their_own_caches_and_nobody_elses() {
    let cached = Cached::new(4, |_| ()).await;
    conformance::an_owner_keeps_their_own_cache(&cached.bench).await;
    conformance::a_layer_made_with_a_secret_stays_with_its_owner(&cached.bench).await;
    conformance::contexts_that_look_alike_are_not_mixed_up(&cached.bench).await;
    cached.end().await;
}
