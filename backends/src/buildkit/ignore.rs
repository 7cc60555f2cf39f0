//! `.dockerignore`, read as BuildKit's frontend reads it, for who sends a folder and needn't send all of it.

use super::pattern::{InvalidPattern, Matched, Patterns, clean};

/// Text editors of another system begin a file with it.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What an ignore file says.
#[derive(Debug)]
pub struct IgnoreFile(Patterns);

/// What is known of a folder, and with it of what lies in it. The default is the root's.
#[derive(Clone, Debug, Default)]
pub struct IgnoredFolder(Matched);

/// A line of an ignore file can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct InvalidIgnoreFile(#[from] InvalidPattern);

impl IgnoreFile {
    /// Reads its lines: `#` begins a comment, `!` an exception, a leading `/` means nothing.
    ///
    /// # Errors
    /// When a pattern can't be understood.
    pub fn parse(text: &str) -> Result<Self, InvalidIgnoreFile> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(pattern).collect();
        Ok(Self(Patterns::new(&lines)?))
    }

    /// Whether `path`, slash-separated from the root, is left out, given its folder.
    #[must_use]
    pub fn ignores(&self, path: &str, folder: &IgnoredFolder) -> (bool, IgnoredFolder) {
        let (ignored, matched) = self.0.matches(path, &folder.0);
        (ignored, IgnoredFolder(matched))
    }

    /// Whether something in a folder that is left out may be sent all the same.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.0.has_exceptions()
    }
}

fn pattern(line: &str) -> String {
    let (mark, rest) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
    if rest.is_empty() {
        return line.to_owned();
    }
    let cleaned = clean(rest);
    let relative = cleaned.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned);
    format!("{mark}{relative}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_frontend_reads_them() {
        let file = IgnoreFile::parse("\u{feff}# a comment\n\n  /target/ \r\n! /target/keep\n.git\n#no\n").unwrap();
        let root = IgnoredFolder::default();
        for (path, ignored) in [("target", true), (".git", true), ("src", false), ("#no", false), ("a comment", false)]
        {
            assert_eq!(file.ignores(path, &root).0, ignored, "{path}");
        }
        let (_, target) = file.ignores("target", &root);
        assert!(!file.ignores("target/keep", &target).0 && file.ignores("target/other", &target).0);
        assert!(file.has_exceptions() && !IgnoreFile::parse("a\nb!").unwrap().has_exceptions());
        assert!(IgnoreFile::parse("[").is_err() && IgnoreFile::parse("!").is_err());
    }
}
