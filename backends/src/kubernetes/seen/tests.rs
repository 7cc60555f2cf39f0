//! Pods and Jobs as clusters show them, and what each amounts to.

use serde_json::{Value, json};

use super::*;

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()
}

fn there(status: Value) -> Verdict {
    Seen { job: Watched::Never, pod: Watched::There(Box::new(pod(status))) }.verdict()
}

fn waiting(reason: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [container(json!({"waiting": {"reason": reason, "message": "m"}}))]})
}

fn container(state: Value) -> Value {
    json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn ended(code: i32, reason: &str) -> Value {
    let state = json!({"terminated": {"exitCode": code, "reason": reason, "message": "last"}});
    json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "containerStatuses": [container(state)]})
}

fn disruption(reason: &str) -> Value {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "m"});
    json!({"phase": "Failed", "conditions": [condition]})
}

fn m() -> String {
    "m".to_owned()
}

#[test]
fn a_pod_waits_runs_or_is_over() {
    let unscheduled = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m"});
    let running = container(json!({"running": {}}));
    let exited = Trouble::Exited { status: 1, words: "last".to_owned() };
    for (status, expected) in [
        (json!({"phase": "Pending"}), Verdict::Pending(None)),
        (json!({"phase": "Pending", "conditions": [unscheduled]}), Verdict::Pending(Some(Trouble::Unscheduled(m())))),
        (waiting("ContainerCreating"), Verdict::Pending(None)),
        (waiting("ErrImagePull"), Verdict::Pending(Some(Trouble::Image("ErrImagePull: m".to_owned())))),
        (waiting("ImagePullBackOff"), Verdict::Pending(Some(Trouble::Image("ImagePullBackOff: m".to_owned())))),
        (waiting("InvalidImageName"), Verdict::Ended(Trouble::Image("InvalidImageName: m".to_owned()))),
        (
            waiting("CreateContainerError"),
            Verdict::Pending(Some(Trouble::Unstarted("CreateContainerError: m".to_owned()))),
        ),
        (
            json!({"phase": "Running", "podIP": "10.1.2.3", "containerStatuses": [running]}),
            Verdict::Running(Some("10.1.2.3".to_owned())),
        ),
        (ended(0, "Completed"), Verdict::Done("last".to_owned())),
        (ended(1, "Error"), Verdict::Ended(exited)),
        (ended(137, "OOMKilled"), Verdict::Ended(Trouble::OutOfMemory)),
        (disruption("PreemptionByScheduler"), Verdict::Ended(Trouble::Evicted(m()))),
        (disruption("EvictionByEvictionAPI"), Verdict::Ended(Trouble::Evicted(m()))),
        (disruption("DeletionByTaintManager"), Verdict::Ended(Trouble::NodeGone(m()))),
        (disruption("DeletionByPodGC"), Verdict::Ended(Trouble::NodeGone(m()))),
        (json!({"phase": "Failed", "reason": "NodeLost", "message": "m"}), Verdict::Ended(Trouble::NodeGone(m()))),
        (json!({"phase": "Failed", "reason": "DeadlineExceeded"}), Verdict::Ended(Trouble::Expired)),
        (
            json!({"phase": "Failed", "reason": "OutOfmemory", "message": "m"}),
            Verdict::Ended(Trouble::Unscheduled("OutOfmemory: m".to_owned())),
        ),
    ] {
        assert_eq!(there(status.clone()), expected, "{status}");
    }
}

#[test]
fn an_eviction_for_the_pods_own_use_of_disk_is_not_one_for_its_nodes_want_of_it() {
    let evicted = |message: &str| there(json!({"phase": "Failed", "reason": "Evicted", "message": message}));
    for own in [
        "Pod ephemeral local storage usage exceeds the total limit of containers 64Mi. ",
        "Container buildkitd exceeded its local ephemeral storage limit \"64Mi\". ",
        "Usage of EmptyDir volume \"state\" exceeds the limit \"64Mi\". ",
    ] {
        assert_eq!(evicted(own), Verdict::Ended(Trouble::OutOfStorage(own.to_owned())));
    }
    for nodes in ["The node was low on resource: ephemeral-storage. ", "The node was low on resource: memory."] {
        assert_eq!(evicted(nodes), Verdict::Ended(Trouble::Evicted(nodes.to_owned())));
    }
}

#[test]
fn a_pod_or_job_that_vanishes_was_deleted_unless_the_pod_had_said_why() {
    let running = json!({"phase": "Running", "containerStatuses": [container(json!({"running": {}}))]});
    let gone = |status| Seen { job: Watched::Never, pod: Watched::Gone(Box::new(pod(status))) }.verdict();
    assert_eq!(gone(running.clone()), Verdict::Ended(Trouble::Deleted));
    assert_eq!(gone(ended(137, "OOMKilled")), Verdict::Ended(Trouble::OutOfMemory));
    assert_eq!(gone(disruption("DeletionByTaintManager")), Verdict::Ended(Trouble::NodeGone(m())));

    let mut leaving = pod(running.clone());
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-02T03:04:05Z")).unwrap();
    let seen = Seen { job: Watched::Never, pod: Watched::There(Box::new(leaving)) };
    assert_eq!(seen.verdict(), Verdict::Ended(Trouble::Deleted));

    let mut seen = Seen { job: Watched::There(Box::default()), pod: Watched::There(Box::new(pod(running))) };
    assert_eq!(seen.verdict(), Verdict::Running(None));
    seen.job.update(None);
    assert_eq!(seen.verdict(), Verdict::Ended(Trouble::Deleted));
    assert!(!seen.pod_is_gone());
    seen.pod.update(None);
    assert!(seen.pod_is_gone());
}

#[test]
fn a_job_past_its_deadline_is_told_from_one_that_failed() {
    let with = |reason: &str| {
        let condition = json!({"type": "Failed", "status": "True", "reason": reason});
        let job = serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [condition]}})).unwrap();
        Seen { job: Watched::There(Box::new(job)), pod: Watched::Never }.verdict()
    };
    assert_eq!(with("DeadlineExceeded"), Verdict::Ended(Trouble::Expired));
    // The pod says it better, and will.
    assert_eq!(with("PodFailurePolicy"), Verdict::Pending(None));
}
