//! Spans of time as configuration writes them.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, de::Error as _};

/// A span of time as `90s`, `30m`, `25h`, or seconds as a number.
pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    match toml::Value::deserialize(from)? {
        toml::Value::Integer(seconds) => u64::try_from(seconds).map(Duration::from_secs).map_err(D::Error::custom),
        toml::Value::String(text) => {
            let span: jiff::SignedDuration = text.parse().map_err(D::Error::custom)?;
            Duration::try_from(span).map_err(D::Error::custom)
        }
        _ => Err(D::Error::custom("a span of time is a text such as \"30m\" or a number of seconds")),
    }
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}
