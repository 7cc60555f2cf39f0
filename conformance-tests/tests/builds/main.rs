//! Builds through a running gateway on real engines: what comes out, what is refused and why, and what a user sees.
//!
//! The bases are those of `conformance-tests/bases`; what came out is pulled by a Docker Engine that knows nothing of
//! Kiln, and started there.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test panics where it fails")]

mod authority;
mod bases;
mod cli;
mod credentials;
mod engines;
mod image;
mod kinds;
mod openserverless;
mod sharing;
