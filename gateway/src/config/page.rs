//! The page for people.

use std::time::Duration;

use serde::Deserialize;

use super::time;

/// The page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    /// Whether there is one.
    pub enabled: bool,
    /// How long somebody stays signed in.
    #[serde(deserialize_with = "time::duration")]
    pub session: Duration,
}

impl Default for Page {
    fn default() -> Self {
        // A working day.
        Self { enabled: true, session: Duration::from_secs(12 * 3600) }
    }
}
