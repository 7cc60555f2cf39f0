//! The trait every engine implements, and how a run can end.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{AttemptName, BuildSpec, Capabilities, EventSink, Failure};

/// An engine that turns a build context into an image in a registry.
#[async_trait]
pub trait BuildBackend: Send + Sync {
    /// Proves what this engine can do, by doing it; refuses one that can't keep tenants apart.
    ///
    /// # Errors
    /// When the engine can't be reached, is older than the floor, or fails a proof.
    async fn probe(&self) -> Result<Capabilities, EngineError>;

    /// Runs one attempt to its end: what was to be pushed stands in the registry under its digest;
    /// `None` where nothing was.
    ///
    /// Once `cancel` has fired it returns when the engine is clean. A dropped future cancels too;
    /// what can't be awaited then is left to the engine, which notices that its session is gone.
    ///
    /// # Errors
    /// See [`RunError`].
    async fn run(
        &self,
        spec: BuildSpec,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<Option<Pushed>, RunError>;

    /// Lists this instance's leftovers, asks about each whether its build lives, removes the others
    /// and returns how many went.
    ///
    /// # Errors
    /// When the engine can't be reached.
    async fn sweep(
        &self,
        is_live: &(dyn for<'a> Fn(&'a AttemptName) -> bool + Send + Sync),
    ) -> Result<usize, EngineError>;
}

/// What a successful attempt left in the registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// The manifest's digest, `sha256:` and 64 hexadecimal digits.
    pub digest: String,
}

/// Why an attempt gave no image.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The build itself failed: the same input will fail again.
    #[error("the build failed: {0}")]
    Build(Failure),
    /// The engine failed, not the build.
    #[error("the engine failed: {source}")]
    Engine {
        /// Whether another attempt may succeed without anybody changing anything.
        retryable: bool,
        /// What happened.
        source: EngineError,
    },
    /// `cancel` fired, and the engine holds nothing of the attempt any more.
    #[error("cancelled")]
    Cancelled,
}

/// What can be wrong with an engine. The text is for operators; it may name sockets and addresses.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers there.
    #[error("{endpoint} does not answer: {cause}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// The transport's own words.
        cause: String,
    },
    /// It answered once and then went silent or away.
    #[error("the engine went away: {0}")]
    Lost(String),
    /// It is older than what keeps tenants apart.
    #[error("{engine} {found} is older than {floor}; upgrade it")]
    TooOld {
        /// Which engine.
        engine: &'static str,
        /// The version it reports.
        found: String,
        /// The oldest version that is accepted.
        floor: &'static str,
    },
    /// A proof failed.
    #[error("the engine can't be used: {0}")]
    Unfit(String),
    /// The pod of one build had trouble; others may fare better.
    #[error(transparent)]
    Pod(#[from] crate::kubernetes::Trouble),
    /// It answered something that can't be understood.
    #[error("the engine answered {0}")]
    Protocol(String),
}
