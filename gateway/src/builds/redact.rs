//! Takes out of what a build says what nobody else should read: passwords in URLs, since package managers
//! repeat the index they were given, and the build's own secrets, which a step may print.

use bytes::Bytes;
use kiln_backends::{FailedStep, Failure};
use secrecy::{ExposeSecret as _, zeroize::Zeroizing};

use crate::sealed::Secrets;

const MASK: &[u8] = b"***";

/// Shorter ones would take half of the log with them, and can be guessed.
const LEAST: usize = 4;

/// What is taken out of one build's words.
///
/// Output comes in chunks; a password or secret that two chunks share is not seen.
#[derive(Default)]
pub(super) struct Redactor {
    /// Secrets of one line: they may stand anywhere. Long ones first, for one may hold another.
    words: Vec<Zeroizing<Vec<u8>>>,
    /// The lines of the others, sorted: `cat` prints them as they are.
    lines: Vec<Zeroizing<Vec<u8>>>,
}

impl Redactor {
    /// A redactor for a build with these secrets.
    pub(super) fn of(secrets: &Secrets) -> Self {
        let mut redactor = Self::default();
        for secret in secrets.values() {
            let text = secret.expose_secret().trim_ascii();
            let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let lines = lines.filter(|line| line.len() >= LEAST).map(|line| Zeroizing::new(line.to_vec()));
            let kept = if text.contains(&b'\n') { &mut redactor.lines } else { &mut redactor.words };
            kept.extend(lines);
        }
        redactor.words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
        redactor.lines.sort_unstable_by(|one, other| one.as_slice().cmp(other.as_slice()));
        redactor
    }

    /// `text` without what isn't to be read.
    pub(super) fn bytes(&self, text: Bytes) -> Bytes {
        let text = without(text, password);
        let text = self.words.iter().fold(text, |text, word| {
            let finder = memchr::memmem::Finder::new(word.as_slice());
            without(text, |rest| finder.find(rest).map(|from| (from, from + word.len())))
        });
        if self.lines.is_empty() { text } else { without(text, |rest| self.line(rest)) }
    }

    /// The same for text.
    pub(super) fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(Bytes::copy_from_slice(text.as_bytes()))).into_owned()
    }

    /// The same for a failure's sentence, and its step's name and last lines.
    pub(super) fn failure(&self, failure: Failure) -> Failure {
        let tail = |step: &FailedStep| step.tail.iter().map(|line| self.text(line)).collect();
        let step = failure.step.map(|step| FailedStep { name: self.text(&step.name), tail: tail(&step), ..step });
        Failure { message: self.text(&failure.message), step, ..failure }
    }

    /// Where the first line of a secret begins and ends.
    fn line(&self, text: &[u8]) -> Option<(usize, usize)> {
        let mut from = 0;
        for line in text.split(|byte| *byte == b'\n') {
            let bare = line.trim_ascii();
            if self.lines.binary_search_by(|kept| kept.as_slice().cmp(bare)).is_ok() {
                let start = from + (line.len() - line.trim_ascii_start().len());
                return Some((start, start + bare.len()));
            }
            from += line.len() + 1;
        }
        None
    }
}

/// Masks what `find` finds.
fn without(text: Bytes, find: impl Fn(&[u8]) -> Option<(usize, usize)>) -> Bytes {
    let Some(mut found) = find(&text) else { return text };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = &text[..];
    loop {
        out.extend_from_slice(&rest[..found.0]);
        out.extend_from_slice(MASK);
        rest = &rest[found.1..];
        match find(rest) {
            Some(next) => found = next,
            None => break,
        }
    }
    out.extend_from_slice(rest);
    out.into()
}

/// Where the first password of a `scheme://user:password@host` begins and ends.
fn password(text: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    while let Some(found) = text[at..].windows(3).position(|window| window == b"://") {
        let start = at + found + 3;
        let end = text[start..].iter().position(|byte| ends_authority(*byte)).map_or(text.len(), |end| start + end);
        let authority = &text[start..end];
        // The last @, as URL parsers have it: a password may hold one.
        if let Some(sign) = authority.iter().rposition(|byte| *byte == b'@')
            && let Some(colon) = authority[..sign].iter().position(|byte| *byte == b':')
            && &authority[colon + 1..sign] != MASK
        {
            return Some((start + colon + 1, start + sign));
        }
        at = start;
    }
    None
}

fn ends_authority(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/\\\"'<>?#`".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_and_all_else_stays() {
        for (said, shown) in [
            (
                "The \"http://alice:S3cret@127.0.0.1:9/packages.json\" file",
                "The \"http://alice:***@127.0.0.1:9/packages.json\" file",
            ),
            ("--index-url https://a:p:ss@h/simple https://b:q@h", "--index-url https://a:***@h/simple https://b:***@h"),
            ("https://a:p@ss@h/", "https://a:***@h/"),
            ("https://token@h/ and https://h:443/a:b@c", "https://token@h/ and https://h:443/a:b@c"),
            ("no url: a:b@c", "no url: a:b@c"),
            ("https://a:***@h", "https://a:***@h"),
            ("ünïcode https://a:p@h ünïcode", "ünïcode https://a:***@h ünïcode"),
            ("://", "://"),
        ] {
            assert_eq!(Redactor::default().text(said), shown);
        }
    }

    #[test]
    fn a_failures_every_word_is_read() {
        let said = "echo https://alice:S3cretPW@h".to_owned();
        let step = FailedStep { name: said.clone(), exit_code: None, line: None, tail: vec![said.clone()] };
        let failure = Failure { step: Some(step), ..Failure::new(kiln_backends::Reason::StepFailed, said) };
        let shown = format!("{:?}", Redactor::default().failure(failure));
        assert_eq!((shown.matches("alice:***@h").count(), shown.contains("S3cretPW")), (3, false), "{shown}");
    }

    #[test]
    fn a_builds_secrets_go_wherever_they_stand() {
        let secrets = [
            ("token", "t0ken\n"),
            ("longer", "t0ken-and-more"),
            ("short", "abc"),
            ("file", "-----BEGIN-----\n  a2V5\n\nend\n"),
            ("empty", ""),
        ];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec().into()));
        let redactor = Redactor::of(&secrets.into());
        for (said, shown) in [
            ("+ curl -H t0ken; t0ken", "+ curl -H ***; ***"),
            ("t0ken-and-more", "***"),
            ("abc and end", "abc and end"),
            ("-----BEGIN-----\n  a2V5\r\n\nend\n", "***\n  ***\r\n\nend\n"),
            ("a2V5 in a line of others", "a2V5 in a line of others"),
            ("https://u:t0ken@h", "https://u:***@h"),
        ] {
            assert_eq!(redactor.text(said), shown);
        }
        assert_eq!(redactor.bytes(Bytes::from_static(b"\xff t0ken \xfe")), &b"\xff *** \xfe"[..]);
    }
}
