//! Black-box suites against a running gateway: what they share.
//!
//! A suite starts the real `kiln` program on an engine that `deploy/dev/engines` brought up, talks
//! to it over HTTP, and looks at what came out in the real registry.

pub mod client;
pub mod corpus;
pub mod couchdb;
pub mod engines;
pub mod kiln;
pub mod registry;
pub mod wait;

pub use client::Client;
pub use engines::{Engine, engine};
pub use kiln::{Kiln, Launch};
