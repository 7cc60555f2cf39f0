//! A build's log in the lines that the builders answer with.

use std::collections::HashMap;

use jiff::Timestamp;

use super::dialect::Dialect;
use crate::log::{Record, RecordKind};

/// Turns records into lines. A step's end names the step and when it began, so those are kept.
#[derive(Debug)]
pub(super) struct Lines {
    /// Of-builder marks what a line is of: a step, or its output.
    marked: bool,
    begun: HashMap<u32, (Timestamp, String)>,
}

impl Lines {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { marked: dialect != Dialect::Pro, begun: HashMap::new() }
    }

    /// The line for a record, if it has one. Of-builder leaves output its line feeds.
    pub(super) fn line(&mut self, record: &Record) -> Option<String> {
        let text = || String::from_utf8_lossy(&record.bytes).into_owned();
        let (step, output) = if self.marked { ("v: ", "l: ") } else { ("", "") };
        match record.kind {
            RecordKind::Step => {
                let name = text();
                let line = format!("{step}{} {name}", time(record.time));
                self.begun.insert(record.step, (record.time, name));
                Some(line)
            }
            RecordKind::StepDone | RecordKind::StepCached | RecordKind::StepFailed => {
                let (begun, name) = self.begun.remove(&record.step)?;
                let took = record.time.duration_since(begun).as_secs_f64();
                Some(format!("{step}{} {name} {took:.2}s", time(begun)))
            }
            RecordKind::Stdout | RecordKind::Stderr => {
                let text = text();
                let text = if self.marked { &text } else { text.trim_end_matches('\n') };
                Some(format!("{output}{} {text}", time(record.time)))
            }
            // The real ones drop these, and leave their callers to guess.
            RecordKind::Warning => Some(format!("{output}{} warning: {}", time(record.time), text())),
            RecordKind::Note | RecordKind::Clipped => Some(format!("{output}{} {}", time(record.time), text())),
            RecordKind::Attempt | RecordKind::End => None,
        }
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_output_come_as_of_builder_writes_them() {
        let record = |millis: i64, kind, step, bytes: &'static str| Record {
            seq: 1,
            time: Timestamp::from_millisecond(1_795_219_200_000 + millis).unwrap(),
            kind,
            step,
            bytes: bytes.into(),
        };
        let records = [
            record(0, RecordKind::Attempt, 0, "1"),
            record(0, RecordKind::Step, 1, "[1/2] FROM scratch"),
            record(1_250, RecordKind::Stdout, 1, "one\n"),
            record(1_250, RecordKind::StepDone, 1, ""),
            record(2_000, RecordKind::Warning, 0, "no"),
            record(2_000, RecordKind::End, 0, "succeeded"),
        ];
        let lines = |dialect| {
            let mut lines = Lines::new(dialect);
            records.iter().filter_map(|record| lines.line(record)).collect::<Vec<_>>()
        };
        let want = [
            "v: 2026-11-21T00:00:00Z [1/2] FROM scratch",
            "l: 2026-11-21T00:00:01Z one\n",
            "v: 2026-11-21T00:00:00Z [1/2] FROM scratch 1.25s",
            "l: 2026-11-21T00:00:02Z warning: no",
        ];
        assert_eq!(lines(Dialect::OfBuilder), want);
        assert_eq!(lines(Dialect::Pro), want.map(|line| line[3..].trim_end()));
    }
}
