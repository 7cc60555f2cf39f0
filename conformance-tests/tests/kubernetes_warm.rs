//! Pods that are ready before there is a build for them, in a real cluster: each serves one build, and none outlives
//! its use.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;
mod cluster;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use cluster::{
    namespace::{Namespace, nothing_is_left},
    needed, on,
};
use kiln_backends::{
    BuildId, BuildSpec, KubernetesBackend, KubernetesConfig, RunError,
    conformance::{Bench, Running},
    kubernetes::Warm,
};
use kiln_conformance_tests::{Engine, Launch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A pool in a namespace of its own.
struct Kept {
    namespace: Namespace,
    backend: KubernetesBackend,
    bench: Bench,
    stop: CancellationToken,
    keeping: JoinHandle<()>,
}

impl Kept {
    async fn new(pods: usize) -> Self {
        Self::with(pods, |_| ()).await
    }

    async fn with(pods: usize, change: impl FnOnce(&mut KubernetesConfig)) -> Self {
        let namespace = Namespace::new().await;
        let mut config = namespace.config();
        config.warm = Warm { pods, ..config.warm };
        change(&mut config);
        let backend = KubernetesBackend::new(config).await.unwrap();
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(backend.clone().upkeep(stop.clone()));
        let kept = Self { namespace, bench: on(backend.clone()), backend, stop, keeping };
        kept.ready(pods).await;
        kept
    }

    /// Waits until so many pods are ready.
    async fn ready(&self, pods: usize) {
        until(&format!("{pods} pods are ready"), async || self.backend.ready() == pods).await;
    }

    /// The Jobs that wait for builds.
    async fn waiting(&self) -> BTreeSet<String> {
        self.names("kiln/warm=true").await
    }

    async fn names(&self, selector: &str) -> BTreeSet<String> {
        let listed = self.namespace.kubectl(&["get", "jobs", "--output=name", "--selector", selector]).await;
        listed.lines().map(str::to_owned).collect()
    }

    /// The Job of a build, once it is labelled as that.
    async fn job_of(&self, build: BuildId) -> String {
        let selector = format!("kiln/build={build}");
        until("the build has a Job", async || self.names(&selector).await.len() == 1).await;
        self.names(&selector).await.pop_first().unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.keeping.await.unwrap();
        nothing_at_all(&self.namespace).await;
        self.namespace.delete().await;
    }
}

/// Waits until `holds`, and says what didn't.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let held = async {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        while !holds().await {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), held).await.is_ok(), "{what}: never");
}

/// Waits until nothing of Kiln's is in a namespace, whatever it is called.
async fn nothing_at_all(namespace: &Namespace) {
    until("nothing of Kiln's is left", async || {
        namespace.kubectl(&["get", "jobs,pods,secrets", "--output=name"]).await.is_empty()
    })
    .await;
}

fn spec(bench: &Bench, step: &str) -> BuildSpec {
    bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nRUN echo {}; {step}", bench.unique())))
}

/// A build that runs until it is cancelled.
async fn running(bench: &Bench) -> (BuildId, Running) {
    let spec = spec(bench, "echo runs; sleep 600");
    let build = spec.attempt.build;
    let mut running = bench.start(spec);
    running.shows("runs").await;
    (build, running)
}

