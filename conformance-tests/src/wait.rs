//! Waiting for what comes about by itself.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The first thing that `look` finds.
///
/// # Panics
/// When it finds nothing in time; with what was waited for.
#[expect(clippy::panic, reason = "a test panics where it fails")]
pub async fn until<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(within, found).await.unwrap_or_else(|_| panic!("not within {within:?}: {what}"))
}
