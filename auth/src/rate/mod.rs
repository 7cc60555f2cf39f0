//! How often somebody may do something: token buckets by user or address, in bounded memory.

mod bucket;
mod layer;
mod standing;

use std::{
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::Quota;
use moka::{policy::EvictionPolicy, sync::Cache};
use serde::Deserialize;

pub(crate) use bucket::Bucket;
pub use layer::RateLimit;
pub use standing::{Exceeded, Standing};

/// Buckets kept at once, at some 400 bytes each. A caller whose bucket gave way to others' starts
/// with a full one, which takes that many others within its own [`IDLE_AT_MOST`].
const BUCKETS: u64 = 8 * 1024;
/// A bucket that nobody asked for so long is forgotten. A rate fills one within that time, so nobody
/// gains by it.
const IDLE_AT_MOST: Duration = Duration::from_secs(600);
/// The largest burst: times a minute, in nanoseconds, it still fits what the buckets count with.
const BURST_AT_MOST: u32 = 1_000_000;
/// The highest rate: one in a microsecond.
const RATE_AT_MOST: u32 = 60_000_000;

/// A rate, and how much of it may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Numbers")]
pub struct Rate {
    per_minute: NonZeroU32,
    burst: NonZeroU32,
}

/// A rate as configuration writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    per_minute: u32,
    burst: u32,
}

/// The numbers make no rate.
#[derive(Debug, thiserror::Error)]
#[error(
    "a rate is per_minute = 1 to {RATE_AT_MOST} and burst = 1 to {BURST_AT_MOST}, and at most what {} minutes give",
    IDLE_AT_MOST.as_secs() / 60
)]
pub struct InvalidRate(());

/// A bucket for each key, all of one rate, which may change.
pub struct PerKey<K> {
    name: &'static str,
    rate: RwLock<Rate>,
    /// How often the rate has changed. A bucket is its generation's: one that is being made of the old
    /// rate while a new one is set is found by nobody who comes after.
    generation: AtomicU64,
    buckets: Cache<(u64, K), Arc<Bucket>>,
}

// === impl Rate ===

impl Rate {
    /// So many a minute, of which `burst` may come at once; both are brought within their bounds.
    #[must_use]
    pub const fn of(per_minute: u32, burst: u32) -> Self {
        const fn within(number: u32, most: u32) -> NonZeroU32 {
            let number = if number > most { most } else { number };
            NonZeroU32::MIN.saturating_add(number.saturating_sub(1))
        }
        Self { per_minute: within(per_minute, RATE_AT_MOST), burst: within(burst, BURST_AT_MOST) }
    }

    /// After how long one more is let through.
    fn interval(self) -> Duration {
        // Not zero: the rate's bound is a thousand times away from that.
        Duration::from_secs(60) / self.per_minute.get()
    }

    fn quota(self) -> Quota {
        // Only a period of zero makes none.
        Quota::with_period(self.interval()).unwrap_or(Quota::per_minute(self.per_minute)).allow_burst(self.burst)
    }
}

impl TryFrom<Numbers> for Rate {
    type Error = InvalidRate;

    fn try_from(Numbers { per_minute, burst }: Numbers) -> Result<Self, InvalidRate> {
        let rate = Self::of(per_minute, burst);
        let within = (rate.per_minute.get(), rate.burst.get()) == (per_minute, burst);
        let fills = rate.interval().saturating_mul(burst) <= IDLE_AT_MOST;
        (within && fills).then_some(rate).ok_or(InvalidRate(()))
    }
}

// === impl PerKey ===

impl<K: Hash + Eq + Send + Sync + 'static> PerKey<K> {
    /// Buckets of this rate; `name` is the policy's in header fields and audit lines.
    #[must_use]
    pub fn new(name: &'static str, rate: Rate) -> Self {
        let buckets = Cache::builder()
            .max_capacity(BUCKETS)
            // A flood of new keys pushes out what is used least lately, not whoever calls steadily.
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE_AT_MOST)
            .build();
        Self { name, rate: RwLock::new(rate), generation: AtomicU64::new(0), buckets }
    }

    /// Another rate from now on. One that differs gives everybody a full bucket.
    pub fn set(&self, rate: Rate) {
        let mut current = self.rate.write().unwrap_or_else(PoisonError::into_inner);
        if *current != rate {
            *current = rate;
            // After the rate: who sees the new generation reads the new rate, too.
            self.generation.fetch_add(1, Ordering::Release);
            self.buckets.invalidate_all();
        }
    }

    pub(crate) fn bucket(&self, key: K) -> Arc<Bucket> {
        self.buckets.get_with((self.generation.load(Ordering::Acquire), key), || {
            let rate = *self.rate.read().unwrap_or_else(PoisonError::into_inner);
            Arc::new(Bucket::new(self.name, rate))
        })
    }
}

impl<K> fmt::Debug for PerKey<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKey").field("name", &self.name).field("rate", &self.rate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn rates_out_of_their_bounds_are_refused() {
        for (text, good) in [
            ("per_minute = 1\nburst = 1", true),
            ("per_minute = 60000000\nburst = 1000000", true),
            ("per_minute = 0\nburst = 1", false),
            ("per_minute = 1\nburst = 0", false),
            ("per_minute = 60000001\nburst = 1", false),
            ("per_minute = 1\nburst = 1000001", false),
            ("per_minute = -1\nburst = 1", false),
            ("per_minute = 1\nburst = 10", true),
            ("per_minute = 1\nburst = 11", false),
            ("per_minute = 1", false),
            ("per_minute = 1\nburst = 1\nper_second = 1", false),
        ] {
            assert_eq!(toml::from_str::<Rate>(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn one_key_leaves_the_others_theirs() {
        let rates = PerKey::new("test", Rate::of(1, 2));
        for (key, within) in [("a", true), ("a", true), ("a", false), ("b", true), ("a", false), ("b", true)] {
            assert_eq!(rates.bucket(key).take().is_ok(), within, "{key}");
        }
    }

    #[test]
    fn a_new_rate_counts_at_once_and_the_same_one_changes_nothing() {
        let rates = PerKey::new("test", Rate::of(1, 1));
        assert!(rates.bucket("a").take().is_ok());
        rates.set(Rate::of(1, 1));
        assert!(rates.bucket("a").take().is_err());
        rates.set(Rate::of(1, 2));
        for within in [true, true, false] {
            assert_eq!(rates.bucket("a").take().is_ok(), within);
        }
    }

    #[test]
    fn whoever_comes_after_a_change_finds_a_bucket_of_the_new_rate() {
        let rates = PerKey::new("test", Rate::of(1, 1));
        let both = Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for key in 0..20_000 {
                    both.wait();
                    let _ = rates.bucket(key);
                    both.wait();
                }
            });
            let mut stale = 0;
            for key in 0..20_000 {
                let rate = Rate::of(1, 1 + key % 2);
                both.wait();
                rates.set(rate);
                both.wait();
                let left = rates.bucket(key).take().unwrap().remaining();
                stale += u32::from(left != key % 2);
            }
            assert_eq!(stale, 0, "buckets of the old rate");
        });
    }

    #[test]
    fn however_many_keys_come_so_many_buckets_are_kept() {
        let rates = PerKey::new("test", Rate::of(1, 1));
        for key in 0..20_000 {
            let _ = rates.bucket(key).take();
        }
        rates.buckets.run_pending_tasks();
        assert!(rates.buckets.entry_count() <= BUCKETS);
    }
}
