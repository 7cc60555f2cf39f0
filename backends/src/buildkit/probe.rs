//! Proves what a daemon can do: its version, its workers, and that it obeys a source policy.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bollard_buildkit_proto::{
    moby::buildkit::v1::{
        InfoRequest, ListWorkersRequest,
        types::{BuildkitVersion, WorkerRecord},
    },
    pb::Platform,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    session::{Offers, Session},
    solve,
    transport::{Connection, Transport, words},
};
use crate::{
    BasicCredential, Capabilities, EngineError, RegistryAuth, RegistryToken, StepLimits, StepNetwork, TokenRefused,
    TokenRequest, Tree,
};

/// The oldest BuildKit that is accepted: older ones lack what keeps tenants apart, or have known
/// ways out of a build.
const FLOOR: (Version, &str) = (Version(0, 12, 5), "0.12.5");
/// Older ones have known faults that are mended here.
const ADVISED: (Version, &str) = (Version(0, 31, 1), "0.31.1");
/// From here on the Dockerfile frontend takes `memory` and `cpuquota`.
const LIMITING: Version = Version(0, 33, 0);
/// For all questions together; a busy daemon answers each in milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A version of BuildKit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Version(u32, u32, u32);

/// Asks a daemon everything.
pub(crate) async fn probe(transport: &Transport) -> Result<Capabilities, EngineError> {
    let asked = timeout(PATIENCE, async { ask(transport, transport.connect().await?).await });
    let mut capabilities = asked.await.map_err(|_| silent(transport))??;
    if capabilities.step_network == StepNetwork::Host {
        capabilities.warnings.push(
            "build steps use the engine's own network: they reach its loopback and everything it reaches; \
             give the worker networkMode = \"cni\" or \"bridge\""
                .to_owned(),
        );
    }
    Ok(capabilities)
}

/// Asks over a connection that there already is.
pub(crate) async fn probe_on(transport: &Transport, connection: Connection) -> Result<Capabilities, EngineError> {
    timeout(PATIENCE, ask(transport, connection)).await.map_err(|_| silent(transport))?
}

fn silent(transport: &Transport) -> EngineError {
    EngineError::Unreachable { endpoint: transport.to_string(), cause: "no answer in 20 s".to_owned() }
}

async fn ask(transport: &Transport, connection: Connection) -> Result<Capabilities, EngineError> {
    let workers = connection.control.clone().list_workers(ListWorkersRequest::default()).await;
    let refused = |status: tonic::Status| match std::error::Error::source(&status) {
        // With TLS 1.3 a client learns that its certificate was refused by its first call.
        Some(_) => EngineError::Unreachable { endpoint: transport.to_string(), cause: words(&status) },
        None => EngineError::Protocol(words(&status)),
    };
    let workers = workers.map_err(refused)?.into_inner().record;
    let worker = workers.first().ok_or_else(|| EngineError::Unfit("it has no worker".to_owned()))?;
    let found = version(&connection, worker).await?;
    let parsed = Version::parse(&found)
        .ok_or_else(|| EngineError::Protocol(format!("a version that can't be read: {found:?}")))?;
    // What Go's own tool built from source is 0.0.0; the proof below stands in for the number.
    let known = parsed > Version(0, 0, 0);
    if known && parsed < FLOOR.0 {
        return Err(EngineError::TooOld { engine: "BuildKit", found, floor: FLOOR.1 });
    }
    prove_policy(&connection).await?;

    let mut warnings = Vec::new();
    if !known {
        warnings.push(format!("BuildKit doesn't say its version; {} or newer is needed", FLOOR.1));
    } else if parsed < ADVISED.0 {
        warnings.push(format!("BuildKit {found} has known faults; {} or newer is advised", ADVISED.1));
    }
    let limits = parsed >= LIMITING;
    Ok(Capabilities {
        engine: "buildkitd".to_owned(),
        version: found,
        platforms: workers.iter().flat_map(|worker| &worker.platforms).map(platform).collect(),
        atomic_tag: true,
        indexes: true,
        keeps_cache: true,
        step_network: step_network(worker),
        // Nothing in a solve bounds the number of processes.
        step_limits: StepLimits { memory: limits, cpu: limits, processes: false },
        warnings,
    })
}

