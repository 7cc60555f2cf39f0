//! Where a caller stands with a rate, as the header fields of draft-ietf-httpapi-ratelimit-headers-10
//! say it.

use std::time::Duration;

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Rate;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The least and the most that is added to a wait, in seconds.
const SPREAD: std::ops::RangeInclusive<u64> = 2..=30;

/// What is left of a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    policy: &'static str,
    rate: Rate,
    remaining: u32,
}

/// Nothing is left of a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many requests; try again later")]
pub struct Exceeded {
    standing: Standing,
    wait: Duration,
}

impl Standing {
    pub(super) fn new(policy: &'static str, rate: Rate, remaining: u32) -> Self {
        Self { policy, rate, remaining }
    }

    /// How many may still come at once.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Adds `RateLimit-Policy` (so many within so many seconds, which is the burst and how long an
    /// empty bucket takes to fill) and `RateLimit` (how many are left, and after how many seconds
    /// all of them are there again).
    pub fn describe(&self, headers: &mut HeaderMap) {
        let Self { policy, rate, remaining } = self;
        let quota = rate.burst.get();
        let (window, reset) = (self.fills(quota), self.fills(quota.saturating_sub(*remaining)));
        for (name, text) in [
            (POLICY, format!("\"{policy}\";q={quota};w={window}")),
            (LIMIT, format!("\"{policy}\";r={remaining};t={reset}")),
        ] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        }
    }

    /// After how many seconds so many have come back.
    fn fills(&self, missing: u32) -> u64 {
        (u64::from(missing) * 60).div_ceil(u64::from(self.rate.per_minute.get()))
    }
}

impl Exceeded {
    pub(super) fn new(standing: Standing, wait: Duration) -> Self {
        Self { standing, wait }
    }

    /// Where the caller stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// In how many seconds to try again: when one is there, and a random while more, so that those
    /// who are refused together don't come back together.
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        let wait = self.wait.as_secs() + 1;
        let spread = wait.clamp(*SPREAD.start(), *SPREAD.end());
        let mut byte = [0];
        // Without randomness they come back together; that is all.
        let _ = rand::fill(&mut byte);
        wait + u64::from(byte[0]) * spread / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_name_the_burst_the_window_and_what_is_left() {
        for (rate, remaining, policy, limit) in [
            (Rate::of(60, 60), 59, "\"t\";q=60;w=60", "\"t\";r=59;t=1"),
            (Rate::of(120, 60), 0, "\"t\";q=60;w=30", "\"t\";r=0;t=30"),
            (Rate::of(1, 1), 0, "\"t\";q=1;w=60", "\"t\";r=0;t=60"),
            (Rate::of(6000, 10), 10, "\"t\";q=10;w=1", "\"t\";r=10;t=0"),
        ] {
            let mut headers = HeaderMap::new();
            Standing::new("t", rate, remaining).describe(&mut headers);
            assert_eq!(
                (&headers[POLICY], &headers[LIMIT]),
                (&HeaderValue::from_static(policy), &limit.parse().unwrap())
            );
        }
    }

    #[test]
    fn nobody_is_called_back_too_early_and_not_all_at_once() {
        let exceeded = Exceeded::new(Standing::new("t", Rate::of(60, 1), 0), Duration::from_millis(9_500));
        let waits: std::collections::BTreeSet<u64> = (0..200).map(|_| exceeded.retry_after()).collect();
        assert!(waits.iter().all(|wait| (10..=20).contains(wait)), "{waits:?}");
        assert!(waits.len() > 3, "{waits:?}");
    }
}
