//! What was last seen of a build's Job and its pod, and what that amounts to. Pure: no clock, no cluster.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerState, Pod, PodCondition},
};

use super::trouble::Trouble;

/// An object under watch.
#[derive(Clone, Debug, Default)]
pub(super) enum Watched<K> {
    /// Not seen so far.
    #[default]
    Never,
    /// As it was last.
    There(Box<K>),
    /// It was there; as it was last.
    Gone(Box<K>),
}

/// A Job and its pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) job: Watched<Job>,
    pub(super) pod: Watched<Pod>,
}

/// What that amounts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// There is no container yet, and why, as far as the cluster says.
    Pending(Option<Trouble>),
    /// The container runs, at this address.
    Running(Option<String>),
    /// It is over.
    Ended(Trouble),
    /// It is over, with status 0 and these last words.
    Done(String),
}

impl<K> Watched<K> {
    /// Takes in that it is there, or not.
    pub(super) fn update(&mut self, now: Option<K>) {
        *self = match (now, std::mem::take(self)) {
            (Some(now), _) => Self::There(Box::new(now)),
            (None, Self::There(last) | Self::Gone(last)) => Self::Gone(last),
            (None, Self::Never) => Self::Never,
        };
    }
}

impl Seen {
    /// What both together say; the pod is closer to the cause.
    pub(super) fn verdict(&self) -> Verdict {
        let of_pod = match &self.pod {
            Watched::Never => Verdict::Pending(None),
            Watched::There(pod) => of_pod(pod, false),
            Watched::Gone(pod) => of_pod(pod, true),
        };
        match (&self.job, of_pod) {
            (_, ended @ (Verdict::Ended(_) | Verdict::Done(_))) => ended,
            (Watched::Gone(_), _) => Verdict::Ended(Trouble::Deleted),
            (Watched::There(job), other) => {
                if expired(job) {
                    Verdict::Ended(Trouble::Expired)
                } else {
                    other
                }
            }
            (Watched::Never, other) => other,
        }
    }

    /// Whether nothing of the pod is left on a node.
    pub(super) fn pod_is_gone(&self) -> bool {
        matches!(self.pod, Watched::Never | Watched::Gone(_))
    }
}

fn expired(job: &Job) -> bool {
    let conditions = job.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    { conditions }.any(|c| c.status == "True" && c.reason.as_deref() == Some("DeadlineExceeded"))
}

fn of_pod(pod: &Pod, gone: bool) -> Verdict {
    let Some(status) = &pod.status else {
        return if gone { Verdict::Ended(Trouble::Deleted) } else { Verdict::Pending(None) };
    };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let state = status.container_statuses.iter().flatten().next().and_then(|container| container.state.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let phase = status.phase.as_deref().unwrap_or_default();
    let over = gone || terminated.is_some() || pod.metadata.deletion_timestamp.is_some();
    if over || matches!(phase, "Failed" | "Succeeded") {
        let (reason, message) = (status.reason.as_deref().unwrap_or_default(), status.message.clone());
        if let Some(trouble) = of_kubelet(reason, message.unwrap_or_default()) {
            return Verdict::Ended(trouble);
        }
        // Also set where the kubelet itself killed the pod, hence after the kubelet's own word.
        if let Some(trouble) = condition(conditions, "DisruptionTarget", "True").and_then(disrupted) {
            return Verdict::Ended(trouble);
        }
        let Some(terminated) = terminated else { return Verdict::Ended(Trouble::Deleted) };
        let words = terminated.message.clone().unwrap_or_default();
        return match terminated.reason.as_deref() {
            Some("OOMKilled") => Verdict::Ended(Trouble::OutOfMemory),
            Some("ContainerStatusUnknown") => Verdict::Ended(Trouble::NodeGone("it lost the container".to_owned())),
            _ if pod.metadata.deletion_timestamp.is_some() => Verdict::Ended(Trouble::Deleted),
            _ if terminated.exit_code == 0 => Verdict::Done(words),
            _ => Verdict::Ended(Trouble::Exited { status: terminated.exit_code, words }),
        };
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return Verdict::Running(status.pod_ip.clone());
    }
    pending(conditions, state)
}

/// The kubelet's own word for why it ended a pod, or didn't take it.
fn of_kubelet(reason: &str, message: String) -> Option<Trouble> {
    /// How it says that the pod went beyond its own bound rather than its node's.
    const OWN_STORAGE: [&str; 3] =
        ["ephemeral local storage usage exceeds", "local ephemeral storage limit", "exceeds the limit"];
    Some(match reason {
        "Evicted" if OWN_STORAGE.iter().any(|words| message.contains(words)) => Trouble::OutOfStorage(message),
        "Evicted" | "Preempting" => Trouble::Evicted(message),
        "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" => Trouble::NodeGone(message),
        "DeadlineExceeded" => Trouble::Expired,
        "OutOfcpu"
        | "OutOfmemory"
        | "OutOfpods"
        | "OutOfephemeral-storage"
        | "NodeAffinity"
        | "NodePorts"
        | "UnexpectedAdmissionError" => Trouble::Unscheduled(format!("{reason}: {message}")),
        "AppArmor" | "SysctlForbidden" => Trouble::Refused(format!("{reason}: {message}")),
        _ => return None,
    })
}

/// Who made the pod go, as the control plane says.
fn disrupted(condition: &PodCondition) -> Option<Trouble> {
    let message = condition.message.clone().unwrap_or_default();
    Some(match condition.reason.as_deref()? {
        "DeletionByTaintManager" | "DeletionByPodGC" => Trouble::NodeGone(message),
        "PreemptionByScheduler" | "EvictionByEvictionAPI" | "TerminationByKubelet" => Trouble::Evicted(message),
        _ => return None,
    })
}

fn pending(conditions: &[PodCondition], state: Option<&ContainerState>) -> Verdict {
    if let Some(unscheduled) = condition(conditions, "PodScheduled", "False") {
        let message = unscheduled.message.clone().unwrap_or_default();
        return Verdict::Pending(Some(Trouble::Unscheduled(message)));
    }
    let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) else { return Verdict::Pending(None) };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let words = || match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    };
    match reason {
        // Nothing that waiting would mend.
        "InvalidImageName" | "ErrImageNeverPull" => Verdict::Ended(Trouble::Image(words())),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Verdict::Pending(Some(Trouble::Image(words()))),
        "" | "ContainerCreating" | "PodInitializing" => Verdict::Pending(None),
        _ => Verdict::Pending(Some(Trouble::Unstarted(words()))),
    }
}

fn condition<'a>(conditions: &'a [PodCondition], type_: &str, status: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == status)
}

#[cfg(test)]
mod tests;
