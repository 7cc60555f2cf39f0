//! The registry client, against real registries, and against doubles for what those don't do here:
//! token services, mirrors that record what they are sent, answers that are wrong.
#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod double;
mod faults;
mod fixture;
mod helpers;
mod real;
mod tls;
mod tokens;
