//! Pods that don't start, go away, or take too much, in a real cluster: each for its own reason, in
//! bounded time, and nothing is left.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod backends_bench;
mod cluster;

use std::time::{Duration, Instant};

use cluster::{
    config, kubectl,
    namespace::{Namespace, nothing_is_left, of, userns},
    on,
};
use kiln_backends::{
    BuildBackend as _, BuildId, BuildSpec, EngineError, InstanceId, KubernetesBackend, KubernetesConfig, Reason,
    RunError,
    conformance::{Bench, Outcome},
    kubernetes::{Access, Profile, Reach, SharedCredential, Trouble},
};

async fn proved(config: KubernetesConfig) -> Bench {
    let backend = KubernetesBackend::new(config).await.unwrap();
    backend.probe().await.unwrap_or_else(|error| panic!("{error}"));
    on(backend)
}

fn endless(bench: &Bench) -> BuildSpec {
    bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nRUN echo {}; echo runs; sleep 600", bench.unique())))
}

fn trouble(outcome: &Outcome) -> &Trouble {
    match &outcome.result {
        Err(RunError::Engine { source: EngineError::Pod(trouble), .. }) => trouble,
        other => panic!("no trouble of a pod: {other:?}"),
    }
}

/// What somebody does to a build that runs, and how that ends.
async fn done_to(act: impl AsyncFn(&str), expected: fn(&Trouble) -> bool) {
    let bench = proved(userns()).await;
    let spec = endless(&bench);
    let build = spec.attempt.build;
    let mut running = bench.start(spec);
    running.shows("runs").await;
    let begun = Instant::now();
    act(&of(build)).await;
    let outcome = running.end().await;
    assert!(expected(trouble(&outcome)), "{outcome:?}");
    assert!(matches!(outcome.result, Err(RunError::Engine { retryable: true, .. })), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "took {:?}", begun.elapsed());
    assert_eq!(outcome.warnings().len(), 1, "who waits for the build is told: {outcome:?}");
    nothing_is_left("default", build).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_deleted_ends_its_build() {
    let delete = async |of: &str| drop(kubectl(&["delete", "jobs", "--wait=false", of]).await);
    done_to(delete, |trouble| matches!(trouble, Trouble::Deleted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_ends_its_build() {
    let delete =
        async |of: &str| drop(kubectl(&["delete", "pods", "--wait=false", "--grace-period=0", "--force", of]).await);
    done_to(delete, |trouble| matches!(trouble, Trouble::Deleted)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_pod_says_so() {
    let evict = async |of: &str| {
        let pod = kubectl(&["get", "pods", "--output=jsonpath={.items[0].metadata.name}", of]).await;
        let folder = tempfile::tempdir().unwrap();
        let body = folder.path().join("eviction.json");
        let eviction = format!(
            r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "{pod}", "namespace": "default"}}}}"#
        );
        std::fs::write(&body, eviction).unwrap();
        let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
        kubectl(&["create", "--raw", &path, "--filename", body.to_str().unwrap()]).await;
    };
    done_to(evict, |trouble| matches!(trouble, Trouble::Evicted(_))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_no_node_can_hold_is_given_up_in_time() {
    let bench = proved(KubernetesConfig { start_deadline: Duration::from_secs(6), ..userns() }).await;
    let mut spec = endless(&bench);
    spec.limits.memory = Some(1 << 42);
    let (build, begun) = (spec.attempt.build, Instant::now());
    let outcome = bench.run(spec).await;
    assert!(matches!(trouble(&outcome), Trouble::Unscheduled(why) if why.contains("memory")), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
    nothing_is_left("default", build).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_is_told_from_a_want_of_nodes() {
    let namespace = Namespace::new().await;
    let bench = proved(KubernetesConfig { start_deadline: Duration::from_secs(8), ..namespace.config() }).await;
    namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]).await;
    let spec = endless(&bench);
    let build = spec.attempt.build;
    let outcome = bench.run(spec).await;
    assert!(matches!(trouble(&outcome), Trouble::Quota(_)), "{outcome:?}");
    assert!(trouble(&outcome).retryable());
    nothing_is_left(&namespace.0, build).await;
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_forbids_such_pods_is_named_at_once() {
    let namespace = Namespace::new().await;
    namespace.kubectl(&["label", "namespace", &namespace.0, "pod-security.kubernetes.io/enforce=restricted"]).await;
    let backend = KubernetesBackend::new(namespace.config()).await.unwrap();
    let begun = Instant::now();
    let Err(EngineError::Unfit(why)) = backend.probe().await else { panic!("a fit engine") };
    assert!(
        why.starts_with("userns: the cluster admits no pod like the build's") && why.contains("PodSecurity"),
        "{why}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_named() {
    let mut config = KubernetesConfig { start_deadline: Duration::from_secs(8), ..userns() };
    config.pods.image = cluster::image("none");
    let Err(EngineError::Pod(Trouble::Image(why))) = KubernetesBackend::new(config).await.unwrap().probe().await else {
        panic!("an engine without an image")
    };
    assert!(why.contains("ErrImagePull") || why.contains("ImagePullBackOff"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fills_its_disk_is_ended_for_that() {
    let bench = proved(userns()).await;
    let text =
        format!("FROM {{base}}\nRUN echo {}; head -c 300m /dev/zero > /big; echo written; sleep 120", bench.unique());
    let mut spec = bench.spec("ann", bench.dockerfile(&text));
    spec.limits.storage = Some(128 << 20);
    let build = spec.attempt.build;
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.failure().reason, Reason::OutOfStorage, "{:?}", outcome.failure());
    assert!(outcome.failure().message.contains("128 MiB"), "{:?}", outcome.failure());
    nothing_is_left("default", build).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_build_ends_nothing_is_left() {
    let bench = proved(userns()).await;
    let spec = |text: &str| bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\n{text} {}", bench.unique())));
    for text in ["RUN true", "RUN false"] {
        let spec = spec(text);
        let build = spec.attempt.build;
        let _ = bench.run(spec).await;
        nothing_is_left("default", build).await;
    }
    let (dropped, cancelled) = (endless(&bench), endless(&bench));
    let builds = [dropped.attempt.build, cancelled.attempt.build];
    let (mut dropped, mut cancelled) = (bench.start(dropped), bench.start(cancelled));
    dropped.shows("runs").await;
    dropped.drop_run().await;
    cancelled.shows("runs").await;
    cancelled.cancel();
    let _ = cancelled.end().await;
    for build in builds {
        nothing_is_left("default", build).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_takes_the_place_of_what_an_earlier_run_of_it_left() {
    let bench = proved(userns()).await;
    let spec = endless(&bench);
    let mut first = bench.start(spec.clone());
    first.shows("runs").await;
    // The same attempt again, as after a process that was killed.
    let mut second = bench.start(spec.clone());
    assert!(matches!(trouble(&first.end().await), Trouble::Deleted));
    second.shows("runs").await;
    second.cancel();
    let _ = second.end().await;
    nothing_is_left("default", spec.attempt.build).await;
}

/// A Job as a killed Kiln leaves it.
async fn leave(instance: InstanceId, build: BuildId) {
    let name = format!("left-{}", BuildId::new().0.simple());
    kubectl(&["create", "job", &name, "--image=kiln.invalid/none"]).await;
    let labels = [format!("kiln/instance={}", instance.0), format!("kiln/build={build}"), "kiln/attempt=1".to_owned()];
    kubectl(&["label", "job", &name, &labels[0], &labels[1], &labels[2]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_removes_this_instances_leftovers_and_nothing_else() {
    let (own, other) = (InstanceId(BuildId::new().0), InstanceId(BuildId::new().0));
    let (dead, live) = (BuildId::new(), BuildId::new());
    for (instance, build) in [(own, dead), (own, live), (other, dead)] {
        leave(instance, build).await;
    }
    let sweep = async |instance, lives: Option<BuildId>| {
        let backend = KubernetesBackend::new(KubernetesConfig { instance, ..userns() }).await.unwrap();
        backend.sweep(&|attempt| Some(attempt.build) == lives).await.unwrap()
    };
    assert_eq!(sweep(own, Some(live)).await, 1);
    assert_eq!(sweep(own, None).await, 1);
    assert_eq!(sweep(other, None).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_profile_is_chosen_by_trying_and_a_shared_credential_keeps_rootless_out() {
    let guarded =
        |profile| KubernetesConfig { shared_credential: SharedCredential::Guarded, ..config(profile, Reach::PodIp) };
    let refused = KubernetesBackend::new(guarded(Some(Profile::Rootless))).await.map(drop).unwrap_err().to_string();
    assert!(refused.contains("accept_shared_credential"), "{refused}");
    let chosen = KubernetesBackend::new(guarded(None)).await.unwrap().probe().await.unwrap();
    assert!(chosen.version.contains("(userns)") && chosen.version.contains("Kubernetes v"), "{chosen:?}");
    assert!(!chosen.keeps_cache && chosen.step_limits.memory, "{chosen:?}");
}

/// A kubeconfig by which one is a namespace's service account.
async fn as_service_account(namespace: &Namespace, folder: &std::path::Path) -> Access {
    let token = namespace.kubectl(&["create", "token", "default"]).await;
    let text = kubectl(&["config", "view", "--raw", "--flatten", "--minify", "--output=json"]).await;
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"] = serde_json::json!({ "token": token });
    let file = folder.join("kubeconfig.json");
    std::fs::write(&file, config.to_string()).unwrap();
    Access::Kubeconfig { file, context: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_is_shipped_suffices_and_is_asked_for_where_it_is_missing() {
    let namespace = Namespace::new().await;
    let folder = tempfile::tempdir().unwrap();
    let access = as_service_account(&namespace, folder.path()).await;
    let config = || KubernetesConfig { access: access.clone(), ..namespace.config() };
    let refused = KubernetesBackend::new(config()).await.unwrap().probe().await.unwrap_err().to_string();
    assert!(refused.contains("may not create Jobs") && refused.contains("Role"), "{refused}");

    let role = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/builds/role.yaml");
    namespace.kubectl(&["apply", "--filename", role]).await;
    // The suite is no pod of Kiln's, and its registry no public one.
    namespace.kubectl(&["delete", "networkpolicy", "kiln-builds"]).await;
    let account = format!("--serviceaccount={}:default", namespace.0);
    namespace.kubectl(&["create", "rolebinding", "kiln", "--role=kiln-builds", &account]).await;
    let bench = proved(config()).await;
    let spec = bench.spec("ann", bench.dockerfile("FROM {base}"));
    let build = spec.attempt.build;
    assert!(bench.run(spec).await.digest().starts_with("sha256:"));
    nothing_is_left(&namespace.0, build).await;
    assert_eq!(bench.backend.sweep(&|_| false).await.unwrap(), 0);
    namespace.delete().await;
}
