//! Include and exclude patterns with the meaning they have in BuildKit's own client: those of
//! `.dockerignore`, matched against slash-separated paths.

use regex::{Regex, RegexBuilder};

/// A compiled pattern may take this much; one line of a `.dockerignore` needs a few KiB.
const COMPILED_LIMIT: usize = 1 << 20;

/// Patterns in order; a later one with `!` takes back what an earlier one matched.
#[derive(Debug)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    exception: bool,
    regex: Regex,
}

/// Which patterns matched a folder; what lies in it starts from there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matched(Vec<bool>);

/// A pattern can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {0:?} can't be understood")]
pub(crate) struct InvalidPattern(String);

// === impl Patterns ===

impl Patterns {
    pub(crate) fn new<S: AsRef<str>>(lines: &[S]) -> Result<Self, InvalidPattern> {
        let mut patterns = Vec::with_capacity(lines.len());
        for line in lines.iter().map(|line| line.as_ref().trim()).filter(|line| !line.is_empty()) {
            let cleaned = clean(line);
            let (exception, pattern) = match cleaned.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, cleaned.as_str()),
            };
            let invalid = || InvalidPattern(line.to_owned());
            if pattern.is_empty() {
                return Err(invalid());
            }
            patterns.push(Pattern { exception, regex: glob(pattern).ok_or_else(invalid)? });
        }
        Ok(Self(patterns))
    }

    /// Whether something in a folder that matches may not match.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.0.iter().any(|pattern| pattern.exception)
    }

    /// Whether `path` matches, given what its folder matched.
    pub(crate) fn matches(&self, path: &str, parent: &Matched) -> (bool, Matched) {
        let mut matched = false;
        let mut each = vec![false; self.0.len()];
        for (index, pattern) in self.0.iter().enumerate() {
            let inherited = parent.0.get(index).copied().unwrap_or(false);
            // A pattern that couldn't change the answer isn't tried, so its own entry stays false:
            // that is how the original behaves, and what lies below depends on it.
            each[index] = inherited || (pattern.exception == matched && pattern.regex.is_match(path));
            if each[index] {
                matched = !pattern.exception;
            }
        }
        (matched, Matched(each))
    }
}

/// One pattern, whatever it begins with; `None` if it can't be understood.
pub(crate) fn glob(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(&expression(pattern)?).dot_matches_new_line(true).size_limit(COMPILED_LIMIT).build().ok()
}

/// `path` without `.`, `..` and doubled slashes, as Go's `filepath.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The regular expression of a pattern: `*` and `?` stay within a name, `**` crosses folders.
fn expression(pattern: &str) -> Option<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::from("^");
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        match c {
            '*' if chars.get(at) == Some(&'*') => {
                let first = at == 1;
                at += 1;
                if chars.get(at) == Some(&'/') {
                    at += 1;
                }
                // A leading `**` before plain text takes part of a name too, as in `**.go`.
                let plain = first && chars[at - 1] == '*' && !chars[at..].iter().any(|c| "*?[]\\".contains(*c));
                out.push_str(if plain || at == chars.len() { ".*" } else { "(.*/)?" });
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' => at = class(&chars, at, &mut out)?,
            '\\' => {
                out.push_str(&regex::escape(&chars.get(at)?.to_string()));
                at += 1;
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    Some(out)
}

/// A class such as `[a-z]` or `[^0-9]`, with everything else in it taken literally.
fn class(chars: &[char], mut at: usize, out: &mut String) -> Option<usize> {
    out.push('[');
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let mut empty = true;
    loop {
        let c = *chars.get(at)?;
        at += 1;
        match c {
            ']' if empty => return None,
            ']' => break,
            '-' => {
                // Only between two characters: the grammar has no other place for it.
                if empty || matches!(chars.get(at)?, ']') {
                    return None;
                }
                out.push('-');
            }
            '\\' => {
                out.push_str(&regex::escape(&chars.get(at)?.to_string()));
                at += 1;
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
        empty = false;
    }
    out.push(']');
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks down to `path` as a filter does, each folder handing on what it matched.
    fn matches(patterns: &[&str], path: &str) -> bool {
        let patterns = Patterns::new(patterns).unwrap();
        let mut parent = Matched::default();
        let mut result = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (result, parent) = patterns.matches(&path[..end], &parent);
        }
        result
    }

    #[test]
    fn patterns_mean_what_they_mean_in_a_dockerignore() {
        for (patterns, path, expected) in [
            (&["**"][..], "file", true),
            (&["**"], "dir/file", true),
            (&["**/"], "dir/file", true),
            (&["**/**"], "dir/file", true),
            (&["dir/**"], "dir/file", true),
            (&["dir/**"], "dir/dir2/file", true),
            (&["**/dir"], "dir", true),
            (&["**/dir"], "a/b/dir", true),
            (&["**/dir2/*"], "dir/dir2/file", true),
            (&["**/dir2/*"], "dir/dir2/dir2/file", true),
            (&["**file"], "file", true),
            (&["**file"], "dir/file", true),
            (&["**.go"], "a/b/x.go", true),
            (&["**/file*txt"], "dir/dir/file.txt", true),
            (&["dir/*/file"], "dir/a/b/file", false),
            (&["*"], "dir/file", true),
            (&["*.txt"], "a.txt", true),
            (&["*.txt"], "dir/a.txt", false),
            (&["a?c"], "abc", true),
            (&["a?c"], "a/c", false),
            (&["[a-c].txt"], "b.txt", true),
            (&["[^a-c].txt"], "b.txt", false),
            (&["a[[&]b"], "a&b", true),
            (&["a\\*b"], "a*b", true),
            (&["a\\*b"], "axb", false),
            (&["a.c"], "abc", false),
            (&["a$b(c)"], "a$b(c)", true),
            (&["./a/../b"], "b", true),
            (&["dir"], "dir/deep/file", true),
            (&["dir", "!dir/keep"], "dir/keep", false),
            (&["dir", "!dir/keep"], "dir/other", true),
            (&["**", "!util/docker/web"], "util/docker/web/foo", false),
            (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
            (&["*.md", "!README.md"], "README.md", false),
            (&["  spaced  "], "spaced", true),
            (&["ünï/*"], "ünï/cödé", true),
        ] {
            assert_eq!(matches(patterns, path), expected, "{patterns:?} on {path:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_and_never_panics() {
        for bad in ["[", "[]", "[a", "[-a]", "[a-]", "a\\", "!", "[z-a]"] {
            assert!(Patterns::new(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_cleaned_as_go_does() {
        for (path, cleaned) in
            [("", "."), ("a/../..", ".."), ("/../a", "/a"), ("a//b/./c/..", "a/b"), ("../a", "../a"), ("/", "/")]
        {
            assert_eq!(clean(path), cleaned, "{path:?}");
        }
    }
}
