//! Turns what a daemon says went wrong into a reason and a sentence for people.

use super::status::Fold;
use crate::{BuildSpec, EngineError, Failure, Reason, RunError};

/// What is to be done about an error.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The attempt ends so.
    Final(RunError),
    /// The registry has trouble that may pass.
    Registry(Failure),
}

pub(super) fn judge(status: &tonic::Status, _fold: &Fold, _spec: &BuildSpec) -> Verdict {
    if std::error::Error::source(status).is_some() {
        return Verdict::Final(RunError::Engine {
            retryable: true,
            source: EngineError::Lost(status.message().into()),
        });
    }
    Verdict::Final(RunError::Build(Failure::new(Reason::StepFailed, status.message())))
}

pub(super) fn public(text: &str) -> String {
    text.to_owned()
}