/// BuildKit's version; daemons before 0.11.3 know no `Info`, an embedded one may name none there.
async fn version(connection: &Connection, worker: &WorkerRecord) -> Result<String, EngineError> {
    let named = |version: &BuildkitVersion| Some(version.version.clone()).filter(|version| !version.is_empty());
    if let Some(version) = worker.buildkit_version.as_ref().and_then(named) {
        return Ok(version);
    }
    let info = connection.control.clone().info(InfoRequest {}).await;
    let info = info.map_err(|_| EngineError::TooOld {
        engine: "BuildKit",
        found: "of unknown version".to_owned(),
        floor: FLOOR.1,
    })?;
    Ok(info.into_inner().buildkit_version.as_ref().and_then(named).unwrap_or_default())
}

/// Solves what a policy denies: a daemon that drops the policy fails open, and is refused. Needs no
/// network: what is denied is the context itself.
async fn prove_policy(connection: &Connection) -> Result<(), EngineError> {
    let nothing = Tree::builder().file("Dockerfile", 0o644, b"FROM scratch\nCOPY Dockerfile /\n");
    let nothing = nothing.map_err(|e| EngineError::Protocol(e.to_string()))?.build();
    let offers =
        Offers { context_key: None, context: Arc::new(nothing), auth: Arc::new(Nobody), secrets: BTreeMap::new() };
    let session = Session::open(connection, offers).await?;
    let reference = format!("probe-{}", Uuid::new_v4().simple());
    let solved = connection.control.clone().solve(solve::denied(reference, session.id())).await;
    session.close().await;
    match solved {
        Err(status) if status.message().contains("denied by policy") => Ok(()),
        Err(status) => Err(EngineError::Protocol(format!("{:?} to a solve that must be denied", status.message()))),
        Ok(_) => Err(EngineError::Unfit(
            "it ignores source policies, so a build could fetch anything, other tenants' images too".to_owned(),
        )),
    }
}

fn step_network(worker: &WorkerRecord) -> StepNetwork {
    match worker.labels.get("org.mobyproject.buildkit.worker.network").map(String::as_str) {
        Some("host") => StepNetwork::Host,
        Some("cni" | "bridge" | "none") => StepNetwork::Own,
        _ => StepNetwork::Unknown,
    }
}

fn platform(platform: &Platform) -> String {
    let parts = [platform.os.as_str(), &platform.architecture, &platform.variant];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

impl Version {
    /// Reads `v0.12.5`, `0.33.1+unknown`, `v0.25.1-0.2025…`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = text.strip_prefix('v').unwrap_or(text).split(['-', '+', ' ']).next()?;
        let mut numbers = plain.split('.').map(str::parse::<u32>);
        let mut next = || numbers.next().unwrap_or(Ok(0)).ok();
        Some(Self(next()?, next()?, next()?))
    }
}

struct Nobody;

#[async_trait]
impl RegistryAuth for Nobody {
    async fn basic(&self, _host: &str) -> Option<BasicCredential> {
        None
    }

    async fn token(&self, request: TokenRequest) -> Result<RegistryToken, TokenRefused> {
        Err(TokenRefused { host: request.host, cause: "a probe asks no registry".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (text, expected) in [
            ("v0.12.5", Some(Version(0, 12, 5))),
            ("0.33.1+unknown", Some(Version(0, 33, 1))),
            ("v0.25.1-0.20251002-abcdef", Some(Version(0, 25, 1))),
            ("0.9", Some(Version(0, 9, 0))),
            ("", None),
            ("(devel)", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text:?}");
        }
        assert!(Version(0, 9, 3) < FLOOR.0 && Version(0, 100, 0) > ADVISED.0);
    }
}
