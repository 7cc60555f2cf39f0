//! Where a caller's image goes, and with whose credentials.
//!
//! The host is the first non-blank of: `REGISTRY_HOST` of the process, `REGISTRY_HOST` of the user,
//! the cluster's annotation, [`DEFAULT_HOST`]. A credential goes to the host it was given for and to
//! no other: the operator's to the operator's host, the user's to the one that the user named.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    cluster::Cluster,
    credentials::Credential,
    docker_config::{CredentialError, DockerConfig},
    host::{Host, InvalidHost, NamedHost},
    manner::Manner,
    table::Registries,
};

/// The registry that OpenServerless has in its cluster; speaks plain HTTP there.
pub(super) const DEFAULT_HOST: &str = "nuvolaris-registry-svc:5000";

/// The operator's settings: `[registry]` in the configuration, and the replaced systems' variables.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessRegistry {
    /// Where images go, `[http[s]://]host[:port]`; also `REGISTRY_HOST`. Wins over what users name.
    pub host: Option<String>,
    /// A Docker `config.json` or the folder that has it, read at each use so that it can be rotated;
    /// also `DOCKER_CONFIG`.
    pub docker_config: Option<PathBuf>,
    /// The folder to look into where `docker_config` isn't set; it needn't be there.
    #[serde(skip)]
    pub docker_config_of_home: Option<PathBuf>,
    /// Lets registries that a request names, and `[registries]` doesn't, show any certificate, or speak
    /// plain HTTP where they speak no TLS.
    pub insecure: bool,
    /// A file with `user:password` for `host`; wins over `docker_config`.
    pub push_secret_file: Option<PathBuf>,
    /// Registries that users may name although their addresses aren't public: `host[:port]`, where
    /// `*` stands for any characters. All others are reached at public addresses only.
    pub allowed_user_registries: Vec<String>,
    /// `REGISTRY_PUSH_SECRET`: `user:password`, or the name of a Secret of the cluster.
    #[serde(skip)]
    pub push_secret: Option<SecretString>,
    /// Has a cluster asked; what it says is in `of_cluster` then.
    pub cluster: Option<Cluster>,
    /// The cluster's word.
    #[serde(skip)]
    pub of_cluster: Option<Arc<dyn ClusterRegistry>>,
}

/// Where an image goes.
#[derive(Clone, Debug)]
pub struct Push {
    /// The registry.
    pub host: Host,
    /// How it is spoken to: by the table, else plain HTTP where the setting that named it says so.
    pub manner: Manner,
    /// What to show it; `None` is anonymous.
    pub credential: Option<Credential>,
}

/// A Secret of the cluster, and who named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterSecret {
    /// Named by the operator: any will do.
    Operators(String),
    /// Named by the user: only one that is labelled for the purpose or owned by them.
    Users(String),
}

/// What a cluster knows of registries.
#[async_trait]
pub trait ClusterRegistry: std::fmt::Debug + Send + Sync {
    /// The annotation `registry_host` of the ConfigMap `config`, as it was at the start.
    fn registry_host(&self) -> Option<&str>;

    /// The credential for `host` out of a Secret.
    ///
    /// # Errors
    /// When there is no such Secret, it may not be used, or it can't be read: one sentence.
    async fn credential(&self, secret: &ClusterSecret, host: &Host) -> Result<Option<Credential>, String>;
}

/// There is no destination.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// A setting names no registry.
    #[error("REGISTRY_HOST of {whose}: {source}")]
    Host {
        /// Whose setting.
        whose: &'static str,
        /// What is wrong with it.
        source: InvalidHost,
    },
    /// A user's secret is neither a pair nor the name of a Secret.
    #[error("REGISTRY_SECRET is neither user:password nor the name of a Secret")]
    Secret,
    /// The name of a Secret, where there is no cluster.
    #[error("{setting} names a Secret of a cluster, and no cluster is configured; set it to user:password")]
    NoCluster {
        /// The setting.
        setting: &'static str,
    },
    /// The cluster didn't give the Secret.
    #[error("the registry's Secret can't be used: {0}")]
    Cluster(String),
    /// The operator's credential can't be had.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// Where the image goes, and where its credential is to be found.
