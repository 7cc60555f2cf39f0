//! Limits of a step, where the engine declares that it enforces them.

use super::{Bench, builds::probed};
use crate::Reason;

/// A step that takes more memory than it may is killed, for a reason of its own.
///
/// # Panics
/// When it gets the memory although the engine declares the limit, or fails for another reason.
pub async fn a_step_beyond_its_memory_is_out_of_memory(bench: &Bench) {
    if !probed(bench).await.step_limits.memory {
        return;
    }
    // `tail` keeps the last line, and this line has no end.
    let text = format!("FROM {{base}}\nRUN echo {}; head -c 256m /dev/zero | tail -n 1 > /dev/null", bench.unique());
    let mut spec = bench.spec("ann", bench.dockerfile(&text));
    spec.limits.memory = Some(64 << 20);
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.failure().reason, Reason::OutOfMemory, "{:?}", outcome.failure());
}
