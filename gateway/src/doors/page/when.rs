//! Times and durations, for people.

use jiff::{SignedDuration, Timestamp};

/// A moment as a page shows it.
#[derive(Debug)]
pub(super) struct Moment {
    /// For machines.
    pub(super) exact: String,
    /// For who points at it.
    pub(super) absolute: String,
    /// As the page says it.
    pub(super) ago: String,
}

impl Moment {
    pub(super) fn of(time: Timestamp, now: Timestamp) -> Self {
        Self {
            exact: time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            absolute: time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            ago: ago(now.duration_since(time)),
        }
    }
}

/// As the page's script says it, too.
fn ago(passed: SignedDuration) -> String {
    match passed.as_secs() {
        ..10 => "just now".to_owned(),
        seconds @ 10..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// How long something took.
pub(super) fn took(duration: SignedDuration) -> String {
    let millis = duration.as_millis().max(0);
    match millis {
        ..1000 => format!("{millis} ms"),
        1000..10_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        10_000..60_000 => format!("{} s", millis / 1000),
        60_000..3_600_000 => format!("{} min {:02} s", millis / 60_000, millis / 1000 % 60),
        millis => format!("{} h {:02} min", millis / 3_600_000, millis / 60_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_exact_as_people_want_them() {
        for (seconds, shown) in [
            (-5, "just now"),
            (9, "just now"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (7199, "1 h ago"),
            (90_000, "1 d ago"),
        ] {
            assert_eq!(ago(SignedDuration::from_secs(seconds)), shown);
        }
        for (millis, shown) in [
            (-1, "0 ms"),
            (999, "999 ms"),
            (1250, "1.2 s"),
            (59_999, "59 s"),
            (65_000, "1 min 05 s"),
            (3_723_000, "1 h 02 min"),
        ] {
            assert_eq!(took(SignedDuration::from_millis(millis)), shown);
        }
        let moment = Moment::of(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (moment.exact.as_str(), moment.absolute.as_str()),
            ("1970-01-01T00:00:00Z", "1970-01-01 00:00:00 UTC")
        );
    }
}
