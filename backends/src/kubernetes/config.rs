//! What an operator sets of builds in a cluster.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use serde::Deserialize;

use crate::{InstanceId, Limits};

/// How a cluster is reached, and what build pods are like in it.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// Whose Jobs in the cluster are this installation's.
    pub instance: InstanceId,
    /// How the API server is reached.
    pub access: Access,
    /// Where the Jobs are made; the access's own namespace if `None`.
    pub namespace: Option<String>,
    /// How Kiln gets to the daemons.
    pub reach: Reach,
    /// How daemons are kept from being root on their nodes; chosen by trying if `None`.
    pub profile: Option<Profile>,
    /// How daemons keep layers.
    pub snapshotter: Snapshotter,
    /// What pods are made of, and where they run.
    pub pods: Pods,
    /// How long a pod may take from its Job's creation to a daemon that answers.
    pub start_deadline: Duration,
    /// The pods that are ready before there is a build for them.
    pub warm: Warm,
    /// The volumes on which owners' layers outlive their daemons.
    pub caches: Caches,
    /// What daemons know of registries.
    pub registries: DaemonRegistries,
    /// Whether sessions may hand out a push credential that is valid for other owners' repositories,
    /// too, and whether that is accepted where steps can read it.
    pub shared_credential: SharedCredential,
}

/// How the cluster's API server is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// By the service account of the pod in which Kiln runs.
    InCluster(AccountFiles),
    /// By a kubeconfig, for development.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// The context in it; its current one if `None`.
        context: Option<String>,
    },
}

/// Where a service account's files are, if not where pods have them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountFiles {
    /// The token, read again as it is renewed.
    pub token_file: Option<PathBuf>,
    /// The API server's authorities, PEM.
    pub ca_file: Option<PathBuf>,
}

/// How Kiln gets to a daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// At its pod's address.
    PodIp,
    /// Through the API server, for development.
    PortForward,
}

/// How a daemon that makes containers is kept from being root on its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// The pod has a user namespace of its own, in which the daemon is root.
    Userns,
    /// The daemon is an ordinary user that makes a user namespace itself. Its steps can read its memory.
    Rootless,
}

/// How a daemon keeps layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshotter {
    /// The first of the others that works, by the daemon's own trial.
    #[default]
    Auto,
    /// The kernel's overlay file system, in the user namespace.
    Overlayfs,
    /// An overlay file system in user space; the node must give the pod `/dev/fuse`.
    FuseOverlayfs,
    /// Plain copies.
    Native,
}

/// What build pods are made of, and where they run. Each key is as in a pod's spec.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// The image of daemons with the profile `userns`: it has `buildkitd`, runc, CNI plugins and a `/bin/sh`.
    pub image: String,
    /// The image of daemons with the profile `rootless`: it starts `rootlesskit buildkitd` as its user 1000.
    pub rootless_image: String,
    /// The Secrets with which the image is pulled.
    pub image_pull_secrets: Vec<String>,
    /// The service account; none of its tokens comes into the pod.
    pub service_account: Option<String>,
    /// The labels that nodes must have.
    pub node_selector: BTreeMap<String, String>,
    /// The taints that pods bear.
    pub tolerations: Vec<Toleration>,
    /// The nodes that pods want, or must have.
    pub affinity: Option<Affinity>,
    /// The runtime that isolates them.
    pub runtime_class: Option<String>,
    /// Who goes before whom.
    pub priority_class: Option<String>,
    /// What a pod asks for of what its build's size class doesn't bound.
    pub requests: Requests,
}

/// What is set aside for a pod on its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requests {
    /// Thousandths of a processor.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub storage: u64,
}

/// Pods that are ready before there is a build for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Warm {
    /// How many; beside those of builds that run.
    pub pods: usize,
    /// What the builds are bounded by that they are for; others get pods of their own.
    pub limits: Limits,
    /// How long one waits before another takes its place.
    pub age: Duration,
}

/// Volumes on which owners' layers outlive their daemons. A daemon that has one has no bound of its build's size class
/// on its disk, but the volume's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caches {
    /// At most so many, one for each owner; 0 turns them off and deletes those that there are.
    pub volumes: usize,
    /// The size of each, bytes. Daemons keep to four fifths of it between builds.
    pub size: u64,
    /// What provides them; the cluster's default if `None`. For user namespaces it takes a file system that knows
    /// idmapped mounts.
    pub storage_class: Option<String>,
    /// How long one is kept that no build uses.
    pub age: Duration,
}

/// What daemons know of registries: lines of `buildkitd.toml`, and the files that they name.
#[derive(Clone, Debug, Default)]
pub struct DaemonRegistries {
    /// The `[registry."…"]` tables.
    pub toml: String,
    /// Certificates of authorities by their name in [`DAEMON_FOLDER`].
    pub authorities: BTreeMap<String, Vec<u8>>,
}

/// Whether a push credential is valid beyond the build that it was given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SharedCredential {
    /// There is none.
    #[default]
    None,
    /// There is one, and steps must not be able to read it.
    Guarded,
    /// There is one, and the operator accepts that steps could.
    Accepted,
}

/// Where a daemon finds its configuration and certificates.
pub const DAEMON_FOLDER: &str = "/etc/kiln";

// === impl Profile ===

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Userns => "userns",
            Self::Rootless => "rootless",
        })
    }
}

// === impl Snapshotter ===

impl Snapshotter {
    /// As the daemon calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Overlayfs => "overlayfs",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Native => "native",
        }
    }
}

// === impl Requests ===

impl Default for Requests {
    /// A quarter of a processor, half a gibibyte, and disk for a base and its layers.
    fn default() -> Self {
        Self { cpu_millis: 250, memory: 512 << 20, storage: 2 << 30 }
    }
}
