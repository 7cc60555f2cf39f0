//! What a page shows of a log: the steps of its last attempt with their times, and its last lines. Read once,
//! and kept within bounds however long the log is.

use std::{collections::VecDeque, io};

use jiff::Timestamp;

use super::{shown, tail::Tail};
use crate::log::{Reader, Record, RecordKind};

/// The steps that are kept: the last ones.
const STEPS: usize = 60;
/// How much of a step's name is shown, bytes of HTML.
const NAME: usize = 200;

/// A log, as far as a page shows it.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) steps: VecDeque<Step>,
    /// How many steps came before these.
    pub(super) steps_before: usize,
    pub(super) tail: Tail,
    /// The last record's number.
    pub(super) seen: u64,
}

/// A step of the last attempt.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) began: Timestamp,
    pub(super) end: Option<(Timestamp, End)>,
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Done,
    Cached,
    Failed,
    /// With the build.
    Stopped,
}

impl Outline {
    /// Reads a log to its end.
    pub(super) async fn read(mut reader: Reader) -> io::Result<Self> {
        let mut outline = Self::default();
        while let Some(record) = reader.next().await? {
            outline.take(&record);
        }
        Ok(outline)
    }

    fn take(&mut self, record: &Record) {
        self.seen = record.seq;
        self.tail.take(record);
        match record.kind {
            // Whatever the one before it left is begun again.
            RecordKind::Attempt => {
                self.steps.clear();
                self.steps_before = 0;
            }
            RecordKind::Step => self.begin(record),
            RecordKind::StepDone => self.end(record, End::Done),
            RecordKind::StepCached => self.end(record, End::Cached),
            RecordKind::StepFailed => self.end(record, End::Failed),
            RecordKind::End => {
                for step in self.steps.iter_mut().filter(|step| step.end.is_none()) {
                    step.end = Some((record.time, End::Stopped));
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, record: &Record) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
            self.steps_before += 1;
        }
        let name = shown::line(&brief(&String::from_utf8_lossy(&record.bytes)), NAME);
        self.steps.push_back(Step { number: record.step, name, began: record.time, end: None });
    }

    fn end(&mut self, record: &Record, how: End) {
        if let Some(step) = self.steps.iter_mut().rev().find(|step| step.number == record.step) {
            step.end = Some((record.time, how));
        }
    }
}

/// A name whose digests are as long as tells them apart: it says more in the same room.
fn brief(name: &str) -> String {
    const SHOWN: usize = 7;
    const LENGTH: usize = 64;
    let mut parts = name.split("@sha256:");
    let mut brief = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (digest, rest) = part.split_at(digits);
        let is_digest = digits == LENGTH;
        brief.push_str("@sha256:");
        brief.push_str(if is_digest { &digest[..SHOWN] } else { digest });
        brief.push_str(if is_digest { "…" } else { "" });
        brief.push_str(rest);
    }
    brief
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn record(seq: u64, kind: RecordKind, step: u32, text: &str) -> Record {
        let time = Timestamp::from_second(i64::try_from(seq).unwrap()).unwrap();
        Record { seq, time, kind, step, bytes: text.to_owned().into() }
    }

    #[test]
    fn steps_are_those_of_the_last_attempt_and_end_with_the_build() {
        let mut outline = Outline::default();
        for (at, (kind, step, text)) in [
            (RecordKind::Attempt, 0, "1"),
            (RecordKind::Step, 1, "lost"),
            (RecordKind::Attempt, 0, "2"),
            (RecordKind::Step, 1, "FROM"),
            (RecordKind::StepCached, 1, ""),
            (RecordKind::Step, 2, "RUN \u{1b}[1mx"),
            (RecordKind::Step, 3, "COPY"),
            (RecordKind::StepFailed, 2, "exit 1"),
            (RecordKind::End, 0, "failed"),
        ]
        .into_iter()
        .enumerate()
        {
            outline.take(&record(at as u64 + 1, kind, step, text));
        }
        let steps: Vec<_> = outline.steps.iter().map(|step| (step.name.as_str(), step.end.map(|end| end.1))).collect();
        let expected = [("FROM", Some(End::Cached)), ("RUN x", Some(End::Failed)), ("COPY", Some(End::Stopped))];
        assert_eq!((steps.as_slice(), outline.seen), (&expected[..], 9));
    }

    #[test]
    fn digests_are_brief_and_all_else_is_whole() {
        let digest = "0123456789abcdef".repeat(4);
        for (name, shown) in [
            (format!("FROM a@sha256:{digest} AS b"), "FROM a@sha256:0123456… AS b"),
            (format!("a@sha256:{digest}, c@sha256:{digest}"), "a@sha256:0123456…, c@sha256:0123456…"),
            ("a@sha256:0123456789".to_owned(), "a@sha256:0123456789"),
            ("a@sha256:é".to_owned(), "a@sha256:é"),
            ("RUN x".to_owned(), "RUN x"),
        ] {
            assert_eq!(brief(&name), shown);
        }
    }

    #[test]
    fn of_very_many_steps_the_last_ones_are_kept() {
        let mut outline = Outline::default();
        for number in 1..=1000 {
            outline.take(&record(number, RecordKind::Step, u32::try_from(number).unwrap(), &"<".repeat(5000)));
        }
        assert_eq!((outline.steps.len(), outline.steps_before), (STEPS, 1000 - STEPS));
        assert!(outline.steps.iter().all(|step| shown::room_of(&step.name) <= NAME));
    }
}
