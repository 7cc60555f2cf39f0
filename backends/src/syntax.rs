//! The `# syntax=` line, by which a Dockerfile asks for another frontend than the engine's own.

use std::{io::Read as _, sync::Arc};

use crate::Tree;

/// The image that the Dockerfile names in its syntax line, in its own words. Reads a few KiB.
pub async fn syntax_of(context: &Arc<Tree>, dockerfile: &str) -> Option<String> {
    /// Directives stand at the very top, in comments.
    const HEAD: u64 = 4096;
    let (context, dockerfile) = (Arc::clone(context), dockerfile.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut head = Vec::new();
        context.get(&dockerfile).map(|entry| context.read(entry).take(HEAD).read_to_end(&mut head));
        head
    });
    let head = read.await.unwrap_or_default();
    syntax(&String::from_utf8_lossy(&head)).map(str::to_owned)
}

fn syntax(head: &str) -> Option<&str> {
    let lines = head.trim_start_matches('\u{feff}').lines().map(str::trim);
    let mut comments = lines.take_while(|line| line.is_empty() || line.starts_with('#') || line.starts_with("//"));
    // What follows the image is for the image.
    Some(comments.find_map(directive)?.split_whitespace().next().unwrap_or_default())
}

/// What `syntax` is set to.
fn directive(line: &str) -> Option<&str> {
    let (name, value) = line.trim_start_matches(['#', '/']).split_once('=')?;
    name.trim().eq_ignore_ascii_case("syntax").then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_line_is_seen_where_the_frontend_would_see_it() {
        for (head, expected) in [
            ("# syntax=docker/dockerfile:1\nFROM x", Some("docker/dockerfile:1")),
            ("#!/usr/bin/env x\n#  Syntax = evil with words\nFROM x", Some("evil")),
            ("// syntax=docker/dockerfile:1\n", Some("docker/dockerfile:1")),
            ("\u{feff}# syntax=x", Some("x")),
            ("# syntax=\nFROM x", Some("")),
            ("FROM x\n# syntax=late", None),
            ("# a comment about syntax\nFROM x", None),
            ("", None),
        ] {
            assert_eq!(syntax(head), expected, "{head:?}");
        }
    }
}
