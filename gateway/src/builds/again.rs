//! A build asked for once more, as it was asked for.

use kiln_auth::{Identity, InvalidTarget, Origin, OutOfScope, Target};

use super::{Builds, Request, Submission};
use crate::{
    ledger::{Build, LedgerError, State},
    registry::{DestinationError, ProcessRegistry},
};

/// A build can't be tried again.
#[derive(Debug, thiserror::Error)]
pub enum NoRetry {
    /// It still goes on.
    #[error("the build hasn't ended; cancel it first")]
    NotEnded,
    /// It was made from an archive, which went with its connection.
    #[error("the build's archive is gone with its connection; send it again")]
    Archive,
    /// It was made from a context, which went at its end.
    #[error("a build's context isn't kept beyond its end; send it again")]
    Context,
    /// Its file isn't there any more.
    #[error("the build's file isn't kept: it succeeded, or others failed since, or it is long; send it again")]
    FileGone,
    /// Its target isn't the caller's any more.
    #[error(transparent)]
    OutOfScope(#[from] OutOfScope),
    /// Its target isn't one by the rules of this version.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The caller's settings name no registry.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Builds {
    /// What an earlier build of this caller's was asked for, with the caller's settings as they are now.
    ///
    /// # Errors
    /// See [`NoRetry`].
    pub async fn again(
        &self,
        earlier: &Build,
        identity: &Identity,
        origin: Origin,
        process: &ProcessRegistry,
    ) -> Result<Submission, NoRetry> {
        if !earlier.state.is_terminal() {
            return Err(NoRetry::NotEnded);
        }
        if earlier.request.attached {
            return Err(NoRetry::Archive);
        }
        if earlier.request.context.is_some() {
            return Err(NoRetry::Context);
        }
        let file = match earlier.request.extend && earlier.state != State::Succeeded {
            true => self.0.ledger.kept_file(earlier.owner(), earlier.seq).await?,
            false => None,
        };
        if earlier.request.extend && file.is_none() {
            return Err(NoRetry::FileGone);
        }
        let target = identity.scope().admit(Target::parse(&earlier.target.to_string())?)?;
        let request = Request {
            any_target: identity.scope().is_unbounded(),
            fingerprint: None,
            resolved: None,
            ..earlier.request.clone()
        };
        Ok(Submission::new(origin, identity, process, target, request, file)?)
    }
}
