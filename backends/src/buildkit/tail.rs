//! The last lines that a step wrote, fit to be shown: without colours, cursor movements and other
//! control characters.

use std::collections::VecDeque;

/// As many lines as a failure shows.
const LINES: usize = 20;
/// Characters of a line that are kept.
const WIDTH: usize = 500;

/// Collects output as it comes, in a bounded space.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    current: Vec<u8>,
    state: State,
}

/// Where in an escape sequence, or after a carriage return, the output stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Text,
    Escape,
    /// `ESC [ … letter`: colours and cursor movements.
    Control,
    /// `ESC ] … BEL`: window titles and links.
    Command,
    /// A carriage return that may belong to a line's end.
    Return,
}

impl Tail {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.byte(byte);
        }
    }

    /// The lines so far, the unfinished one too.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        if let Some(line) = shown(&self.current) {
            lines.push_back(line);
        }
        lines.into_iter().rev().take(LINES).rev().collect()
    }

    fn byte(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Escape, b'[') => State::Control,
            (State::Escape, b']') => State::Command,
            (State::Escape, _) => State::Text,
            (State::Control, b'@'..=b'~') => State::Text,
            (State::Control, b'\n') => self.end_line(),
            (State::Control, _) => State::Control,
            (State::Command, 0x07 | b'\n') => State::Text,
            (State::Command, 0x1b) => State::Escape,
            (State::Command, _) => State::Command,
            (State::Text | State::Return, b'\n') => self.end_line(),
            (State::Text | State::Return, b'\r') => State::Return,
            (State::Text | State::Return, 0x1b) => State::Escape,
            (before, byte) => {
                if before == State::Return {
                    // What was there is written over: a progress bar.
                    self.current.clear();
                }
                // A character has four bytes at most.
                if self.current.len() < WIDTH * 4 && (byte >= b' ' || byte == b'\t') {
                    self.current.push(byte);
                }
                State::Text
            }
        };
    }

    fn end_line(&mut self) -> State {
        if let Some(line) = shown(&self.current) {
            self.lines.push_back(line);
            if self.lines.len() > LINES {
                self.lines.pop_front();
            }
        }
        self.current.clear();
        State::Text
    }
}

/// A line for people; empty ones aren't shown.
fn shown(line: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(line)
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(WIDTH)
        .collect();
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::default();
        chunks.iter().for_each(|chunk| tail.write(chunk));
        tail.lines()
    }

    #[test]
    fn colours_titles_and_progress_bars_leave_plain_lines() {
        assert_eq!(lines(&[b"\x1b[31mred\x1b[0m\n"]), ["red"]);
        assert_eq!(lines(&[b"\x1b]0;title\x07text"]), ["text"]);
        assert_eq!(lines(&[b" 10%\r 50%\r100%\r\ndone\r\n"]), ["100%", "done"]);
        assert_eq!(lines(&[b"a\x00b\x08c\td\n\n\n"]), ["abc d"]);
    }

    #[test]
    fn chunks_may_end_within_a_character_or_an_escape() {
        assert_eq!(lines(&[b"gr\xc3", b"\xbcn \x1b", b"[3", b"2mx\n"]), ["grün x"]);
        assert_eq!(lines(&[b"bad \xff byte"]), ["bad \u{fffd} byte"]);
    }

    #[test]
    fn only_the_end_is_kept() {
        let many: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let kept = lines(&[many.as_bytes()]);
        assert_eq!((kept.len(), kept[0].as_str(), kept[19].as_str()), (LINES, "line 980", "line 999"));
        assert_eq!(lines(&["ü".repeat(5000).as_bytes()])[0].chars().count(), WIDTH);
    }
}
