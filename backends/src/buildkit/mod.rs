//! The BuildKit client: one control channel, one session that the daemon calls back, one solve at
//! a time. The backends differ only in the [`Transport`] they give it.
//!
//! The way of an attempt: [`attempt`] opens a connection, lets [`session`] serve what the daemon
//! asks for (files, credentials, secrets), sends what [`solve`] wrote, folds the status stream
//! into events ([`status`]) and turns what went wrong into a reason ([`failure`]).

pub(crate) mod attempt;
mod auth;
mod details;
pub(crate) mod failure;
mod filesync;
mod filter;
mod followpaths;
mod ignore;
mod pattern;
pub(crate) mod probe;
pub(crate) mod registry;
mod session;
pub(crate) mod solve;
mod status;
mod tail;
mod transport;

pub use ignore::{IgnoreFile, IgnoredFolder, InvalidIgnoreFile};
pub use solve::StepSettings;
pub(crate) use transport::Connection;
pub(crate) use transport::causes;
pub use transport::{Address, Dial, InsecureAddress, InvalidAddress, Tls, Transport};

use crate::{EngineError, Pushed, RunError};

/// What the image exporter pushed.
pub(crate) fn pushed(mut exported: attempt::Exported) -> Result<Pushed, RunError> {
    let digest = exported.remove("containerimage.digest").ok_or_else(|| RunError::Engine {
        retryable: false,
        source: EngineError::Protocol("no digest for what it pushed".to_owned()),
    })?;
    Ok(Pushed { digest })
}
