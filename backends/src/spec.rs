//! What an engine is asked to do: one attempt, complete and already proved to be allowed.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use kiln_auth::ScopedTarget;
use secrecy::SecretSlice;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{RegistryAuth, Tree};

/// One installation of Kiln, made with its ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct InstanceId(pub Uuid);

/// One accepted build (UUIDv7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct BuildId(pub Uuid);

/// The name that everything of an attempt carries on an engine: `<instance>-<build>-<attempt>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AttemptName {
    /// Whose it is.
    pub instance: InstanceId,
    /// Which build.
    pub build: BuildId,
    /// Which attempt, counted from 1.
    pub attempt: u32,
}

/// A keyed hash of the owner's name, and what is made of it to keep tenants apart on one daemon.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantKey([u8; 32]);

/// The name of a build argument that a caller may set.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BuildArg(String);

/// The name can't be a caller's build argument.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} can't be a build argument: names are letters, digits and _, and BUILDKIT_* steers the engine")]
pub struct ForbiddenArg(String);

/// A secret that the session serves and no one else sees.
pub type Secret = SecretSlice<u8>;

/// Where the image goes.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The registry, `host[:port]`.
    pub registry: String,
    /// Whether it speaks plain HTTP.
    pub plain_http: bool,
    /// Whether its certificate isn't to be verified.
    pub skip_verify: bool,
    /// The repository and the tag.
    pub target: ScopedTarget,
}

/// What becomes of what is built.
#[derive(Clone, Debug)]
pub enum Output {
    /// The image goes to a registry.
    Push(Destination),
    /// Nothing: the engine keeps what its cache has, and no image. For those who want to know
    /// whether something can be built.
    Nothing,
}

/// What the build may fetch: everything is denied that no rule allows; the last rule that matches wins.
#[derive(Clone, Debug, Default)]
pub struct SourceRules(pub Vec<SourceRule>);

/// One rule over source identifiers such as `docker-image://docker.io/library/python:*`, where `*`
/// stands for any characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceRule {
    /// May be fetched.
    Allow(String),
    /// May not.
    Deny(String),
}

/// How long, and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For the whole attempt, the push included.
    pub deadline: Duration,
    /// Bytes of memory of one step, where the engine can enforce it.
    pub memory: Option<u64>,
    /// Thousandths of a processor, where the engine can enforce it.
    pub cpu_millis: Option<u32>,
    /// Number of processes, where the engine can enforce it.
    pub processes: Option<u32>,
    /// Bytes of disk of the whole build, where it has an engine of its own.
    pub storage: Option<u64>,
    /// For each step.
    pub step_deadline: Option<Duration>,
}

/// One attempt of one build.
#[derive(Clone)]
pub struct BuildSpec {
    /// What it is called on the engine.
    pub attempt: AttemptName,
    /// What salts its steps.
    pub tenant: TenantKey,
    /// Its context.
    pub context: Arc<Tree>,
    /// The Dockerfile's path within the context.
    pub dockerfile: String,
    /// The image of the frontend that reads it, by digest; `None` is the engine's own. The rules
    /// below have to allow it, and it has to keep to the attributes that split tenants' caches.
    pub frontend: Option<String>,
    /// The caller's build arguments.
    pub args: BTreeMap<BuildArg, String>,
    /// Proxy settings for its steps (`HTTP_PROXY` and the like); not part of any cache key.
    pub proxy: BTreeMap<String, String>,
    /// The platforms to build for; empty is the engine's own.
    pub platforms: Vec<String>,
    /// Whether every step runs, whatever the engine has kept of earlier ones.
    pub no_cache: bool,
    /// What becomes of the image.
    pub output: Output,
    /// What it may fetch.
    pub sources: SourceRules,
    /// Who answers for registries.
    pub registry_auth: Arc<dyn RegistryAuth>,
    /// Secrets by the id under which a step mounts them.
    pub secrets: BTreeMap<String, Secret>,
    /// How long, and how much.
    pub limits: Limits,
}

// === impl BuildId ===

impl BuildId {
    /// A new id; later ones sort after earlier ones.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl Default for BuildId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for BuildId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::from_str(text).map(Self)
    }
}

// === impl AttemptName ===

impl fmt::Display for AttemptName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.instance.0.simple(), self.build.0.simple(), self.attempt)
    }
}

// === impl TenantKey ===

impl TenantKey {
    /// Wraps HMAC-SHA-256(instance key, owner).
    #[must_use]
    pub fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The host name of the tenant's build steps. It is in each step's cache key and not in the
    /// image; at most 63 characters, as a DNS label.
    #[must_use]
    pub fn step_hostname(&self) -> String {
        format!("k{}", base32::encode(base32::Alphabet::Rfc4648Lower { padding: false }, &self.0))
    }

    /// The namespace of the tenant's cache mounts; without `/`, which would let one name reach
    /// into another.
    #[must_use]
    pub fn cache_namespace(&self) -> String {
        self.step_hostname()
    }

    /// The key under which an engine keeps the files of the tenant's contexts with this content.
    ///
    /// Files that it has are told from new ones by name, size and time alone, so what shares a key
    /// must be the same to the byte, and of the same tenant.
    #[must_use]
    pub fn context_key(&self, content: &[u8; 32]) -> String {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), content);
        base32::encode(base32::Alphabet::Rfc4648Lower { padding: false }, key.as_ref())
    }
}

impl fmt::Debug for TenantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantKey(…)")
    }
}

// === impl BuildArg ===

impl BuildArg {
    /// Takes a caller's argument name.
    ///
    /// # Errors
    /// When it is no identifier, or one of `BUILDKIT_*`, which steer the frontend (cache
    /// namespaces, host names, the frontend itself) instead of the Dockerfile.
    pub fn parse(name: &str) -> Result<Self, ForbiddenArg> {
        /// The ones of them that change nothing but the caller's own image.
        const HARMLESS: [&str; 2] = ["BUILDKIT_INLINE_CACHE", "BUILDKIT_DOCKERFILE_CHECK"];
        let identifier = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let steers = name.to_ascii_uppercase().starts_with("BUILDKIT_") && !HARMLESS.contains(&name);
        if identifier && !steers { Ok(Self(name.to_owned())) } else { Err(ForbiddenArg(name.to_owned())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
