//! `[limits]`: what bounds requests, builds and what is kept of them.

use std::time::Duration;

use serde::Deserialize;

use super::time::duration;

/// Bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Builds at once; the number of processors unless set.
    pub concurrency: usize,
    /// Builds that may wait, in all.
    pub queue: usize,
    /// Builds of one owner that may wait.
    pub queue_per_owner: usize,
    /// Builds of one owner at once; all of `concurrency` unless set.
    pub running_per_owner: Option<usize>,
    /// Requests at once; beyond it they are shed.
    pub requests: usize,
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            queue: 10_000,
            queue_per_owner: 100,
            running_per_owner: None,
            requests: 1_024,
            deadline: Duration::from_secs(30 * 60),
            queue_deadline: Duration::from_secs(30 * 60),
            drain: Duration::from_secs(25),
            min_free: 512 << 20,
            log: 64 << 20,
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
