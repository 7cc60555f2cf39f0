//! What every engine must do, as functions over [`BuildBackend`](crate::BuildBackend): each case
//! panics where the engine doesn't. An engine's test file calls them one by one.

mod bench;
mod builds;

pub use bench::{Bench, Fixed, Outcome, Running};
pub use builds::*;