async fn cancelled(running: Running) {
    running.cancel();
    assert!(matches!(running.end().await.result, Err(RunError::Cancelled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_takes_a_ready_pod_which_goes_with_it_and_another_takes_its_place() {
    let kept = Kept::new(1).await;
    let waited = kept.waiting().await;
    let (build, running) = running(&kept.bench).await;
    let job = kept.job_of(build).await;
    assert!(waited.contains(&job), "{job} is none of {waited:?}");
    let owner = kept.namespace.kubectl(&["get", &job, "--output=jsonpath={.metadata.labels.kiln/owner}"]).await;
    assert!(owner.starts_with('k'), "{owner:?}");
    kept.ready(1).await;
    assert!(!kept.waiting().await.contains(&job), "{job} waits for another build");
    cancelled(running).await;
    let gone = format!("{job} is gone");
    until(&gone, async || {
        kept.namespace.kubectl(&["get", "--ignore-not-found", "--output=name", &job]).await.is_empty()
    })
    .await;
    nothing_is_left(&kept.namespace.0, build).await;
    assert_eq!(kept.backend.ready(), 1);
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_builds_get_one_daemon() {
    let kept = Kept::new(2).await;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let (one, two, three) = tokio::join!(running(&kept.bench), running(&kept.bench), running(&kept.bench));
        for (build, _) in [&one, &two, &three] {
            let job = kept.job_of(*build).await;
            assert!(seen.insert(job.clone()), "{job} had a build before");
        }
        for (_, running) in [one, two, three] {
            cancelled(running).await;
        }
    }
    assert!(seen.iter().any(|job| job.contains("-warm-")), "{seen:?}");
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_of_another_size_gets_a_pod_of_its_own() {
    let kept = Kept::new(1).await;
    let waited = kept.waiting().await;
    let mut large = spec(&kept.bench, "echo runs; sleep 600");
    large.limits.memory = Some(300 << 20);
    let mut long = spec(&kept.bench, "true");
    long.limits.deadline = Duration::from_secs(3600);
    let build = large.attempt.build;
    let mut running = kept.bench.start(large);
    running.shows("runs").await;
    let job = kept.job_of(build).await;
    let memory = "--output=jsonpath={.spec.template.spec.containers[0].resources.limits.memory}";
    assert_eq!(kept.namespace.kubectl(&["get", &job, memory]).await, ((300 + 128) << 20).to_string());
    cancelled(running).await;
    // One that may take longer than the ready pod lasts.
    assert!(kept.bench.run(long).await.digest().starts_with("sha256:"));
    assert_eq!(kept.waiting().await, waited);
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_pod_that_is_killed_costs_no_build() {
    let kept = Kept::new(1).await;
    let of_warm = "--selector=kiln/warm=true";
    for kill in [&["delete", "pods", "--grace-period=0", "--force", of_warm][..], &["delete", "jobs", of_warm]] {
        kept.ready(1).await;
        let before = kept.waiting().await;
        let spec = spec(&kept.bench, "true");
        let (_, outcome) = tokio::join!(kept.namespace.kubectl(kill), async {
            // Not before the pod is on its way: the kill is what is raced with.
            until("the kill shows", async || kept.backend.ready() == 0 || gone(&kept, &before).await).await;
            kept.bench.run(spec).await
        });
        assert!(outcome.digest().starts_with("sha256:") && outcome.warnings().is_empty(), "{outcome:?}");
        kept.ready(1).await;
        assert!(kept.waiting().await.is_disjoint(&before));
    }
    kept.end().await;
}

/// Whether the pod of the one Job that waited is deleted, or about to be.
async fn gone(kept: &Kept, before: &BTreeSet<String>) -> bool {
    let shown = "--output=jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name}{end}";
    let pods = kept.namespace.kubectl(&["get", "pods", "--selector=kiln/warm=true", shown]).await;
    !pods.is_empty() || kept.waiting().await.is_disjoint(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_waited_for_long_makes_room_for_a_new_one() {
    let kept = Kept::with(1, |config| config.warm.age = Duration::from_secs(3)).await;
    let first = kept.waiting().await;
    until("another waits", async || {
        let now = kept.waiting().await;
        !now.is_empty() && now.is_disjoint(&first) && kept.backend.ready() == 1
    })
    .await;
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_room_is_asked_now_and_then_and_filled_when_it_has() {
    let kept = Kept::new(1).await;
    kept.namespace.kubectl(&["create", "quota", "one", "--hard=pods=0"]).await;
    let (build, running) = running(&kept.bench).await;
    let refused = async || kept.namespace.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"]).await;
    until("the quota refuses", async || refused().await.contains("exceeded quota")).await;
    assert_eq!(kept.backend.ready(), 0);
    cancelled(running).await;
    nothing_is_left(&kept.namespace.0, build).await;
    kept.namespace.kubectl(&["delete", "quota", "one"]).await;
    kept.ready(1).await;
    kept.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateways_ready_pods_are_swept_and_a_stopped_one_leaves_none() {
    let namespace = Namespace::new().await;
    let text = format!(
        "[engine.kubernetes]\nkubeconfig = {:?}\nnamespace = {:?}\nprofile = \"userns\"\nreach = \"pod-ip\"\nimage = {:?}\n",
        needed("KUBECONFIG"),
        namespace.0,
        cluster::image("userns"),
    );
    let warm_jobs = async || {
        let running = "--output=jsonpath={.items[*].metadata.name}";
        namespace.kubectl(&["get", "pods", "--field-selector=status.phase=Running", running]).await
    };
    let launch = Launch::on(Engine::Buildkitd)
        .user("ann")
        .unset("KILN_ENGINE__BUILDKIT")
        .set("KILN_ENGINE__KUBERNETES__WARM_PODS", "2");
    let kiln = launch.config(&text).start().await;
    until("two pods wait", async || warm_jobs().await.matches("-warm-").count() == 2).await;
    let launch = kiln.kill().await;
    assert_eq!(warm_jobs().await.matches("-warm-").count(), 2, "they outlive the process");

    let begun = Instant::now();
    let kiln = launch.set("KILN_ENGINE__KUBERNETES__WARM_PODS", "0").start().await;
    nothing_at_all(&namespace).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "took {:?}", begun.elapsed());

    let (status, launch) = kiln.stop().await;
    assert_eq!(status, Some(0));
    let kiln = launch.set("KILN_ENGINE__KUBERNETES__WARM_PODS", "1").start().await;
    until("a pod waits", async || warm_jobs().await.contains("-warm-")).await;
    assert_eq!(kiln.stop().await.0, Some(0));
    nothing_at_all(&namespace).await;
    namespace.delete().await;
}
