//! `[engine.kubernetes]`: builds in a cluster, each with a daemon of its own.

use std::{collections::BTreeMap, num::NonZeroU64, path::PathBuf, time::Duration};

use kiln_backends::{
    InstanceId, KubernetesConfig, Limits,
    kubernetes::{
        Access, AccountFiles, Affinity, Caches, DaemonRegistries, Pods, Profile, Reach, Requests, SharedCredential,
        Snapshotter, Toleration, Warm,
    },
};
use serde::Deserialize;

use super::time::duration;

/// BuildKit's own.
const IMAGE: &str = "docker.io/moby/buildkit:v0.33.1";
const ROOTLESS_IMAGE: &str = "docker.io/moby/buildkit:v0.33.1-rootless";

/// Some bases and the layers of a dozen builds on them.
const CACHE_SIZE: NonZeroU64 = NonZeroU64::new(10 << 30).unwrap();

/// Builds in a cluster. The table turns them on, even if it is empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// The cluster, for development; by the service account of Kiln's own pod if unset.
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one if unset.
    pub context: Option<String>,
    /// The service account's token, if not where pods have it; also `KUBERNETES_TOKEN_FILENAME`.
    pub token_file: Option<PathBuf>,
    /// The API server's authorities, if not where pods have them; also `KUBERNETES_CERT_FILENAME`.
    pub ca_file: Option<PathBuf>,
    /// Where Jobs are made; Kiln's own, or the context's, if unset.
    pub namespace: Option<String>,
    /// How daemons are reached; through the API server where there is a kubeconfig, if unset.
    pub reach: Option<Reach>,
    /// How daemons are kept from being root on their nodes; chosen by trying if unset.
    pub profile: Option<Profile>,
    /// Accepts `rootless`, whose steps can read what their daemon knows, beside a push credential that is valid for
    /// everybody's repositories.
    pub accept_shared_credential: bool,
    /// How daemons keep layers.
    pub snapshotter: Snapshotter,
    /// The daemons' image for `userns`: it has `buildkitd`, runc, CNI plugins and a `/bin/sh`.
    pub image: String,
    /// The daemons' image for `rootless`: it starts `rootlesskit buildkitd` as its user 1000.
    pub rootless_image: String,
    /// How long a pod may take until its daemon answers.
    #[serde(deserialize_with = "duration")]
    pub start_deadline: Duration,
    /// Pods that are kept ready for builds of the default size, beside those of running builds.
    pub warm_pods: usize,
    /// How long a pod is kept ready before another takes its place.
    #[serde(deserialize_with = "duration")]
    pub warm_age: Duration,
    /// Volumes for owners' layers, at most so many; none unless set.
    pub cache_volumes: usize,
    /// The size of each, bytes.
    pub cache_size: NonZeroU64,
    /// What provides them; the cluster's default if unset.
    pub cache_storage_class: Option<String>,
    /// How long a volume is kept that no build uses.
    #[serde(deserialize_with = "duration")]
    pub cache_age: Duration,
    /// Thousandths of a processor that a pod asks for.
    pub request_cpu_millis: u32,
    /// Memory that a pod asks for where its size class sets none, bytes.
    pub request_memory: u64,
    /// Disk that a pod asks for where its size class sets none, bytes.
    pub request_storage: u64,
    /// Secrets with which the image is pulled.
    pub image_pull_secrets: Vec<String>,
    /// The pods' service account.
    pub service_account: Option<String>,
    /// As in a pod's spec.
    pub node_selector: BTreeMap<String, String>,
    /// As in a pod's spec.
    pub tolerations: Vec<Toleration>,
    /// As in a pod's spec.
    pub affinity: Option<Affinity>,
    /// As in a pod's spec.
    pub runtime_class: Option<String>,
    /// As in a pod's spec.
    pub priority_class: Option<String>,
}

impl Default for Kubernetes {
    fn default() -> Self {
        let Requests { cpu_millis, memory, storage } = Requests::default();
        Self {
            kubeconfig: None,
            context: None,
            token_file: None,
            ca_file: None,
            namespace: None,
            reach: None,
            profile: None,
            accept_shared_credential: false,
            snapshotter: Snapshotter::default(),
            image: IMAGE.to_owned(),
            rootless_image: ROOTLESS_IMAGE.to_owned(),
            start_deadline: Duration::from_secs(120),
            warm_pods: 0,
            warm_age: Duration::from_secs(1800),
            cache_volumes: 0,
            cache_size: CACHE_SIZE,
            cache_storage_class: None,
            cache_age: Duration::from_secs(7 * 24 * 3600),
            request_cpu_millis: cpu_millis,
            request_memory: memory,
            request_storage: storage,
            image_pull_secrets: Vec::new(),
            service_account: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            runtime_class: None,
            priority_class: None,
        }
    }
}

