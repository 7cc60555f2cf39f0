//! What a cluster keeps for others than builds: an annotation, a Secret. Read when asked for, with nothing kept here.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use secrecy::SecretSlice;

use super::{
    api::{NoAccess, Unanswered, ask, client},
    config::Access,
};
use crate::EngineError;

/// A namespace's ConfigMaps and Secrets, by name; the service account needs `get` on those that are asked for.
#[derive(Clone)]
pub struct Objects {
    config_maps: Api<ConfigMap>,
    secrets: Api<Secret>,
    namespace: String,
}

/// A Secret.
pub struct FoundSecret {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its entries.
    pub data: BTreeMap<String, SecretSlice<u8>>,
}

impl Objects {
    /// Those of a namespace, the access's own if `None`; doesn't connect.
    ///
    /// # Errors
    /// When the kubeconfig or the service account can't be read.
    pub async fn of(access: &Access, namespace: Option<&str>) -> Result<Self, NoAccess> {
        let (client, own) = client(access).await?;
        let namespace = namespace.map_or(own, str::to_owned);
        Ok(Self {
            config_maps: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client, &namespace),
            namespace,
        })
    }

    /// An annotation of a ConfigMap; `None` if there is no such ConfigMap, or it hasn't that one.
    ///
    /// # Errors
    /// When the cluster refuses the question, or doesn't answer within 30 s.
    pub async fn annotation(&self, config_map: &str, name: &str) -> Result<Option<String>, EngineError> {
        let found = found(ask("read a ConfigMap", || self.config_maps.get(config_map)).await)?;
        Ok(found.and_then(|found| found.metadata.annotations).and_then(|mut all| all.remove(name)))
    }

    /// A Secret, if there is one of that name.
    ///
    /// # Errors
    /// As for [`Self::annotation`].
    pub async fn secret(&self, name: &str) -> Result<Option<FoundSecret>, EngineError> {
        let found = found(ask("read a Secret", || self.secrets.get(name)).await)?;
        Ok(found.map(|secret| FoundSecret {
            labels: secret.metadata.labels.unwrap_or_default(),
            data: secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0.into())).collect(),
        }))
    }
}

fn found<T>(answer: Result<T, Unanswered>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(Unanswered::Missing) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl fmt::Debug for FoundSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundSecret").field("labels", &self.labels).finish_non_exhaustive()
    }
}
