//! The BuildKit client: one control channel, one session that the daemon calls back, one solve at
//! a time. The backends differ only in the [`Transport`] they give it.
//!
//! The way of an attempt: [`attempt`] opens a connection, lets [`session`] serve what the daemon
//! asks for (files, credentials, secrets), sends what [`solve`] wrote, folds the status stream
//! into events ([`status`]) and turns what went wrong into a reason ([`failure`]).

pub(crate) mod attempt;
mod auth;
mod failure;
mod filesync;
mod filter;
mod followpaths;
mod pattern;
pub(crate) mod probe;
mod session;
pub(crate) mod solve;
mod status;
mod tail;
mod transport;

pub use solve::StepSettings;
pub use transport::{Address, InvalidAddress, Tls, Transport};
