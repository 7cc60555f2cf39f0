//! The part of a tree that the daemon asked for: what the include patterns and followed paths name,
//! less what the exclude patterns name, with the folders it lies in.

use super::{
    followpaths::follow,
    pattern::{InvalidPattern, Matched, Patterns},
};
use crate::{EntryKind, Tree};

/// What the daemon asked for, in its own words.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) include: Vec<String>,
    pub(crate) exclude: Vec<String>,
    /// `None` when not sent, which isn't the same as an empty list.
    pub(crate) follow: Option<Vec<String>>,
}

/// A folder on the way to the current entry.
struct Folder {
    index: usize,
    include: Matched,
    exclude: Matched,
    sent: bool,
}

/// The indices of the entries to send, in the tree's order.
pub(crate) fn select(tree: &Tree, request: &Request) -> Result<Vec<usize>, InvalidPattern> {
    let mut include = Some(request.include.clone());
    if let Some(paths) = &request.follow {
        include = match follow(tree, paths) {
            Some(targets) if !request.include.iter().any(|p| p == ".") => {
                Some(request.include.iter().cloned().chain(targets).collect())
            }
            Some(_) => None,
            None => include,
        };
    }
    let include = include.filter(|patterns| !patterns.is_empty()).map(|p| Patterns::new(&p)).transpose()?;
    let exclude = Patterns::new(&request.exclude)?;

    let mut selected = Vec::new();
    let mut folders: Vec<Folder> = Vec::new();
    for (index, entry) in tree.entries().iter().enumerate() {
        let depth = entry.path.matches('/').count();
        folders.truncate(depth);
        let root = Matched::default();
        let (included, include_matched) = match &include {
            Some(patterns) => patterns.matches(&entry.path, folders.last().map_or(&root, |f| &f.include)),
            None => (true, Matched::default()),
        };
        let (excluded, exclude_matched) =
            exclude.matches(&entry.path, folders.last().map_or(&root, |folder| &folder.exclude));
        let sent = included && !excluded;
        if sent {
            for folder in folders.iter_mut().filter(|folder| !folder.sent) {
                folder.sent = true;
                selected.push(folder.index);
            }
            selected.push(index);
        }
        if entry.kind == EntryKind::Dir {
            folders.push(Folder { index, include: include_matched, exclude: exclude_matched, sent });
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(request: &Request) -> Vec<String> {
        let tree = ["Dockerfile", "a/b/c", "a/b/d", "a/x", "node_modules/m/index.js", "z"]
            .iter()
            .fold(Tree::builder(), |builder, path| builder.file(path, 0o644, b"x").unwrap())
            .symlink("link", "a/b")
            .unwrap()
            .build();
        select(&tree, request).unwrap().into_iter().map(|i| tree.entries()[i].path.clone()).collect()
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn folders_come_only_with_what_lies_in_them() {
        let request = Request { include: list(&["a/b/c"]), ..Request::default() };
        assert_eq!(selected(&request), ["a", "a/b", "a/b/c"]);
    }

    #[test]
    fn followed_paths_bring_their_links() {
        let request = Request { follow: Some(list(&["link/d"])), ..Request::default() };
        assert_eq!(selected(&request), ["a", "a/b", "a/b/d", "link"]);
    }

    #[test]
    fn excluded_is_excluded_even_when_included_and_exceptions_come_back() {
        let request = Request {
            include: list(&["a", "node_modules"]),
            exclude: list(&["**/node_modules", "a/*", "!a/x"]),
            ..Request::default()
        };
        assert_eq!(selected(&request), ["a", "a/x"]);
    }

    #[test]
    fn nothing_asked_means_everything_and_the_root_too() {
        let all = selected(&Request::default());
        assert_eq!(all.len(), 11);
        assert_eq!(selected(&Request { follow: Some(list(&["/"])), ..Request::default() }), all);
        assert_eq!(selected(&Request { include: list(&["nothing"]), ..Request::default() }), [""; 0]);
    }
}