#[derive(Debug)]
struct Choice {
    named: NamedHost,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Given(Credential),
    Cluster(ClusterSecret),
    Operators,
    Nobodys,
}

/// Decides where a user's images go. `user` is the user's environment.
///
/// # Errors
/// See [`DestinationError`].
pub async fn destination(
    process: &ProcessRegistry,
    registries: &Registries,
    user: &BTreeMap<String, String>,
) -> Result<Push, DestinationError> {
    let Choice { named: NamedHost { host, plain_http }, source } = choose(process, user, process.annotation())?;
    let credential = match source {
        Source::Given(credential) => Some(credential),
        Source::Operators => process.credential(&host).await?,
        Source::Nobodys => None,
        Source::Cluster(secret) => match &process.of_cluster {
            Some(cluster) => cluster.credential(&secret, &host).await.map_err(DestinationError::Cluster)?,
            None => return Err(DestinationError::NoCluster { setting: secret.setting() }),
        },
    };
    let explicit = registries.get(&host).and_then(|settings| settings.plain_http);
    let plain_http = explicit.unwrap_or(plain_http || host.is_loopback() || host.as_str() == DEFAULT_HOST);
    let manner = Manner { plain_http, skip_verify: registries.skip_verify(&host) };
    Ok(Push { host, manner, credential })
}

/// The decision itself, without a look at anything outside.
fn choose(
    process: &ProcessRegistry,
    user: &BTreeMap<String, String>,
    annotation: Option<&str>,
) -> Result<Choice, DestinationError> {
    let parse = |text, whose| NamedHost::parse(text).map_err(|source| DestinationError::Host { whose, source });
    let users_host = non_blank(user.get("REGISTRY_HOST").map(String::as_str));
    let operators = match (non_blank(process.host.as_deref()), non_blank(annotation)) {
        (Some(host), _) => parse(host, "the process")?,
        (None, Some(host)) => parse(host, "the cluster's ConfigMap")?,
        (None, None) => NamedHost::parse(DEFAULT_HOST)
            .map_err(|source| DestinationError::Host { whose: "the installation", source })?,
    };
    let named = match users_host {
        Some(host) if non_blank(process.host.as_deref()).is_none() => parse(host, "the user")?,
        _ => operators.clone(),
    };
    // A secret belongs to the host that was named along with it; one that came alone, to wherever images go.
    let secret_is_for_it = users_host.is_none_or(|text| NamedHost::parse(text).is_ok_and(|own| own.host == named.host));
    let users_secret = non_blank(user.get("REGISTRY_SECRET").map(String::as_str)).filter(|_| secret_is_for_it);
    let source = match (users_secret, &process.push_secret) {
        (Some(secret), _) if secret.contains(':') => {
            Source::Given(Credential::from_pair(secret).ok_or(DestinationError::Secret)?)
        }
        (Some(name), _) => Source::Cluster(ClusterSecret::Users(name.to_owned())),
        // The operator's credentials follow the operator's host, not the one a user names.
        (None, _) if named.host != operators.host => Source::Nobodys,
        (None, Some(secret)) => match Credential::from_pair(secret.expose_secret()) {
            Some(credential) => Source::Given(credential),
            None => Source::Cluster(ClusterSecret::Operators(secret.expose_secret().to_owned())),
        },
        (None, None) => Source::Operators,
    };
    Ok(Choice { named, source })
}

fn non_blank(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

impl ClusterSecret {
    fn setting(&self) -> &'static str {
        match self {
            Self::Operators(_) => "REGISTRY_PUSH_SECRET",
            Self::Users(_) => "REGISTRY_SECRET",
        }
    }
}

