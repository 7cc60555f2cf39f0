//! The multi-tenant image-build gateway: *give it your code; it fires an OCI image.*
//!
//! The way of a build, folder by folder: a request passes the [`stack`] to one of the [`doors`],
//! which makes it a submission; [`builds`] accepts it into the [`ledger`], queues it, has an engine
//! run what its recipe made, and commits the tag; the [`log`] keeps what the engine said.

pub mod admission;
pub mod archive;
mod around;
pub mod builds;
pub mod cli;
pub mod config;
mod cors;
pub mod doors;
pub(crate) mod identities;
pub mod images;
pub mod ledger;
mod listener;
pub mod log;
pub mod metrics;
pub mod recipes;
pub mod registry;
mod rescue;
pub mod sealed;
pub mod serve;
pub mod stack;
pub mod webhooks;
