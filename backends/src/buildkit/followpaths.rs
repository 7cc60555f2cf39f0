//! Which entries a list of paths needs: symbolic links are followed inside the tree, wildcards in a
//! path are matched against it, as BuildKit's own client does.

use std::collections::BTreeSet;

use super::pattern::{clean, glob};
use crate::{Entry, EntryKind, Tree};

/// The paths and the links on the way to them, as include patterns; `None` asks for the whole tree.
pub(crate) fn follow(tree: &Tree, paths: &[String]) -> Option<Vec<String>> {
    let mut found = BTreeSet::new();
    // A stack of our own: a caller may chain as many links as there are entries.
    let mut waiting: Vec<String> = paths.iter().rev().map(|path| inside(path)).collect();
    while let Some(path) = waiting.pop() {
        resolve(tree, &path, &mut found, &mut waiting);
    }
    without_nested(found)
}

/// Goes down `path` until its end or the first link; what a link points to waits for its turn.
fn resolve(tree: &Tree, path: &str, found: &mut BTreeSet<String>, waiting: &mut Vec<String>) {
    let mut current = String::new();
    let mut rest = Some(path);
    while let Some(path) = rest {
        let (part, below) = path.split_once('/').map_or((path, None), |(part, below)| (part, Some(below)));
        if !current.is_empty() {
            current.push('/');
        }
        current.push_str(part);
        rest = below;

        let targets = link_targets(tree, &current);
        if (rest.is_none() || !targets.is_empty()) && !found.insert(current.clone()) {
            return;
        }
        if !targets.is_empty() {
            let below = rest.unwrap_or("");
            waiting.extend(targets.iter().rev().map(|target| inside(&format!("{target}/{below}"))));
            return;
        }
    }
}

/// Where the links point that `path` names, from the root of the tree.
fn link_targets(tree: &Tree, path: &str) -> Vec<String> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let target = |entry: &Entry| match &entry.kind {
        EntryKind::Symlink { target } if target.starts_with('/') => Some(clean(target)),
        EntryKind::Symlink { target } => Some(clean(&format!("/{dir}/{target}"))),
        _ => None,
    };
    if !has_wildcard(name) {
        return tree.get(path).and_then(target).into_iter().collect();
    }
    let Some(pattern) = glob(name) else { return Vec::new() };
    tree.children(dir).filter(|entry| pattern.is_match(entry.name())).filter_map(target).collect()
}

fn has_wildcard(name: &str) -> bool {
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The path relative to the root; nothing leads out of it.
fn inside(path: &str) -> String {
    let cleaned = clean(&format!("/{path}"));
    match cleaned.trim_start_matches('/') {
        "" => ".".to_owned(),
        path => path.to_owned(),
    }
}

/// Drops what lies below another path of the set.
fn without_nested(paths: BTreeSet<String>) -> Option<Vec<String>> {
    let mut kept: Vec<String> = Vec::new();
    for path in paths {
        if path == "." {
            return None;
        }
        let nested =
            kept.last().is_some_and(|last| path.strip_prefix(last.as_str()).is_some_and(|r| r.starts_with('/')));
        if !nested {
            kept.push(path);
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str], links: &[(&str, &str)]) -> Tree {
        let mut builder = Tree::builder();
        for file in files {
            builder = builder.file(file, 0o644, b"x").unwrap();
        }
        for (path, target) in links {
            builder = builder.symlink(path, target).unwrap();
        }
        builder.build()
    }

    fn followed(tree: &Tree, paths: &[&str]) -> Option<Vec<String>> {
        follow(tree, &paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree = tree(
            &["dir/foo", "dir/l/m", "bar"],
            &[
                ("dir/l1", "/dir/foo"),
                ("dir/up", "../../../bar"),
                ("to", "dir"),
                ("loop", "loop"),
                ("gone", "no/where"),
            ],
        );
        for (paths, expected) in [
            (&["dir/l1"][..], &["dir/foo", "dir/l1"][..]),
            (&["dir/up"], &["bar", "dir/up"]),
            (&["to/foo"], &["dir/foo", "to"]),
            (&["to"], &["dir", "to"]),
            (&["loop"], &["loop"]),
            (&["gone"], &["gone", "no/where"]),
            (&["dir/*"], &["bar", "dir/*", "dir/foo"]),
            (&["dir", "dir/foo"], &["dir"]),
            (&["../../bar"], &["bar"]),
            (&["missing"], &["missing"]),
        ] {
            assert_eq!(followed(&tree, paths).unwrap(), expected, "{paths:?}");
        }
    }

    #[test]
    fn the_root_asks_for_everything() {
        let tree = tree(&["a"], &[("self", "/")]);
        assert_eq!(followed(&tree, &["/"]), None);
        assert_eq!(followed(&tree, &["self"]), None);
    }

    #[test]
    fn a_long_chain_of_links_ends() {
        let names: Vec<String> = (0..20_000).map(|n| format!("l{n}")).collect();
        let links: Vec<(&str, &str)> = names.windows(2).map(|w| (w[0].as_str(), w[1].as_str())).collect();
        assert_eq!(followed(&tree(&[], &links), &["l0"]).unwrap().len(), 20_000);
    }
}
