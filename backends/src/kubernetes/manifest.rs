//! The objects of a build: a Job that starts suspended, and the Secret that it owns.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    ByteString,
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            AppArmorProfile, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
            LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
            ResourceRequirements, SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Toleration, Volume,
            VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use uuid::Uuid;

use super::{
    certificates::Certificates,
    config::{DAEMON_FOLDER, DaemonRegistries, Pods, Profile, Snapshotter},
    daemon,
    names::Labels,
};

/// The annotation that tells one run's Job from an earlier one's of the same name.
pub(super) const RUN: &str = "kiln/run";
/// The one container of a pod.
const CONTAINER: &str = "buildkitd";
/// For a dead Kiln only: how long a finished Job may be looked at.
const KEPT_AFTER_END: i32 = 600;
/// A build that is to go has nothing to save.
const GRACE_SECONDS: i64 = 2;
/// How long a pod may stay on a node that doesn't answer; the session's silence ends the build sooner.
const NODE_SILENT_SECONDS: i64 = 30;
/// The user of BuildKit's rootless image.
const USER: i64 = 1000;
/// Nobody's processes.
const NOBODY: i64 = 65534;
/// The line that no cluster can take back: a container with such capabilities goes no further where
/// root in it is root on the node.
const GUARD: &str = r#"read -r inside outside count </proc/self/uid_map && [ "$inside" = 0 ] && [ "$outside" != 0 ] || {
  echo 'the pod has no user namespace of its own' >&2; exit 78; }
exec "$@""#;
/// What root of a user namespace needs there to make containers: those that Docker gives its own, and
/// three more. None of them reaches beyond the namespace.
const CAPABILITIES: [&str; 17] = [
    "SYS_ADMIN",
    "NET_ADMIN",
    "SYS_PTRACE",
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Tells the map as the container's last words.
const CANARY: &str = "cat /proc/self/uid_map >/dev/termination-log";

/// What a Job is for.
pub(super) enum Purpose {
    /// A daemon of this profile that waits for Kiln.
    Daemon(Profile),
    /// An unprivileged look at whether pods get user namespaces.
    Canary,
}

/// A volume for layers.
pub(super) struct Cache {
    /// Its claim.
    pub(super) volume: String,
    /// What may be left on it, bytes.
    pub(super) kept: u64,
}

/// What is particular to one Job.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) labels: Labels,
    /// A word of this run alone.
    pub(super) run: Uuid,
    pub(super) purpose: Purpose,
    pub(super) resources: ResourceRequirements,
    /// The volume on which the daemon finds its owner's layers and keeps them.
    pub(super) cache: Option<Cache>,
    /// When the cluster ends it if Kiln doesn't.
    pub(super) deadline: Duration,
}

impl Plan {
    /// The Job, suspended.
    pub(super) fn job(&self, pods: &Pods) -> Job {
        let spec = JobSpec {
            suspend: Some(true),
            active_deadline_seconds: Some(i64::try_from(self.deadline.as_secs()).unwrap_or(i64::MAX)),
            ttl_seconds_after_finished: Some(KEPT_AFTER_END),
            completions: Some(1),
            parallelism: Some(1),
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(self.labels.clone()), ..ObjectMeta::default() }),
                spec: Some(self.pod(pods)),
            },
            ..JobSpec::default()
        };
        Job {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels.clone()),
                annotations: Some([(RUN.to_owned(), self.run.to_string())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }

    fn pod(&self, pods: &Pods) -> PodSpec {
        let pull = |name: &String| LocalObjectReference { name: name.clone() };
        let user_namespace = !matches!(self.purpose, Purpose::Daemon(Profile::Rootless));
        let mut spec = PodSpec {
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            host_users: user_namespace.then_some(false),
            service_account_name: pods.service_account.clone(),
            image_pull_secrets: Some(pods.image_pull_secrets.iter().map(pull).collect()),
            node_selector: Some(pods.node_selector.clone()),
            tolerations: Some(tolerations(pods)),
            affinity: pods.affinity.clone(),
            runtime_class_name: pods.runtime_class.clone(),
            priority_class_name: pods.priority_class.clone(),
            // An ordinary user may not write to a new volume otherwise.
            security_context: (self.cache.is_some() && !user_namespace)
                .then(|| PodSecurityContext { fs_group: Some(USER), ..PodSecurityContext::default() }),
            ..PodSpec::default()
        };
        let container = Container {
            name: CONTAINER.to_owned(),
            image: Some(if user_namespace { &pods.image } else { &pods.rootless_image }.clone()),
            resources: Some(self.resources.clone()),
            // A daemon that can't start says why in its last lines.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        };
        spec.containers = vec![match self.purpose {
            Purpose::Canary => canary(container),
            Purpose::Daemon(profile) => {
                spec.volumes = Some(self.volumes());
                daemon(container, profile)
            }
        }];
        spec
    }

    fn volumes(&self) -> Vec<Volume> {
        let limit = self.resources.limits.as_ref().and_then(|limits| limits.get("ephemeral-storage"));
        let state = Volume { name: "state".to_owned(), ..Volume::default() };
        let state = match &self.cache {
            None => {
                let empty = EmptyDirVolumeSource { size_limit: limit.cloned(), medium: None };
                Volume { empty_dir: Some(empty), ..state }
            }
            Some(cache) => {
                let claim = PersistentVolumeClaimVolumeSource { claim_name: cache.volume.clone(), read_only: None };
                Volume { persistent_volume_claim: Some(claim), ..state }
            }
        };
        let run = EmptyDirVolumeSource { size_limit: None, medium: Some("Memory".to_owned()) };
        // Readable by whichever user the daemon is: the pod has no other, and the keys are of this build alone.
        let files = SecretVolumeSource {
            secret_name: Some(self.secret_name()),
            default_mode: Some(0o444),
            ..SecretVolumeSource::default()
        };
        vec![
            state,
            Volume { name: "run".to_owned(), empty_dir: Some(run), ..Volume::default() },
            Volume { name: "files".to_owned(), secret: Some(files), ..Volume::default() },
        ]
    }

    /// Of this run alone: an earlier Job's Secret goes a while after its Job.
    fn secret_name(&self) -> String {
        format!("{}-{}", self.name, self.run.simple())
    }

    /// The Secret that the daemon reads; goes with its Job.
    pub(super) fn secret(
        &self,
        owner: &Job,
        certificates: &Certificates,
        profile: Profile,
        snapshotter: Snapshotter,
        registries: &DaemonRegistries,
    ) -> Secret {
        let text = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data: BTreeMap<String, ByteString> =
            registries.authorities.iter().map(|(name, pem)| (name.clone(), ByteString(pem.clone()))).collect();
        let config =
            daemon::config(profile, snapshotter, self.cache.as_ref().map(|cache| cache.kept), &registries.toml);
        for (name, content) in [
            (daemon::CONFIG, &config),
            (daemon::AUTHORITY, &certificates.authority),
            (daemon::CERTIFICATE, &certificates.server),
            (daemon::KEY, &certificates.server_key),
        ] {
            data.insert(name.to_owned(), text(content));
        }
        let owner = OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: self.name.clone(),
            uid: owner.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret_name()),
                labels: Some(self.labels.clone()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            data: Some(data),
            ..Secret::default()
        }
    }
}