impl ProcessRegistry {
    /// Which registry this user's images go to.
    ///
    /// # Errors
    /// When a setting names no registry, or a Secret that only a cluster has.
    pub fn push_host(&self, user: &BTreeMap<String, String>) -> Result<Host, DestinationError> {
        let Choice { named, source } = choose(self, user, self.annotation())?;
        match source {
            Source::Cluster(secret) if self.of_cluster.is_none() => {
                Err(DestinationError::NoCluster { setting: secret.setting() })
            }
            _ => Ok(named.host),
        }
    }

    /// Whether there may be a credential of the operator's, which is valid for everybody's repositories.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.docker_config.is_some() || self.push_secret_file.is_some() || self.push_secret.is_some()
    }

    /// Whether images may be pushed to `host` with a credential of the operator's: one that can't be read may
    /// be read again later.
    pub(crate) async fn may_open(&self, host: &Host) -> bool {
        self.push_secret.is_some() || !matches!(self.credential(host).await, Ok(None))
    }

    /// Lays the replaced systems' variables over what the file says; blank ones count as unset.
    pub fn read_variables(&mut self, variables: &BTreeMap<String, String>) {
        let value = |name: &str| non_blank(variables.get(name).map(String::as_str));
        if let Some(host) = value("REGISTRY_HOST") {
            self.host = Some(host.to_owned());
        }
        if let Some(path) = value("DOCKER_CONFIG") {
            self.docker_config = Some(path.into());
        }
        if let Some(secret) = value("REGISTRY_PUSH_SECRET") {
            self.push_secret = Some(secret.into());
        }
    }

    fn annotation(&self) -> Option<&str> {
        self.of_cluster.as_ref().and_then(|cluster| cluster.registry_host())
    }

    /// The host that the operator has set, here or in the cluster.
    pub(super) fn named_host(&self) -> Result<Option<NamedHost>, InvalidHost> {
        non_blank(self.host.as_deref()).or(non_blank(self.annotation())).map(NamedHost::parse).transpose()
    }

    /// The operator's own credential for `host`, for bases as for pushes.
    ///
    /// # Errors
    /// When a file or a credential helper fails; having none is no error.
    pub async fn credential(&self, host: &Host) -> Result<Option<Credential>, CredentialError> {
        let own = self.named_host().ok().flatten().is_some_and(|own| own.host == *host);
        if let Some(path) = self.push_secret_file.as_ref().filter(|_| own) {
            let unreadable = |source| CredentialError::Unreadable { path: path.clone(), source };
            let pair = SecretString::from(tokio::fs::read_to_string(path).await.map_err(unreadable)?);
            let pair = pair.expose_secret().trim_end_matches(['\r', '\n']);
            return match Credential::from_pair(pair) {
                Some(credential) => Ok(Some(credential)),
                None => Err(CredentialError::NoPair { path: path.clone() }),
            };
        }
        let of_home = || self.docker_config_of_home.as_ref().filter(|folder| folder.is_dir());
        match self.docker_config.as_ref().or_else(of_home) {
            Some(path) => DockerConfig::read(path).await?.credential(host).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        process: (&'static str, &'static str),
        user: (&'static str, &'static str),
        annotation: &'static str,
        goes: &'static str,
    }

    fn decide(case: &Case) -> String {
        let mut process = ProcessRegistry { host: Some(case.process.0.to_owned()), ..ProcessRegistry::default() };
        if !case.process.1.is_empty() {
            process.push_secret = Some(case.process.1.into());
        }
        let user = BTreeMap::from(
            [("REGISTRY_HOST", case.user.0), ("REGISTRY_SECRET", case.user.1)]
                .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        match choose(&process, &user, Some(case.annotation)) {
            Err(error) => error.to_string().split(':').next().unwrap_or_default().to_owned(),
            Ok(Choice { named, source }) => {
                let source = match source {
                    Source::Given(Credential::Password { username, password }) => {
                        format!("{username}:{}", password.expose_secret())
                    }
                    Source::Given(Credential::IdentityToken(_)) => "token".to_owned(),
                    Source::Cluster(ClusterSecret::Operators(name)) => format!("operator's secret {name}"),
                    Source::Cluster(ClusterSecret::Users(name)) => format!("user's secret {name}"),
                    Source::Operators => "operator's".to_owned(),
                    Source::Nobodys => "nobody's".to_owned(),
                };
                format!("{} {source}", named.host)
            }
        }
    }

    #[test]
    fn each_credential_goes_to_its_own_host_only() {
        for case in [
            Case { process: ("", ""), user: ("", ""), annotation: "", goes: "nuvolaris-registry-svc:5000 operator's" },
            Case {
                process: (" ", ""),
                user: (" ", " "),
                annotation: " ",
                goes: "nuvolaris-registry-svc:5000 operator's",
            },
            Case { process: ("", ""), user: ("", ""), annotation: "c", goes: "c operator's" },
            Case { process: ("p", ""), user: ("", ""), annotation: "c", goes: "p operator's" },
            Case { process: ("p", "o:w"), user: ("", ""), annotation: "", goes: "p o:w" },
            Case { process: ("p", "name"), user: ("", ""), annotation: "", goes: "p operator's secret name" },
            // A user's own host, where the operator set none.
            Case { process: ("", ""), user: ("u", ""), annotation: "c", goes: "u nobody's" },
            Case { process: ("", "o:w"), user: ("u", ""), annotation: "", goes: "u nobody's" },
            Case { process: ("", "o:w"), user: ("u", "a:b:c"), annotation: "", goes: "u a:b:c" },
            Case { process: ("", ""), user: ("http://u:5000/", "a:b"), annotation: "", goes: "u:5000 a:b" },
            Case { process: ("", "o:w"), user: ("c", ""), annotation: "c", goes: "c o:w" },
            Case { process: ("", ""), user: ("u", "name"), annotation: "", goes: "u user's secret name" },
            // The operator's host wins; the user's secret goes there only if it was meant for it.
            Case { process: ("p", "o:w"), user: ("u", "a:b"), annotation: "", goes: "p o:w" },
            Case { process: ("p", ""), user: ("u", "name"), annotation: "", goes: "p operator's" },
            Case { process: ("p", "o:w"), user: ("p", "a:b"), annotation: "", goes: "p a:b" },
            Case { process: ("https://p", "o:w"), user: ("P", "a:b"), annotation: "", goes: "p a:b" },
            Case { process: ("p", "o:w"), user: ("", "a:b"), annotation: "", goes: "p a:b" },
            // What can't be read is said.
            Case { process: ("", ""), user: ("a/b", ""), annotation: "", goes: "REGISTRY_HOST of the user" },
            Case { process: ("a/b", ""), user: ("", ""), annotation: "", goes: "REGISTRY_HOST of the process" },
            Case { process: ("", ""), user: ("", ":b"), annotation: "", goes: "REGISTRY_SECRET is neither user" },
        ] {
            assert_eq!(decide(&case), case.goes, "process {:?}, user {:?}", case.process, case.user);
        }
    }

    #[tokio::test]
    async fn a_secrets_name_needs_a_cluster() {
        let user = BTreeMap::from([("REGISTRY_SECRET".to_owned(), "mine".to_owned())]);
        let error = destination(&ProcessRegistry::default(), &Registries::default(), &user).await.unwrap_err();
        assert!(error.to_string().starts_with("REGISTRY_SECRET names a Secret of a cluster"), "{error}");
    }

    #[tokio::test]
    async fn the_table_decides_on_plain_http_before_any_hint() {
        for (host, table, plain) in [
            ("http://reg:5000", "", true),
            ("https://reg:5000", "", false),
            ("http://reg:5000", "['reg:5000']\nplain_http = false", false),
            ("reg:5000", "['reg:5000']\nplain_http = true", true),
            ("127.0.0.1:5000", "", true),
            ("", "", true),
        ] {
            let process = ProcessRegistry { host: Some(host.to_owned()), ..ProcessRegistry::default() };
            let table: Registries = toml::from_str(table).unwrap();
            let push = destination(&process, &table, &BTreeMap::new()).await.unwrap();
            assert_eq!(push.manner.plain_http, plain, "{host}");
        }
    }
}
