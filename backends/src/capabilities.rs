//! What an engine was proved to be able to do, as data.

use serde::{Deserialize, Serialize};

/// The result of a probe.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Capabilities {
    /// Which backend: `buildkitd`, `docker`, `kubernetes`, `fake`.
    pub engine: String,
    /// The engine's version, and BuildKit's own where they differ.
    pub version: String,
    /// The platforms it builds for, the native one first, as `os/arch[/variant]`.
    pub platforms: Vec<String>,
    /// Whether it can push by digest, so that the tag is moved by Kiln alone.
    pub atomic_tag: bool,
    /// Whether it can push an index, which is what an image for several platforms is.
    pub indexes: bool,
    /// Whether what a build made is still there for its owner's next one.
    pub keeps_cache: bool,
    /// Which network its build steps have.
    pub step_network: StepNetwork,
    /// Which limits it enforces on a step.
    pub step_limits: StepLimits,
    /// What an operator should know: an old version, host networking, clipped logs.
    pub warnings: Vec<String>,
}

/// The network of a build step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepNetwork {
    /// A namespace of its own.
    Own,
    /// The engine's: a step reaches whatever listens there.
    Host,
    /// The engine doesn't say.
    Unknown,
}

/// Which limits of a step the engine enforces; for the others Kiln's concurrency limit stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StepLimits {
    /// Bytes of memory.
    pub memory: bool,
    /// Shares of the processors.
    pub cpu: bool,
    /// Number of processes.
    pub processes: bool,
}
