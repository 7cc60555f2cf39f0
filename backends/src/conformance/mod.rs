//! What every engine must do, as functions over [`BuildBackend`](crate::BuildBackend): each case
//! panics where the engine doesn't. An engine's test file calls them one by one.

mod bench;
mod builds;
mod endings;
mod failures;
mod limits;
mod registry;
mod resources;
mod sources;
mod tenants;
mod tokens;

pub use bench::{Bench, Fixed, Outcome, Running};
pub use builds::*;
pub use endings::*;
pub use failures::*;
pub use limits::*;
pub use resources::*;
pub use sources::*;
pub use tenants::*;
pub use tokens::*;