/// The operator's, and that pods leave silent nodes soon.
fn tolerations(pods: &Pods) -> Vec<Toleration> {
    let silent = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(NODE_SILENT_SECONDS),
        ..Toleration::default()
    });
    pods.tolerations.iter().cloned().chain(silent).collect()
}

/// No second pod, whatever happened to the first: the next attempt is Kiln's to make.
fn failure_policy() -> PodFailurePolicy {
    let disrupted =
        PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".to_owned(), status: "True".to_owned() };
    let ended =
        PodFailurePolicyOnExitCodesRequirement { container_name: None, operator: "NotIn".to_owned(), values: vec![0] };
    let fail = |on_pod_conditions, on_exit_codes| PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes,
        on_pod_conditions,
    };
    PodFailurePolicy { rules: vec![fail(Some(vec![disrupted]), None), fail(None, Some(ended))] }
}

fn daemon(container: Container, profile: Profile) -> Container {
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    // It clips logs otherwise, and has no key for that. Kiln bounds logs itself.
    let unclipped = ["BUILDKIT_STEP_LOG_MAX_SIZE", "BUILDKIT_STEP_LOG_MAX_SPEED"].map(|name| EnvVar {
        name: name.to_owned(),
        value: Some("-1".to_owned()),
        ..EnvVar::default()
    });
    let port = ContainerPort {
        name: Some("buildkit".to_owned()),
        container_port: i32::from(daemon::PORT),
        ..ContainerPort::default()
    };
    let config = ["--config".to_owned(), format!("{DAEMON_FOLDER}/{}", daemon::CONFIG)];
    let (command, run, security) = match profile {
        Profile::Userns => {
            let guard = ["/bin/sh", "-c", GUARD, "guard", "buildkitd"].map(str::to_owned).to_vec();
            (Some(guard), "/run/buildkit", root_of_its_own())
        }
        Profile::Rootless => (None, "/run/user/1000", rootless()),
    };
    Container {
        command,
        args: Some(config.to_vec()),
        env: Some(unclipped.to_vec()),
        ports: Some(vec![port]),
        volume_mounts: Some(vec![
            mount("state", daemon::ROOT, false),
            mount("run", run, false),
            mount("files", DAEMON_FOLDER, true),
        ]),
        security_context: Some(security),
        ..container
    }
}

/// Root of a user namespace. Steps get a /proc of their own only where the pod's has nothing mounted over it.
fn root_of_its_own() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        proc_mount: Some("Unmasked".to_owned()),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        }),
        ..unconfined()
    }
}

fn rootless() -> SecurityContext {
    SecurityContext { run_as_user: Some(USER), run_as_group: Some(USER), run_as_non_root: Some(true), ..unconfined() }
}

/// Making namespaces, and mounts in them, is what the default profiles of seccomp and AppArmor forbid.
fn unconfined() -> SecurityContext {
    SecurityContext {
        seccomp_profile: Some(SeccompProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
        app_armor_profile: Some(AppArmorProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

fn canary(container: Container) -> Container {
    Container {
        command: Some(["/bin/sh", "-c", CANARY].map(str::to_owned).to_vec()),
        security_context: Some(SecurityContext {
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            run_as_non_root: Some(true),
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..SecurityContext::default()
        }),
        ..container
    }
}

#[cfg(test)]
mod tests;