impl Kubernetes {
    /// How the cluster is reached.
    #[must_use]
    pub fn access(&self) -> Access {
        match &self.kubeconfig {
            Some(file) => Access::Kubeconfig { file: file.clone(), context: self.context.clone() },
            None => {
                let (token_file, ca_file) = (self.token_file.clone(), self.ca_file.clone());
                Access::InCluster(AccountFiles { token_file, ca_file })
            }
        }
    }

    /// The engine's settings. `shares_credential` tells whether sessions may hand out a push credential that is valid
    /// for everybody's repositories; `of_most` is what most builds are bounded by.
    #[must_use]
    pub fn engine(
        &self,
        instance: InstanceId,
        registries: DaemonRegistries,
        shares_credential: bool,
        of_most: Limits,
    ) -> KubernetesConfig {
        let this = self.clone();
        let access = self.access();
        let usual = if this.kubeconfig.is_none() { Reach::PodIp } else { Reach::PortForward };
        KubernetesConfig {
            instance,
            access,
            namespace: this.namespace,
            reach: this.reach.unwrap_or(usual),
            profile: this.profile,
            snapshotter: this.snapshotter,
            start_deadline: this.start_deadline,
            warm: Warm { pods: this.warm_pods, limits: of_most, age: this.warm_age },
            caches: Caches {
                volumes: this.cache_volumes,
                size: this.cache_size.get(),
                storage_class: this.cache_storage_class,
                age: this.cache_age,
            },
            registries,
            shared_credential: match (shares_credential, this.accept_shared_credential) {
                (false, _) => SharedCredential::None,
                (true, false) => SharedCredential::Guarded,
                (true, true) => SharedCredential::Accepted,
            },
            pods: Pods {
                image: this.image,
                rootless_image: this.rootless_image,
                image_pull_secrets: this.image_pull_secrets,
                service_account: this.service_account,
                node_selector: this.node_selector,
                tolerations: this.tolerations,
                affinity: this.affinity,
                runtime_class: this.runtime_class,
                priority_class: this.priority_class,
                requests: Requests {
                    cpu_millis: this.request_cpu_millis,
                    memory: this.request_memory,
                    storage: this.request_storage,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Kubernetes, toml::de::Error> {
        toml::from_str(text)
    }

    fn engine(text: &str, shares_credential: bool) -> KubernetesConfig {
        let deadline = Duration::from_secs(60);
        let usual =
            Limits { deadline, memory: None, cpu_millis: None, processes: None, storage: None, step_deadline: None };
        read(text).unwrap().engine(InstanceId(uuid::Uuid::nil()), DaemonRegistries::default(), shares_credential, usual)
    }

    #[test]
    fn an_empty_table_is_the_cluster_around_kiln() {
        let engine = engine("", false);
        assert_eq!((engine.access, engine.reach), (Access::InCluster(AccountFiles::default()), Reach::PodIp));
        assert_eq!((engine.profile, engine.start_deadline), (None, Duration::from_secs(120)));
        assert_eq!(engine.shared_credential, SharedCredential::None);
        assert_eq!((engine.warm.pods, engine.caches.volumes), (0, 0));
    }

    #[test]
    fn pods_are_placed_as_a_manifest_would_say_it() {
        let engine = engine(
            "kubeconfig = '/k'\nprofile = 'userns'\nsnapshotter = 'fuse-overlayfs'\nstart_deadline = '3m'\n\
             node_selector = { builds = 'yes' }\n\
             tolerations = [{ key = 'builds', operator = 'Exists', tolerationSeconds = 5 }]\n\
             [[affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution]]\nweight = 1\n\
             preference.matchExpressions = [{ key = 'disk', operator = 'In', values = ['ssd'] }]",
            true,
        );
        assert_eq!((engine.reach, engine.profile), (Reach::PortForward, Some(Profile::Userns)));
        assert_eq!(engine.shared_credential, SharedCredential::Guarded);
        let Pods { node_selector, tolerations, affinity, .. } = engine.pods;
        assert_eq!(node_selector["builds"], "yes");
        assert_eq!(tolerations[0].toleration_seconds, Some(5));
        let preferred = affinity.unwrap().node_affinity.unwrap();
        assert_eq!(preferred.preferred_during_scheduling_ignored_during_execution.unwrap()[0].weight, 1);
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for text in ["profile = 'privileged'", "reach = 'magic'", "kube_config = '/k'", "start_deadline = 'soon'"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
