//! The last lines of a log, as many as a page has room for.

use std::collections::VecDeque;

use super::shown;
use crate::log::{Record, RecordKind};

/// How much of a log a page has at once, bytes of HTML.
const ROOM: usize = 28 * 1024;
/// The longest line, bytes as they were written and bytes of HTML; what goes on beyond is left out.
const LINE: usize = 4 * 1024;
const SHOWN: usize = 2 * 1024;
/// What the marks around a line take.
const MARKS: usize = 48;

/// Lines, the last ones.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Line>,
    room: usize,
    /// What was written of a line that goes on.
    open: Vec<u8>,
    /// The step that wrote last.
    step: u32,
    /// Whether lines before these were left out.
    pub(super) cut: bool,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// What it is: output, or `step`, `error`, or a word of the log's own.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

impl Tail {
    pub(super) fn take(&mut self, record: &Record) {
        let text = || String::from_utf8_lossy(&record.bytes);
        match record.kind {
            RecordKind::Stdout | RecordKind::Stderr => self.output(record),
            RecordKind::Step => self.say("step", record.step, &text()),
            RecordKind::StepCached => self.say("note", record.step, "from the cache"),
            RecordKind::StepFailed => self.say("error", record.step, &text()),
            RecordKind::Attempt if record.bytes.as_ref() == b"1" => {}
            RecordKind::Attempt => self.say("note", 0, &format!("attempt {}", text())),
            RecordKind::Warning => self.say("warning", 0, &text()),
            RecordKind::Note | RecordKind::Clipped => self.say("note", record.step, &text()),
            RecordKind::End => self.say("end", 0, &text()),
            RecordKind::StepDone => {}
        }
    }

    /// All lines, and the one that goes on, by the step that writes it.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        let open = (!self.open.is_empty()).then(|| line("output", &self.open));
        self.lines.iter().cloned().chain(open)
    }

    /// Whether the last line goes on.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The step that wrote last, for who goes on.
    pub(super) fn step(&self) -> u32 {
        self.step
    }

    fn output(&mut self, record: &Record) {
        if record.step != self.step {
            self.close();
            self.step = record.step;
            self.push(Line { kind: "step", text: format!("#{}", record.step) });
        }
        let mut pieces = record.bytes.split(|byte| *byte == b'\n');
        // What comes before the first line feed goes on with what is there.
        self.more(pieces.next().unwrap_or_default());
        for piece in pieces {
            let open = std::mem::take(&mut self.open);
            self.push(line("output", &open));
            self.more(piece);
        }
    }

    fn more(&mut self, piece: &[u8]) {
        let left = LINE.saturating_sub(self.open.len());
        self.open.extend_from_slice(&piece[..piece.len().min(left)]);
    }

    /// A line of the log's own.
    fn say(&mut self, kind: &'static str, step: u32, text: &str) {
        self.close();
        if step != 0 {
            self.step = step;
        }
        let text = if step == 0 { text.to_owned() } else { format!("#{step} {text}") };
        self.push(Line { kind, text: shown::line(&text, SHOWN) });
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            self.push(line("output", &open));
        }
    }

    fn push(&mut self, line: Line) {
        self.room += line.room();
        self.lines.push_back(line);
        while self.room > ROOM {
            let Some(first) = self.lines.pop_front() else { break };
            self.room -= first.room();
            self.cut = true;
        }
    }
}

impl Line {
    fn room(&self) -> usize {
        shown::room_of(&self.text) + MARKS
    }
}

fn line(kind: &'static str, bytes: &[u8]) -> Line {
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes));
    // A bar that draws itself anew says last what counts.
    let text = text.rsplit('\r').next().unwrap_or_default();
    Line { kind, text: shown::line_of_output(text, SHOWN) }
}

#[cfg(test)]
mod tests {
    use super::{super::outline::tests::record, *};

    fn lines(records: &[(RecordKind, u32, &str)]) -> Vec<String> {
        let mut tail = Tail::default();
        for (at, (kind, step, text)) in records.iter().enumerate() {
            tail.take(&record(at as u64 + 1, *kind, *step, text));
        }
        tail.lines().map(|line| format!("{}: {}", line.kind, line.text)).collect()
    }

    #[test]
    fn output_is_lines_however_it_was_cut_and_says_which_step_wrote_it() {
        use RecordKind::{Attempt, End, Stderr, Stdout, Step, StepCached, StepDone, StepFailed};
        let shown = lines(&[
            (Attempt, 0, "1"),
            (Step, 1, "FROM base"),
            (StepCached, 1, ""),
            (Step, 2, "RUN make"),
            (Stdout, 2, "one\ntw"),
            (Stderr, 2, "o\n 10%\r 20%\r\n"),
            (Stdout, 3, "\u{1b}[31mthree"),
            (Stdout, 2, "\tfour\n"),
            (StepDone, 3, ""),
            (StepFailed, 2, "exit 1"),
            (End, 0, "failed: StepFailed"),
        ]);
        let expected = [
            "step: #1 FROM base",
            "note: #1 from the cache",
            "step: #2 RUN make",
            "output: one",
            "output: two",
            "output:  20%",
            "step: #3",
            "output: three",
            "step: #2",
            "output: \tfour",
            "error: #2 exit 1",
            "end: failed: StepFailed",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn characters_cut_between_records_are_whole_and_a_line_that_goes_on_is_shown() {
        let mut tail = Tail::default();
        let (first, second) = "grün".as_bytes().split_at(3);
        for (seq, bytes) in [(1, first), (2, second)] {
            let mut record = record(seq, RecordKind::Stdout, 4, "");
            record.bytes = bytes.to_vec().into();
            tail.take(&record);
        }
        assert_eq!(tail.lines().last().map(|line| line.text), Some("grün".to_owned()));
        assert_eq!(tail.step(), 4);
    }

    #[test]
    fn the_last_lines_are_kept_and_no_line_is_longer_than_a_page_has_room_for() {
        for text in ["<\n".repeat(100_000), "<".repeat(1 << 20), "\n".repeat(1 << 20)] {
            let mut tail = Tail::default();
            tail.take(&record(1, RecordKind::Stdout, 1, &text));
            tail.take(&record(2, RecordKind::Stdout, 1, "\nlast\n"));
            let lines: Vec<_> = tail.lines().collect();
            let room: usize = lines.iter().map(Line::room).sum();
            assert!(room <= ROOM, "{room}");
            assert_eq!(lines.last().map(|line| line.text.as_str()), Some("last"));
        }
    }
}
