//! The guides of `deploy/swarm` and `deploy/compose`, typed as they stand there, with the image that `make image`
//! makes, on a real Docker Engine that nobody else uses.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test panics where it fails")]

mod compose;
mod guide;
mod probes;
mod shell;
mod swarm;

use guide::Guide;
use shell::Shell;
