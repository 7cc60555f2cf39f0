//! What a build's pod asks of its node, and what it may not exceed.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity};

use super::config::Requests;
use crate::Limits;

/// What a daemon takes beside its steps: it rests at some 60 MiB, and packs and pushes layers as streams.
pub(super) const DAEMON_MEMORY: u64 = 128 << 20;

/// A build's size class as requests and limits. Memory and disk that were promised can't be taken
/// back without ending the build, so they are set aside in full; processors are shared.
pub(super) fn requirements(limits: &Limits, requests: &Requests) -> ResourceRequirements {
    let memory = limits.memory.map(|bytes| bytes.saturating_add(DAEMON_MEMORY));
    let cpu = requests.cpu_millis.min(limits.cpu_millis.unwrap_or(u32::MAX));
    let asked = [
        ("cpu", Some(millis(cpu))),
        ("memory", Some(bytes(memory.unwrap_or(requests.memory)))),
        ("ephemeral-storage", Some(bytes(limits.storage.unwrap_or(requests.storage)))),
    ];
    let bounded = [
        ("cpu", limits.cpu_millis.map(millis)),
        ("memory", memory.map(bytes)),
        ("ephemeral-storage", limits.storage.map(bytes)),
    ];
    ResourceRequirements { requests: Some(amounts(asked)), limits: Some(amounts(bounded)), claims: None }
}

fn amounts<const N: usize>(named: [(&str, Option<Quantity>); N]) -> BTreeMap<String, Quantity> {
    named.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?))).collect()
}

pub(super) fn bytes(bytes: u64) -> Quantity {
    Quantity(bytes.to_string())
}

fn millis(millis: u32) -> Quantity {
    Quantity(format!("{millis}m"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(memory: Option<u64>, cpu_millis: Option<u32>, storage: Option<u64>) -> [BTreeMap<String, String>; 2] {
        let deadline = Duration::from_secs(60);
        let limits = Limits { deadline, memory, cpu_millis, processes: None, storage, step_deadline: None };
        let made = requirements(&limits, &Requests::default());
        [made.requests, made.limits].map(|amounts| amounts.unwrap().into_iter().map(|(k, v)| (k, v.0)).collect())
    }

    fn amounts(named: &[(&str, &str)]) -> BTreeMap<String, String> {
        named.iter().map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned())).collect()
    }

    #[test]
    fn a_class_without_bounds_asks_for_the_usual_and_is_not_bounded() {
        let [requests, limits] = of(None, None, None);
        let usual = [("cpu", "250m"), ("memory", "536870912"), ("ephemeral-storage", "2147483648")];
        assert_eq!((requests, limits), (amounts(&usual), BTreeMap::new()));
    }

    #[test]
    fn what_is_bounded_is_set_aside_in_full_but_for_processors() {
        let [requests, limits] = of(Some(1 << 30), Some(2000), Some(4 << 30));
        let memory = ((1 << 30) + DAEMON_MEMORY).to_string();
        let expected = |cpu| amounts(&[("cpu", cpu), ("memory", &memory), ("ephemeral-storage", "4294967296")]);
        assert_eq!((requests, limits), (expected("250m"), expected("2000m")));
        let [requests, limits] = of(None, Some(100), None);
        assert_eq!((requests["cpu"].as_str(), limits["cpu"].as_str()), ("100m", "100m"), "no request above its limit");
    }
}
