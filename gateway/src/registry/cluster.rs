//! What a cluster says of registries: the host by an annotation, credentials by Secrets that are permitted for that.

use async_trait::async_trait;
use kiln_backends::kubernetes::{Access, FoundSecret, NoAccess, Objects};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{
    credentials::Credential,
    destination::{ClusterRegistry, ClusterSecret},
    docker_config::DockerConfig,
    host::Host,
};

/// The annotation that names the registry.
const ANNOTATION: &str = "registry_host";
/// What a Secret carries that users may name as their `REGISTRY_SECRET`: any other would be handed to whoever knows its name.
const PERMITS: (&str, &str) = ("kiln/registry-secret", "true");
/// Of a Secret of type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// `[registry.cluster]`: the table, even if empty, has the cluster asked that `[engine.kubernetes]` names, or the one
/// around Kiln.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Where ConfigMap and Secrets are; Kiln's own namespace, or the context's, if unset.
    pub namespace: Option<String>,
    /// The ConfigMap whose annotation `registry_host` names the registry. It is read at the start.
    pub config_map: String,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { namespace: None, config_map: "config".to_owned() }
    }
}

/// A cluster's word on registries.
#[derive(Clone, Debug)]
pub struct ClusterObjects {
    host: Option<String>,
    objects: Objects,
}

/// A cluster can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// It can't be reached as configured.
    #[error(transparent)]
    Access(#[from] NoAccess),
    /// It refused, or didn't answer.
    #[error("the annotation {ANNOTATION} of the ConfigMap {config_map:?}")]
    Annotation {
        /// The ConfigMap.
        config_map: String,
        /// What the cluster said.
        source: kiln_backends::EngineError,
    },
}

impl ClusterObjects {
    /// Asks for the host.
    ///
    /// # Errors
    /// When the cluster can't be asked; that it names none is no error.
    pub async fn read(settings: &Cluster, access: &Access) -> Result<Self, Unasked> {
        let objects = Objects::of(access, settings.namespace.as_deref()).await?;
        let host = objects.annotation(&settings.config_map, ANNOTATION).await;
        let unread = |source| Unasked::Annotation { config_map: settings.config_map.clone(), source };
        Ok(Self { host: host.map_err(unread)?, objects })
    }
}

#[async_trait]
impl ClusterRegistry for ClusterObjects {
    fn registry_host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    async fn credential(&self, secret: &ClusterSecret, host: &Host) -> Result<Option<Credential>, String> {
        let (ClusterSecret::Operators(name) | ClusterSecret::Users(name)) = secret;
        // To a user, one that isn't theirs to name is one that isn't there.
        let none = || format!("there is no Secret {name:?} with the label {}={}", PERMITS.0, PERMITS.1);
        let found = match self.objects.secret(name).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(secret = name, error = crate::serve::causes(&error), "a Secret was not read");
                return Err("the cluster doesn't say".to_owned());
            }
        };
        match (secret, found) {
            (ClusterSecret::Operators(_), None) => Err(format!("there is no Secret {name:?}")),
            (ClusterSecret::Operators(_), Some(found)) => credential(name, &found, host).await,
            (ClusterSecret::Users(_), Some(found)) if permitted(&found) => credential(name, &found, host).await,
            (ClusterSecret::Users(_), _) => Err(none()),
        }
    }
}

fn permitted(secret: &FoundSecret) -> bool {
    secret.labels.get(PERMITS.0).is_some_and(|value| value == PERMITS.1)
}

async fn credential(name: &str, secret: &FoundSecret, host: &Host) -> Result<Option<Credential>, String> {
    let Some(config) = secret.data.get(DOCKER_CONFIG) else {
        return Err(format!("the Secret {name:?} has no {DOCKER_CONFIG}"));
    };
    let config = DockerConfig::of_auths(config.expose_secret());
    // What the parser says may quote a secret.
    let config = config.ok_or_else(|| format!("{DOCKER_CONFIG} of the Secret {name:?} is none of Docker's"))?;
    config.credential(host).await.map_err(|error| error.to_string())
}
