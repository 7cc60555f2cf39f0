//! Kiln in a real cluster, from the manifests: used through its Service, killed, and what its builds don't reach.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test panics where it fails")]

mod deployment;
mod openserverless;

use std::{future::Future, time::Duration};

use deployment::{Deployment, Manifests, WITHIN, kubectl, registry, run};
use kiln_conformance_tests::{Client, registry::digest};
use reqwest::Method;
use serde_json::json;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// For whatever is to come, and for what a build leaves to be gone.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

const USER: &str = "devel";

const BASE: Manifests =
    Manifests { folder: "", namespace: "kiln", config: include_str!("kiln.toml"), more: None, users: &[(USER, "{}")] };

/// The first thing that `look` finds.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("after {PATIENCE:?}: {what}"))
}

/// A target of this user's that isn't there yet: its tag, and its name in requests.
fn target(user: &str) -> (String, String) {
    let tag = Uuid::new_v4().simple().to_string();
    let target = format!("{user}:{tag}");
    (tag, target)
}

fn base(name: &str) -> String {
    format!("{}/bases/{name}", registry())
}

#[tokio::test(flavor = "multi_thread")]
async fn deployed_from_the_manifests_it_builds_for_its_callers() {
    let kiln = Deployment::of(&BASE);
    let client = kiln.client(0);
    requirements_become_an_image_that_the_kubelet_pulls(&client).await;
    kiln.nothing_is_left().await;
    a_pod_that_is_killed_loses_no_build(&kiln, &client).await;
    kiln.nothing_is_left().await;
    a_step_reaches_nothing_of_ours(&kiln);
    only_pods_of_kilns_shape_run_where_builds_do();
}

async fn requirements_become_an_image_that_the_kubelet_pulls(client: &Client) {
    let (tag, target) = target(USER);
    let id = client.start(&base("python"), &target, "python", Some("humanize==4.9.0\n")).await;
    let build = client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#} {:?}", client.log(&id).await);
    let pod = format!("pulls-{tag}");
    let image = format!("--image={}/{target}", registry());
    let script = "import humanize; print(humanize.__version__)";
    kubectl(&["run", &pod, &image, "--restart=Never", "--command", "--", "python3", "-c", script]);
    kubectl(&["wait", &format!("pod/{pod}"), "--for=jsonpath={.status.phase}=Succeeded", WITHIN]);
    assert_eq!(kubectl(&["logs", &pod]), "4.9.0");
    kubectl(&["delete", "pod", &pod]);
}

async fn a_pod_that_is_killed_loses_no_build(kiln: &Deployment, client: &Client) {
    let (tag, target) = target(USER);
    let script = format!("sleep 5 # {tag}\n");
    let id = client.start(&base("waiting"), &target, "python", Some(&script)).await;
    until("the step runs", || async {
        client.log(&id).await.iter().any(|(_, text)| text.contains("extend: waits")).then_some(())
    })
    .await;
    kiln.kubectl(&["delete", "pod", "--selector=app.kubernetes.io/name=kiln", "--grace-period=0", "--force"]);
    kiln.rolled_out();
    // The Service's way to the new pod comes a moment after the pod is ready.
    until("it answers again", || async {
        let answer = client.request(Method::GET, "/readyz").timeout(Duration::from_secs(2)).send().await;
        answer.is_ok_and(|answer| answer.status() == 200).then_some(())
    })
    .await;
    let build = client.ended(&id).await;
    assert_eq!((build["state"].as_str(), build["attempt"].as_u64()), (Some("succeeded"), Some(2)), "{build:#}");
    assert_eq!(digest(USER, &tag).await.as_deref(), build["digest"].as_str());
    let ends = client.log(&id).await.iter().filter(|(kind, _)| kind == "end").count();
    assert_eq!(ends, 1, "it ends once");
}

/// What the step of `kiln doctor` says of an address.
fn a_step_reaches_nothing_of_ours(kiln: &Deployment) {
    let service = kiln.kubectl(&["get", "service", "kiln", "--output=jsonpath={.spec.clusterIP}"]);
    let pod = kiln.kubectl(&[
        "get",
        "pod",
        "--selector=app.kubernetes.io/name=kiln",
        "--output=jsonpath={.items[0].status.podIP}",
    ]);
    let api = kubectl(&["get", "service", "kubernetes", "--output=jsonpath={.spec.clusterIP}"]);
    let node = kubectl(&["get", "nodes", "--output=jsonpath={.items[0].status.addresses[0].address}"]);
    let doctor = |addresses: &[String]| {
        let base = base("python");
        let mut arguments =
            vec!["--namespace", "kiln", "exec", "deployment/kiln", "--", "/usr/bin/kiln", "doctor", "--canary", &base];
        addresses.iter().for_each(|address| arguments.extend(["--unreachable", address]));
        run(&[&arguments[..], &["--config", "/etc/kiln/kiln.toml"]].concat())
    };
    let ours = [
        format!("{service}:8080"),
        format!("{pod}:8080"),
        format!("{pod}:8081"),
        format!("{api}:443"),
        format!("{node}:6443"),
        format!("{node}:10250"),
    ];
    let (well, said) = doctor(&ours);
    assert!(well, "{said}");
    // It would say so: the registry is what builds are let through to.
    let (well, said) = doctor(&[registry()]);
    assert!(!well && said.contains(&registry()), "{said}");
}

fn only_pods_of_kilns_shape_run_where_builds_do() {
    let (made, said) = run(&["--namespace", "kiln-builds", "run", "stranger", "--image=kiln.invalid/busybox:static"]);
    assert!(!made && said.contains("only Kiln's pods run here"), "{said}");
    // One that isn't there is refused by the cluster itself.
    let (made, said) = run(&["--namespace", "kiln-builds", "create", "serviceaccount", "other"]);
    assert!(made, "{said}");
    for (spec, why) in [
        (json!({ "hostNetwork": true }), "none of its node's namespaces"),
        (json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }), "no folder of its node"),
        (json!({ "automountServiceAccountToken": true }), "given no token"),
        (json!({ "serviceAccountName": "other" }), "nobody to the cluster"),
    ] {
        let mut whole = json!({ "automountServiceAccountToken": false });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let spec = json!({ "spec": whole }).to_string();
        let (made, said) = run(&[
            "--namespace",
            "kiln-builds",
            "run",
            "stranger",
            "--image=kiln.invalid/busybox:static",
            "--labels=kiln/instance=x",
            "--overrides",
            &spec,
            "--dry-run=server",
        ]);
        assert!(!made && said.contains(why), "{why}: {said}");
    }
}
