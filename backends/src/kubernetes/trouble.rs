//! What can become of a build's pod, and what that means for the build.

use crate::{EngineError, Failure, Limits, Reason, RunError};

/// Why a build's pod didn't start, or ended before Kiln ended it. The texts are for operators.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Trouble {
    /// The namespace's quota is used up.
    #[error("the namespace's quota has no room for the build's pod: {0}")]
    Quota(String),
    /// Admission, such as the namespace's Pod Security level, refuses pods like it.
    #[error("the cluster admits no pod like the build's: {0}")]
    Refused(String),
    /// No node took it.
    #[error("no node took the build's pod: {0}")]
    Unscheduled(String),
    /// The daemon's image can't be had.
    #[error("the daemon's image can't be pulled: {0}")]
    Image(String),
    /// The node took it, and couldn't make it.
    #[error("the build's pod couldn't be started: {0}")]
    Unstarted(String),
    /// The pod runs, and nobody answers in it.
    #[error("the daemon in the build's pod doesn't answer: {0}")]
    Silent(String),
    /// The daemon ended by itself.
    #[error("the build's daemon ended with status {status}: {words}")]
    Exited {
        /// Its exit status.
        status: i32,
        /// The last it wrote.
        words: String,
    },
    /// It was killed for want of memory.
    #[error("the build's pod was killed for want of memory")]
    OutOfMemory,
    /// It wrote more than it may.
    #[error("the build's pod was evicted for its use of disk: {0}")]
    OutOfStorage(String),
    /// It had to make room.
    #[error("the build's pod was evicted: {0}")]
    Evicted(String),
    /// Its node went away.
    #[error("the node of the build's pod went away: {0}")]
    NodeGone(String),
    /// Somebody deleted it.
    #[error("the build's Job or pod was deleted by somebody else")]
    Deleted,
    /// The cluster ended it for its age.
    #[error("the cluster ended the build's Job at its own deadline")]
    Expired,
}

impl Trouble {
    /// Whether another attempt may fare better without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::OutOfMemory | Self::OutOfStorage(_) | Self::Expired)
    }

    /// Whether it is likely to meet every pod that is made like it; all else is of a moment, or of one build.
    pub(super) fn is_of_pods_like_it(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unstarted(_) | Self::Silent(_) | Self::Exited { .. })
    }

    /// How an attempt ends by it. What the build did to itself is a failure of the build.
    pub(super) fn ends(self, limits: &Limits) -> RunError {
        let mebibytes = |bytes: u64| format!("the {} MiB", bytes >> 20);
        match self {
            Self::OutOfMemory => {
                let may = limits.memory.map_or_else(|| "its node had".to_owned(), |bytes| mebibytes(bytes) + " it may");
                let message = format!("the build was killed because it used more memory than {may}");
                RunError::Build(Failure::new(Reason::OutOfMemory, message))
            }
            Self::OutOfStorage(_) => {
                let may = limits.storage.map_or_else(|| "it may".to_owned(), |bytes| mebibytes(bytes) + " it may");
                let message = format!("the build was ended because it wrote more to disk than {may}");
                RunError::Build(Failure::new(Reason::OutOfStorage, message))
            }
            trouble => RunError::Engine { retryable: trouble.retryable(), source: EngineError::Pod(trouble) },
        }
    }

    /// The same for whoever asked for the build: nothing of the cluster's inside.
    pub(super) fn public(&self) -> &'static str {
        match self {
            Self::Quota(_) | Self::Unscheduled(_) => "the cluster has no room for the build at the moment",
            Self::Refused(_) => "the cluster doesn't admit the build's pod; ask the operator",
            Self::Image(_) => "the cluster couldn't get the build engine's image",
            Self::Unstarted(_) | Self::Silent(_) => "the build's engine didn't start",
            Self::Exited { .. } => "the build's engine ended by itself",
            Self::OutOfMemory => "the build used more memory than it may",
            Self::OutOfStorage(_) => "the build wrote more to disk than it may",
            Self::Evicted(_) => "the cluster evicted the build to make room",
            Self::NodeGone(_) => "the machine that built went away",
            Self::Deleted => "the build's engine was removed by somebody else",
            Self::Expired => "the cluster ended the build's engine at its deadline",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_build_did_to_itself_is_its_failure_and_names_its_bound() {
        let deadline = Duration::from_secs(1);
        let bound = Some(64 << 20);
        let limits =
            Limits { deadline, memory: bound, cpu_millis: None, processes: None, storage: bound, step_deadline: None };
        for (trouble, reason) in
            [(Trouble::OutOfMemory, Reason::OutOfMemory), (Trouble::OutOfStorage(String::new()), Reason::OutOfStorage)]
        {
            let RunError::Build(failure) = trouble.ends(&limits) else { panic!("no failure of the build") };
            assert!(failure.reason == reason && failure.message.contains("64 MiB"), "{failure}");
        }
        let gone = Trouble::NodeGone("node-7 is unreachable".to_owned());
        assert!(!gone.public().contains("node-7"));
        assert!(matches!(gone.ends(&limits), RunError::Engine { retryable: true, source: EngineError::Pod(_) }));
    }
}
