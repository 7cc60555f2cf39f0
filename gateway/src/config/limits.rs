//! `[limits]`: what bounds requests, builds and what is kept of them.

use std::time::Duration;

use kiln_auth::{Rate, TrustedProxies};
use serde::Deserialize;

use super::time::duration;

/// Bounds. Those of requests, down to `rates`, are read anew while Kiln runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests at once, streams apart; beyond it they are shed.
    pub requests: usize,
    /// Requests of one owner at once.
    pub requests_per_owner: usize,
    /// Open streams at once.
    pub streams: usize,
    /// Open streams of one owner.
    pub streams_per_owner: usize,
    /// Archives on their way here at once.
    pub archives: usize,
    /// Such archives from one address.
    pub archives_per_address: usize,
    /// Bytes of archives that are here and not yet proved to be anybody's.
    pub unproved: u64,
    /// Such bytes from one address.
    pub unproved_per_address: u64,
    /// Questions at once to each identity provider about callers whom Kiln doesn't remember.
    pub lookups: usize,
    /// Those of them about callers at one address.
    pub lookups_per_address: usize,
    /// The proxies whose `X-Forwarded-For` is believed; none unless set.
    pub trusted_proxies: TrustedProxies,
    /// How often something may be asked for.
    pub rates: Rates,
    /// Builds at once; the number of processors unless set.
    pub concurrency: usize,
    /// Builds that may wait, in all.
    pub queue: usize,
    /// Builds of one owner that may wait.
    pub queue_per_owner: usize,
    /// Builds of one owner at once; one less than `concurrency` unless set.
    pub running_per_owner: Option<usize>,
    /// From an attempt's start to the pushed image.
    #[serde(deserialize_with = "duration")]
    pub deadline: Duration,
    /// How long a build waits for an engine that doesn't answer.
    #[serde(deserialize_with = "duration")]
    pub queue_deadline: Duration,
    /// How long running builds may go on after a stop signal.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
    /// Below so many free bytes under `data_dir` no build is accepted.
    pub min_free: u64,
    /// The bytes of one build's log.
    pub log: u64,
    /// How long finished builds are kept.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
    /// How old an image may be that answers for an identical request.
    #[serde(deserialize_with = "duration")]
    pub image_age: Duration,
}

/// How often something may be asked for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Builds, by each user.
    pub submit: Rate,
    /// Questions, by each user.
    pub read: Rate,
    /// Logs, by each user.
    pub stream: Rate,
    /// Attempts to prove who calls that fail, from each address.
    pub failures: Rate,
}

impl Limits {
    /// Builds of one owner at once. A place is left to others where there are two, so that nobody
    /// holds all of them with long builds.
    #[must_use]
    pub fn running_per_owner(&self) -> usize {
        self.running_per_owner.unwrap_or(self.concurrency.max(2) - 1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 1_024,
            requests_per_owner: 64,
            streams: 1_024,
            streams_per_owner: 64,
            archives: 64,
            archives_per_address: 16,
            unproved: 16 << 30,
            unproved_per_address: 8 << 30,
            lookups: 256,
            lookups_per_address: 64,
            trusted_proxies: TrustedProxies::default(),
            rates: Rates::default(),
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            queue: 10_000,
            queue_per_owner: 100,
            running_per_owner: None,
            deadline: Duration::from_secs(30 * 60),
            queue_deadline: Duration::from_secs(30 * 60),
            drain: Duration::from_secs(25),
            min_free: 512 << 20,
            log: 64 << 20,
            retention: Duration::from_secs(7 * 24 * 3600),
            image_age: Duration::from_secs(24 * 3600),
        }
    }
}

impl Default for Rates {
    /// Beyond what a person or a pipeline does, so that only floods meet them: builds are bounded by
    /// the queue, and a client that asks for states every 20 ms is let through.
    fn default() -> Self {
        Self {
            submit: Rate::of(600, 600),
            read: Rate::of(12_000, 6_000),
            stream: Rate::of(6_000, 1_000),
            failures: Rate::of(120, 600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_leaves_a_place_to_others_where_there_are_two() {
        for (concurrency, set, want) in [(1, None, 1), (2, None, 1), (8, None, 7), (8, Some(8), 8), (8, Some(1), 1)] {
            let limits = Limits { concurrency, running_per_owner: set, ..Limits::default() };
            assert_eq!(limits.running_per_owner(), want, "{concurrency} {set:?}");
        }
    }

    #[test]
    fn rates_and_proxies_are_read_and_mistakes_in_them_refused() {
        let read = |text: &str| toml::from_str::<Limits>(text);
        assert!(read("trusted_proxies = [\"10.0.0.0/8\"]\n[rates]\nsubmit = { per_minute = 1, burst = 1 }").is_ok());
        for bad in [
            "trusted_proxies = [\"proxy\"]",
            "[rates]\nsubmit = { per_minute = 0, burst = 1 }",
            "[rates]\nwrite = { per_minute = 1, burst = 1 }",
            "requests_per_user = 1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
