//! Manifests as a cluster would be given them.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::{certificates, config::Requests, daemon, resources};

fn plan(purpose: Purpose) -> Plan {
    let deadline = Duration::from_secs(90);
    let bound = Some(1 << 30);
    let limits = crate::Limits {
        deadline,
        memory: bound,
        cpu_millis: None,
        processes: None,
        storage: bound,
        step_deadline: None,
    };
    Plan {
        name: "kiln-j".to_owned(),
        labels: [("kiln/instance".to_owned(), "i".to_owned())].into(),
        run: Uuid::nil(),
        purpose,
        resources: resources::requirements(&limits, &Requests::default()),
        cache: None,
        deadline,
    }
}

fn pods() -> Pods {
    Pods {
        image: "image:1".to_owned(),
        rootless_image: "image:1-rootless".to_owned(),
        image_pull_secrets: vec!["pull".to_owned()],
        service_account: Some("builds".to_owned()),
        node_selector: [("builds".to_owned(), "yes".to_owned())].into(),
        tolerations: vec![Toleration { key: Some("builds".to_owned()), ..Toleration::default() }],
        runtime_class: Some("kata".to_owned()),
        priority_class: Some("low".to_owned()),
        ..Pods::default()
    }
}

fn job(purpose: Purpose) -> Value {
    serde_json::to_value(plan(purpose).job(&pods())).unwrap()
}

#[test]
fn a_job_starts_suspended_ends_by_itself_and_makes_one_pod() {
    let spec = &job(Purpose::Daemon(Profile::Userns))["spec"];
    for (key, expected) in [
        ("suspend", json!(true)),
        ("activeDeadlineSeconds", json!(90)),
        ("ttlSecondsAfterFinished", json!(600)),
        ("backoffLimit", json!(0)),
        ("podReplacementPolicy", json!("Failed")),
    ] {
        assert_eq!(spec[key], expected, "{key}");
    }
    let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["action"] == "FailJob") && rules.len() == 2, "{rules:?}");
    assert_eq!(spec["template"]["metadata"]["labels"]["kiln/instance"], "i");
}

#[test]
fn pods_are_placed_as_configured_and_get_no_token() {
    let job = job(Purpose::Daemon(Profile::Userns));
    let pod = &job["spec"]["template"]["spec"];
    for (key, expected) in [
        ("restartPolicy", json!("Never")),
        ("automountServiceAccountToken", json!(false)),
        ("enableServiceLinks", json!(false)),
        ("terminationGracePeriodSeconds", json!(2)),
        ("serviceAccountName", json!("builds")),
        ("imagePullSecrets", json!([{"name": "pull"}])),
        ("nodeSelector", json!({"builds": "yes"})),
        ("runtimeClassName", json!("kata")),
        ("priorityClassName", json!("low")),
    ] {
        assert_eq!(pod[key], expected, "{key}");
    }
    let tolerated: Vec<_> = pod["tolerations"].as_array().unwrap().iter().map(|t| &t["key"]).collect();
    assert_eq!(tolerated, ["builds", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!(pod["volumes"][0]["emptyDir"]["sizeLimit"], "1073741824");
}

#[test]
fn only_a_pod_with_a_user_namespace_has_capabilities_and_it_looks_itself() {
    for (purpose, host_users, capable) in [
        (Purpose::Daemon(Profile::Userns), json!(false), true),
        (Purpose::Daemon(Profile::Rootless), Value::Null, false),
        (Purpose::Canary, json!(false), false),
    ] {
        let job = job(purpose);
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        assert_eq!((&pod["hostUsers"], &security["privileged"]), (&host_users, &Value::Null));
        assert_eq!(security["capabilities"]["add"].is_array(), capable, "{security}");
        if capable {
            assert!(container["command"][2].as_str().unwrap().contains("/proc/self/uid_map"), "{container}");
        } else {
            assert_eq!(security["runAsNonRoot"], true, "{security}");
        }
    }
    let rootless = &job(Purpose::Daemon(Profile::Rootless))["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(rootless["command"], Value::Null, "its image's entry point is what makes the user namespace");
}

/// The guard by itself, run by this machine's shell: here root is root.
#[test]
fn the_guard_lets_nothing_run_where_root_is_root() {
    let guard = |map: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("uid_map");
        std::fs::write(&file, map).unwrap();
        let script = GUARD.replace("/proc/self/uid_map", file.to_str().unwrap());
        std::process::Command::new("/bin/sh").args(["-c", &script, "guard", "echo", "ran"]).output().unwrap()
    };
    for map in ["         0          0 4294967295\n", "0 0 1\n1 100000 65535\n", "1 100000 65535\n", ""] {
        let output = guard(map);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(78), &b""[..]), "{map:?}");
    }
    assert_eq!(guard("         0 1879048192      65536\n").stdout, b"ran\n");
}

#[test]
fn a_secret_is_its_jobs_and_holds_the_daemons_half_alone() {
    let plan = plan(Purpose::Daemon(Profile::Rootless));
    let owner = Job { metadata: ObjectMeta { uid: Some("u-1".to_owned()), ..ObjectMeta::default() }, ..Job::default() };
    let certificates = certificates::issue(Duration::from_secs(60)).unwrap();
    let registries = DaemonRegistries {
        toml: "[registry.\"r\"]\nhttp = true\n".to_owned(),
        authorities: [("registry-0.pem".to_owned(), b"PEM".to_vec())].into(),
    };
    let secret = plan.secret(&owner, &certificates, Profile::Rootless, Snapshotter::Native, &registries);
    let reference = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!((reference.kind.as_str(), reference.uid.as_str()), ("Job", "u-1"));
    let data = secret.data.unwrap();
    let mut expected = [daemon::CONFIG, daemon::AUTHORITY, daemon::CERTIFICATE, daemon::KEY, "registry-0.pem"];
    expected.sort_unstable();
    assert_eq!(data.keys().collect::<Vec<_>>(), expected);
    let key = secrecy::ExposeSecret::expose_secret(&certificates.client.key).to_vec();
    assert!(data.values().all(|value| !value.0.windows(key.len()).any(|part| part == key)), "the client's key");
    let config = String::from_utf8(data[daemon::CONFIG].0.clone()).unwrap();
    for line in ["snapshotter = \"native\"", "noProcessSandbox = true", "[registry.\"r\"]"] {
        assert!(config.contains(line), "{config}");
    }
    let mounted = serde_json::to_value(plan.job(&pods())).unwrap();
    let mounted = &mounted["spec"]["template"]["spec"]["volumes"][2]["secret"]["secretName"];
    assert_eq!(mounted, secret.metadata.name.as_deref().unwrap());
}
