//! Why a build failed, in a closed vocabulary and in words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The vocabulary. Its names are part of the API: they are stored, shown, and counted in metrics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Reason {
    /// The base image doesn't exist.
    BaseNotFound,
    /// The base image may not be used by this caller, or its registry refused the credentials.
    BaseForbidden,
    /// The base image can't serve: no shell, no package manager, `ONBUILD`, another architecture.
    BaseUnsupported,
    /// The file or the Dockerfile isn't what the recipe needs.
    RecipeInvalid,
    /// A Dockerfile asked for something that the source policy denies.
    SourceDenied,
    /// A build step ended with an error.
    StepFailed,
    /// A build step was killed for want of memory.
    OutOfMemory,
    /// The build wrote more to disk than it may.
    OutOfStorage,
    /// The registry refused the push.
    PushDenied,
    /// The registry didn't answer, or answered with errors of its own.
    RegistryUnavailable,
    /// No engine could take the build, or it went away.
    EngineUnavailable,
    /// It took longer than allowed.
    DeadlineExceeded,
    /// The caller, or an operator, cancelled it.
    CancelledByUser,
    /// It was begun three times and each time cut off.
    Interrupted,
    /// A fault of Kiln's own; the operator's log has more.
    Internal,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a build failed. All of it may be shown to the caller: no daemon paths, no stack traces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The word for programs.
    pub reason: Reason,
    /// The sentence for people: what, why, and what next.
    pub message: String,
    /// The step that failed, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<FailedStep>,
}

/// The step that failed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FailedStep {
    /// Its name, as the log shows it.
    pub name: String,
    /// The exit status of its process.
    pub exit_code: Option<i32>,
    /// Its first line in the Dockerfile, counted from 1.
    pub line: Option<u32>,
    /// The last lines it wrote, at most 20 of at most 500 characters.
    pub tail: Vec<String>,
}

impl Failure {
    /// A failure that isn't a step's.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), step: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}
