//! Takes passwords out of URLs in what a build says: package managers repeat the index they were given.

use bytes::Bytes;
use kiln_backends::{FailedStep, Failure};

const MASK: &[u8] = b"***";

/// `scheme://user:password@host` without the password, wherever it stands in `text`.
///
/// Output comes in chunks; a password that two chunks share is not seen.
pub(super) fn bytes(text: Bytes) -> Bytes {
    match next(&text) {
        None => text,
        Some(_) => {
            let mut out = Vec::with_capacity(text.len());
            let mut rest = &text[..];
            while let Some((from, to)) = next(rest) {
                out.extend_from_slice(&rest[..from]);
                out.extend_from_slice(MASK);
                rest = &rest[to..];
            }
            out.extend_from_slice(rest);
            out.into()
        }
    }
}

/// The same for text.
pub(super) fn text(text: &str) -> String {
    String::from_utf8_lossy(&bytes(Bytes::copy_from_slice(text.as_bytes()))).into_owned()
}

/// The same for a failure's sentence and last lines.
pub(super) fn failure(failure: Failure) -> Failure {
    let step = failure.step.map(|step| FailedStep { tail: step.tail.iter().map(|line| text(line)).collect(), ..step });
    Failure { message: text(&failure.message), step, ..failure }
}

/// Where the first password begins and ends.
fn next(text: &[u8]) -> Option<(usize, usize)> {
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
            assert_eq!(text(said), shown);
        }
    }
}
