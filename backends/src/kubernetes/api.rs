//! Questions to the API server: each ends within a bound, and is asked again while that may help.

use std::{future::Future, time::Duration};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, PersistentVolumeClaim, Pod, Secret},
};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    config::{Access, AccountFiles, KubernetesConfig},
    trouble::Trouble,
};
use crate::{EngineError, buildkit::causes};

/// One answer; a healthy server takes milliseconds.
const ANSWER: Duration = Duration::from_secs(10);
/// One question with its repetitions. kube's own would go on for up to 1 000 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between repetitions, the first time and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// One namespace of a cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) jobs: Api<Job>,
    pub(super) pods: Api<Pod>,
    pub(super) secrets: Api<Secret>,
    pub(super) events: Api<Event>,
    pub(super) volumes: Api<PersistentVolumeClaim>,
    pub(super) client: Client,
    pub(super) namespace: String,
}

/// A cluster can't be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct NoAccess {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// How a question was not answered.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// There is no such object.
    Missing,
    /// There is one of that name already.
    Exists,
    /// The server said no.
    Refused { what: &'static str, status: u16, message: String },
    /// The server couldn't be reached, had no time, or failed, until the end.
    Unavailable { what: &'static str, cause: String },
}

impl Cluster {
    /// Reads what is needed to reach a cluster; doesn't connect.
    pub(super) async fn of(config: &KubernetesConfig) -> Result<Self, NoAccess> {
        let (client, own) = client(&config.access).await?;
        Ok(Self::new(client, config.namespace.clone().unwrap_or(own)))
    }

    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self {
            jobs: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            secrets: Api::namespaced(client.clone(), &namespace),
            events: Api::namespaced(client.clone(), &namespace),
            volumes: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
        }
    }
}

/// A client, and the namespace that is its own. Reads what is needed to reach the cluster; doesn't connect.
pub(super) async fn client(access: &Access) -> Result<(Client, String), NoAccess> {
    let mut config = match access {
        Access::InCluster(files) => in_cluster(files)?,
        Access::Kubeconfig { file, context } => {
            let what = format!("kubeconfig {}", file.display());
            let read = Kubeconfig::read_from(file).map_err(no_access(&what))?;
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(read, &options).await.map_err(no_access(&what))?
        }
    };
    config.default_retry = false;
    config.connect_timeout = Some(ANSWER);
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config).map_err(no_access("the cluster's client"))?, namespace))
}

/// Files of one's own take the place of the pod's; both are read again when the token is renewed.
fn in_cluster(AccountFiles { token_file, ca_file }: &AccountFiles) -> Result<Config, NoAccess> {
    let mut config = Config::incluster().map_err(no_access("the pod's service account"))?;
    if let Some(file) = token_file {
        config.auth_info.token_file = Some(file.display().to_string());
    }
    if let Some(file) = ca_file {
        let what = format!("the cluster's CA {}", file.display());
        let authorities = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let authorities = authorities.map_err(no_access(&what))?;
        config.root_cert = Some(authorities.iter().map(|authority| authority.to_vec()).collect());
    }
    Ok(config)
}

pub(super) fn no_access<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &str) -> impl FnOnce(E) -> NoAccess {
    move |source| NoAccess { what: what.to_owned(), source: source.into() }
}

/// Asks until there is an answer that repeating wouldn't change. `what` completes "could not …".
pub(super) async fn ask<T, F>(what: &'static str, mut question: impl FnMut() -> F) -> Result<T, Unanswered>
where
    F: Future<Output = kube::Result<T>>,
{
    let end = Instant::now() + PATIENCE;
    let mut pause = PAUSE.0;
    loop {
        // On the heap: objects and kube's futures are large, and this is inside of many others.
        let answer = timeout_at(end.min(Instant::now() + ANSWER), Box::pin(question())).await;
        let cause = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => judge(what, &error)?,
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(what, cause, "the API server is asked again");
        if Instant::now() + pause >= end {
            return Err(Unanswered::Unavailable { what, cause });
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// What to make of an error: the words, if asking again may help.
fn judge(what: &'static str, error: &kube::Error) -> Result<String, Unanswered> {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => Err(Unanswered::Missing),
            409 if status.reason == "AlreadyExists" => Err(Unanswered::Exists),
            // There is another one of that name.
            409 if status.message.contains("Precondition failed") => Err(Unanswered::Missing),
            // A conflict with another writer passes by itself.
            409 | 429 | 500.. => Ok(format!("{} {}", status.code, status.message)),
            code => Err(Unanswered::Refused { what, status: code, message: status.message.clone() }),
        },
        other => Ok(causes(other)),
    }
}

impl From<Unanswered> for EngineError {
    fn from(unanswered: Unanswered) -> Self {
        let endpoint = || "the cluster's API server".to_owned();
        match unanswered {
            Unanswered::Unavailable { what, cause } => {
                Self::Unreachable { endpoint: endpoint(), cause: format!("could not {what}: {cause}") }
            }
            Unanswered::Refused { message, .. } if message.contains("exceeded quota") => {
                Self::Pod(Trouble::Quota(message))
            }
            Unanswered::Refused { what, status: 401 | 403, message } => Self::Unfit(format!(
                "Kiln may not {what} there ({message}); give its service account the Role in deploy"
            )),
            Unanswered::Refused { what, status, message } => {
                Self::Protocol(format!("{status} to the question to {what}: {message}"))
            }
            Unanswered::Missing => Self::Pod(Trouble::Deleted),
            Unanswered::Exists => Self::Protocol("that an object of a new name exists already".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
