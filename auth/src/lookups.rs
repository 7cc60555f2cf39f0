//! Questions to somebody else's server, of which only so many are under way, wait, and take so long.

use std::{future::Future, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use crate::Refusal;

/// What bounds lookups.
#[derive(Clone, Copy, Debug)]
pub struct LookupLimits {
    /// How long to wait for a connection.
    pub connect: Duration,
    /// How long a lookup may take, waiting for its turn included.
    pub lookup: Duration,
    /// How many lookups are under way at once.
    pub lookups: usize,
    /// How many more may wait for their turn; who comes then is told to come back.
    pub waiting: usize,
    /// How long an answer may be, in bytes.
    pub answer: usize,
}

/// A lookup that didn't come to its end.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// It took too long.
    #[error("{who} did not answer within {within:?}")]
    Deadline {
        /// Who was asked.
        who: &'static str,
        /// The bound.
        within: Duration,
    },
}

/// The lookups of one provider.
pub(crate) struct Lookups {
    who: &'static str,
    limits: LookupLimits,
    turns: Semaphore,
    /// One for each lookup under way and for each that waits.
    places: Semaphore,
}

impl Default for LookupLimits {
    /// 2 s to connect, 5 s for a lookup, 16 at once, 256 waiting, answers of 1 MiB.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            lookup: Duration::from_secs(5),
            // Each may scan a database, and the server has others to serve.
            lookups: 16,
            // At some 5 ms a lookup the last of them waits a tenth of a second.
            waiting: 256,
            answer: 1024 * 1024,
        }
    }
}

impl Lookups {
    /// Bounds questions to `who`, a name for people.
    pub(crate) fn new(who: &'static str, limits: LookupLimits) -> Self {
        let places = limits.lookups.saturating_add(limits.waiting).min(Semaphore::MAX_PERMITS);
        Self { who, limits, turns: Semaphore::new(limits.lookups), places: Semaphore::new(places) }
    }

    /// Waits for a turn and lets `lookup` run.
    ///
    /// # Errors
    /// Its own, that too many wait, or that the time is up.
    pub(crate) async fn run<T>(&self, lookup: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let Self { who, limits: LookupLimits { lookup: within, .. }, turns, places } = self;
        // Not unavailable: it may be well, and whoever comes is to blame for nothing.
        let _place = places.try_acquire().map_err(|_| Refusal::Busy)?;
        let in_turn = async {
            // It is never closed.
            let _turn = turns.acquire().await.map_err(Refusal::unavailable)?;
            lookup.await
        };
        let late = |_| Err(Refusal::unavailable(LookupError::Deadline { who, within: *within }));
        timeout(*within, in_turn).await.unwrap_or_else(late)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn who_comes_when_enough_wait_is_told_so_at_once() {
        let lookup = Duration::from_millis(200);
        let limits = LookupLimits { lookups: 2, waiting: 3, lookup, ..LookupLimits::default() };
        let lookups = std::sync::Arc::new(Lookups::new("it", limits));
        let mut callers = JoinSet::new();
        for _ in 0..5 {
            let lookups = std::sync::Arc::clone(&lookups);
            callers.spawn(async move { lookups.run(pending::<Result<(), _>>()).await });
        }
        while lookups.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(lookups.run(async { Ok(()) }).await, Err(Refusal::Busy)));
        while let Some(late) = callers.join_next().await {
            let late = cause(late.unwrap());
            assert!(late.contains("it did not answer within 200ms"), "{late}");
        }
        assert!(lookups.run(async { Ok(()) }).await.is_ok());
    }

    fn cause(answer: Result<(), Refusal>) -> String {
        let Err(Refusal::Unavailable(cause)) = answer else { panic!("it is available") };
        cause.to_string()
    }
}
