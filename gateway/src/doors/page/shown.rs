//! What builds write, made harmless to look at: no terminal's commands, nothing that reorders text, and not
//! longer than there is room for. Escaping for HTML is the templates' business.

use std::borrow::Cow;

use anstream::adapter::strip_str;

/// Stands for the rest of a text.
const MORE: char = '…';

/// A text in a line, of at most `room` bytes of HTML.
pub(super) fn line(text: &str, room: usize) -> String {
    fitting(harmless(text).chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }), room)
}

/// A line that a program wrote: its blanks and tabs stand as they were.
pub(super) fn line_of_output(text: &str, room: usize) -> String {
    fitting(harmless(text).chars(), room)
}

/// A digest, as much of it as tells it from others.
pub(super) fn short(digest: &str) -> String {
    let (algorithm, hash) = digest.split_once(':').unwrap_or_default();
    format!("{algorithm}:{}…", hash.chars().take(12).collect::<String>())
}

fn fitting(letters: impl Iterator<Item = char>, room: usize) -> String {
    let mut plain = String::new();
    let mut left = room;
    for letter in letters {
        let cost = cost(letter);
        if cost + MORE.len_utf8() > left {
            plain.push(MORE);
            break;
        }
        left -= cost;
        plain.push(letter);
    }
    plain
}

/// A text of several lines.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
        return Cow::Borrowed(text);
    }
    let stripped = strip_str(text).to_string().replace("\r\n", "\n");
    Cow::Owned(stripped.chars().map(visible).collect())
}

/// How many bytes a text takes in HTML.
pub(super) fn room_of(text: &str) -> usize {
    text.chars().map(cost).sum()
}

fn cost(letter: char) -> usize {
    match letter {
        // As the templates escape them.
        '<' | '>' | '&' | '"' | '\'' => "&#60;".len(),
        letter => letter.len_utf8(),
    }
}

fn visible(letter: char) -> char {
    match letter {
        '\n' | '\t' => letter,
        // A progress bar's next state is a line of its own.
        '\r' => '\n',
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        // Whoever writes these has the text read in another order than it stands.
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        letter => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_terminal_or_turns_text_around_is_gone() {
        for (text, shown) in [
            ("plain <b>&\"'", "plain <b>&\"'"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://evil.example\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("10%\r20%\r\ndone", "10%\n20%\ndone"),
            ("a\u{202e}b\u{2066}c", "a\u{fffd}b\u{fffd}c"),
            ("tab\tand\nline", "tab\tand\nline"),
            ("é ü 日本", "é ü 日本"),
        ] {
            assert_eq!(harmless(text), shown, "{text:?}");
        }
        for odd in ["\0", "\u{8}", "\u{7f}", "\u{9b}31m", "\u{1b}", "\u{1b}[", "\u{c}", "\u{b}"] {
            let shown = harmless(odd);
            assert!(!shown.chars().any(|letter| letter.is_control()), "{odd:?}: {shown:?}");
        }
    }

    #[test]
    fn a_line_has_one_line_and_fits() {
        assert_eq!(line("a\nb\tc", 100), "a b c");
        assert_eq!(line("<<<<", 15), "<<…");
        for text in ["<".repeat(400), "é".repeat(400), "x".repeat(400)] {
            assert!(room_of(&line(&text, 100)) <= 100);
        }
        assert_eq!(line("abc", 100), "abc");
    }
}
