//! The entries of an archive while it is read: what a later one does to an earlier one, and hard links.

use std::collections::BTreeMap;

use kiln_backends::{Tree, TreeBuilder};

use super::{ArchiveError, Fault, Limits, path::link_target};

/// What is at a path so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Dir {
        mode: u32,
    },
    File {
        mode: u32,
        offset: u64,
        size: u64,
    },
    Symlink {
        target: String,
    },
    /// To something that hasn't come yet.
    HardLink {
        target: String,
    },
}

/// Everything that an archive holds, by path.
pub(super) struct Nodes<'l> {
    limits: &'l Limits,
    by_path: BTreeMap<String, Node>,
    names: u64,
}

impl<'l> Nodes<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, by_path: BTreeMap::new(), names: 0 }
    }

    /// Adds an entry as a reader that writes to disk would: a folder joins one that is there, anything
    /// else replaces what isn't a folder. A folder never makes way, nor does anything for one.
    pub(super) fn insert(&mut self, path: String, node: Node) -> Result<(), Fault> {
        for (at, _) in path.match_indices('/') {
            match self.by_path.get(&path[..at]) {
                Some(Node::Dir { .. }) => {}
                Some(_) => return Err(Fault::BelowFile),
                None => self.put(path[..at].to_owned(), Node::Dir { mode: 0o755 })?,
            }
        }
        let is_dir = matches!(node, Node::Dir { .. });
        match self.by_path.get(&path) {
            Some(Node::Dir { .. }) if !is_dir => return Err(Fault::Conflict),
            Some(there) if is_dir && !matches!(there, Node::Dir { .. }) => return Err(Fault::Conflict),
            _ => {}
        }
        let Node::HardLink { target } = &node else { return self.put(path, node) };
        match self.by_path.get(target) {
            Some(Node::Dir { .. }) => Err(Fault::LinkToFolder),
            // As it is now: what replaces it later isn't what this links to. Where it is this very path,
            // nothing changes: that is how GNU tar stores a file that it was told of twice.
            Some(there) => {
                let there = there.clone();
                self.put(path, there)
            }
            None => self.put(path, node),
        }
    }

    fn put(&mut self, path: String, node: Node) -> Result<(), Fault> {
        let target = match &node {
            Node::Symlink { target } | Node::HardLink { target } => target.len(),
            Node::Dir { .. } | Node::File { .. } => 0,
        };
        self.names = self.names.saturating_add((path.len() + target) as u64);
        if self.names > self.limits.names {
            return Err(Fault::Names(self.limits.names));
        }
        self.by_path.insert(path, node);
        if self.by_path.len() > self.limits.entries {
            return Err(Fault::Entries(self.limits.entries));
        }
        Ok(())
    }

    /// The index as a tree, once no link waits any more.
    pub(super) fn finish(mut self) -> Result<TreeBuilder, ArchiveError> {
        self.resolve()?;
        let mut size = 0_u64;
        let mut tree = Tree::builder();
        for (path, node) in self.by_path {
            let fault = |fault| ArchiveError::entry(path.as_bytes(), fault);
            if let Node::File { size: more, .. } = node {
                size = size.saturating_add(more);
                if size > self.limits.unpacked {
                    return Err(fault(Fault::Unpacked(self.limits.unpacked)));
                }
            }
            tree = match node {
                Node::Dir { mode } => tree.dir(&path, mode),
                Node::File { mode, offset, size } => tree.section(&path, mode, offset, size),
                // Once more: a hard link to it may lie elsewhere.
                Node::Symlink { target } => tree.symlink(&path, &link_target(&path, target.as_bytes()).map_err(fault)?),
                Node::HardLink { .. } => return Err(fault(Fault::LinkMissing)),
            }
            .map_err(|_| fault(Fault::Conflict))?;
        }
        Ok(tree)
    }

    /// Gives each link that waits what it leads to in the end. A chain is walked once: whoever stands
    /// in it gets the same.
    fn resolve(&mut self) -> Result<(), ArchiveError> {
        let waiting = |(path, node): (&String, &Node)| matches!(node, Node::HardLink { .. }).then(|| path.clone());
        let links: Vec<String> = self.by_path.iter().filter_map(waiting).collect();
        for first in &links {
            let mut chain = Vec::new();
            let mut path = first.clone();
            let end = loop {
                match self.by_path.get(&path) {
                    Some(Node::HardLink { target }) if chain.len() <= links.len() => {
                        let target = target.clone();
                        chain.push(std::mem::replace(&mut path, target));
                    }
                    Some(Node::HardLink { .. }) => break Err(Fault::LinkLoop),
                    Some(Node::Dir { .. }) => break Err(Fault::LinkToFolder),
                    Some(end) => break Ok(end.clone()),
                    None => break Err(Fault::LinkMissing),
                }
            };
            let end = end.map_err(|fault| ArchiveError::entry(first.as_bytes(), fault))?;
            for path in chain {
                self.by_path.insert(path, end.clone());
            }
        }
        Ok(())
    }
}
