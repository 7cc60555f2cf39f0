//! Engines that turn a build context into an image in a registry.
//!
//! [`BuildBackend`] is the boundary: above it nothing knows how an engine works, below it nothing
//! knows who called. All real backends are BuildKit; they differ in where the daemon is and in who
//! owns its life, so they share the client in [`buildkit`].

pub mod backend;
pub mod buildkit;
pub mod buildkitd;
pub mod capabilities;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod docker;
pub mod event;
pub mod failure;
pub mod fake;
pub mod kubernetes;
pub mod session_auth;
pub mod spec;
pub mod step_deadline;
pub mod syntax;
pub mod tree;

pub use backend::{BuildBackend, EngineError, Pushed, RunError};
pub use buildkit::{IgnoreFile, IgnoredFolder, InvalidIgnoreFile};
pub use buildkitd::{BuildkitdBackend, BuildkitdConfig};
pub use capabilities::{Capabilities, StepLimits, StepNetwork};
pub use docker::{DockerBackend, DockerConfig};
pub use event::{Event, EventKind, EventSink, Stream};
pub use failure::{FailedStep, Failure, Reason};
pub use kubernetes::{KubernetesBackend, KubernetesConfig};
pub use session_auth::{BasicCredential, RegistryAuth, RegistryToken, TokenRefused, TokenRequest};
pub use spec::{
    AttemptName, BuildArg, BuildId, BuildSpec, Destination, ForbiddenArg, InstanceId, Limits, Output, Secret,
    SourceRule, SourceRules, TenantKey,
};
pub use step_deadline::StepDeadline;
pub use syntax::syntax_of;
pub use tree::{Entry, EntryKind, InvalidTree, Tree, TreeBuilder};
