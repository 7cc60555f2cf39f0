//! What Kiln's objects in a cluster are called, and the labels by which they are found again.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{AttemptName, BuildId, InstanceId, TenantKey};

/// Whose it is.
pub(super) const INSTANCE: &str = "kiln/instance";
/// Which build's.
pub(super) const BUILD: &str = "kiln/build";
/// Which attempt's.
pub(super) const ATTEMPT: &str = "kiln/attempt";
/// A keyed hash of the owner's name: names may be longer than a label, and are nobody's business there.
pub(super) const OWNER: &str = "kiln/owner";
/// Which process made it; a Job of the same name by another one is a leftover.
pub(super) const PROCESS: &str = "kiln/process";
/// Set where it is no build's, but a proof of what the cluster can do.
pub(super) const PROOF: &str = "kiln/proof";

/// Which volume a pod has, and on a volume itself.
pub(super) const CACHE: &str = "kiln/cache";
/// Set while no build has it.
pub(super) const WARM: &str = "kiln/warm";

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// The name of an attempt's Job. At most 63 characters, pods' names being longer by six: the whole
/// of the instance is in a label.
pub(super) fn of_attempt(attempt: &AttemptName) -> String {
    format!("kiln-{}-{}-{}", short(attempt.instance), attempt.build.0.simple(), attempt.attempt)
}

/// The name of a proof's Job.
pub(super) fn of_proof(instance: InstanceId, proof: Uuid) -> String {
    format!("kiln-{}-proof-{}", short(instance), proof.simple())
}

/// The name of the Job of a daemon that waits for a build.
pub(super) fn of_warm(instance: InstanceId, run: Uuid) -> String {
    format!("kiln-{}-warm-{}", short(instance), run.simple())
}

/// The name of a volume.
pub(super) fn of_cache(instance: InstanceId, cache: Uuid) -> String {
    format!("kiln-{}-cache-{}", short(instance), cache.simple())
}

/// The last digits: an id that was made from the time has its chance there.
fn short(instance: InstanceId) -> String {
    instance.0.simple().to_string().split_off(24)
}

/// The labels of an attempt's objects.
pub(super) fn labels(attempt: &AttemptName, owner: &TenantKey, process: Uuid) -> Labels {
    let mut labels = common(attempt.instance, process);
    labels.insert(BUILD.to_owned(), attempt.build.to_string());
    labels.insert(ATTEMPT.to_owned(), attempt.attempt.to_string());
    labels.insert(OWNER.to_owned(), owner.step_hostname());
    labels
}

/// The labels of a proof's objects.
pub(super) fn proof_labels(instance: InstanceId, process: Uuid) -> Labels {
    let mut labels = common(instance, process);
    labels.insert(PROOF.to_owned(), "true".to_owned());
    labels
}

/// The labels of the objects of a daemon that waits for a build.
pub(super) fn warm_labels(instance: InstanceId, process: Uuid) -> Labels {
    let mut labels = common(instance, process);
    labels.insert(WARM.to_owned(), "true".to_owned());
    labels
}

/// The labels of an owner's volume: it outlives processes.
pub(super) fn cache_labels(instance: InstanceId, owner: &str, name: &str) -> Labels {
    [
        ("app.kubernetes.io/name", "buildkitd"),
        ("app.kubernetes.io/managed-by", "kiln"),
        (INSTANCE, &instance.0.to_string()),
        (OWNER, owner),
        (CACHE, name),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn common(instance: InstanceId, process: Uuid) -> Labels {
    [
        ("app.kubernetes.io/name", "buildkitd".to_owned()),
        ("app.kubernetes.io/managed-by", "kiln".to_owned()),
        (INSTANCE, instance.0.to_string()),
        (PROCESS, process.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Selects everything of an instance.
pub(super) fn of_instance(instance: InstanceId) -> String {
    format!("{INSTANCE}={}", instance.0)
}

/// The attempt that an object belongs to.
pub(super) fn attempt_of(labels: &Labels) -> Option<AttemptName> {
    let uuid = |key: &str| labels.get(key)?.parse::<Uuid>().ok();
    Some(AttemptName {
        instance: InstanceId(uuid(INSTANCE)?),
        build: BuildId(uuid(BUILD)?),
        attempt: labels.get(ATTEMPT)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32) -> AttemptName {
        AttemptName { instance: InstanceId(Uuid::new_v4()), build: BuildId::new(), attempt: number }
    }

    #[test]
    fn names_and_labels_fit_and_tell_instances_apart() {
        let (one, other) = (attempt(u32::MAX), attempt(1));
        for name in [of_attempt(&one), of_proof(one.instance, Uuid::new_v4()), of_warm(one.instance, Uuid::new_v4())] {
            // A Job's pods are called as it is, with a hyphen and five characters more.
            assert!(name.len() <= 57, "{name} has {}", name.len());
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        }
        let same = AttemptName { instance: other.instance, ..one };
        assert_ne!(of_attempt(&one), of_attempt(&same));
        let labels = labels(&one, &TenantKey::new([7; 32]), Uuid::new_v4());
        assert!(labels.values().all(|value| value.len() <= 63), "{labels:?}");
    }

    #[test]
    fn an_attempt_is_found_again_by_its_labels_and_other_pods_are_none() {
        let attempt = attempt(3);
        let labels = labels(&attempt, &TenantKey::new([7; 32]), Uuid::new_v4());
        assert_eq!(attempt_of(&labels), Some(attempt));
        for others in [proof_labels, warm_labels] {
            assert_eq!(attempt_of(&others(attempt.instance, Uuid::new_v4())), None);
        }
    }
}
