//! A build context as data: one data file and an index over it.
//!
//! Nothing of a tree is ever created on disk under a caller's name, so traversal, links, case
//! collisions and devices are questions for the pure function that admits an entry.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    sync::Arc,
};

use aws_lc_rs::digest;
use bytes::Bytes;

/// What is read of a file at a time for its hash: few calls, and still in the processor's cache.
const HASHED_AT_ONCE: usize = 128 * 1024;

/// A build context.
#[derive(Clone, Debug)]
pub struct Tree {
    entries: Vec<Entry>,
    data: Data,
    /// Over a data file only, and only once [`Tree::hashed`] has read it.
    hash: Option<[u8; 32]>,
}

/// One file, folder or symbolic link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The path from the root, components joined by `/`; never empty, absolute, or with `.`, `..`.
    pub path: String,
    /// The permission bits, `0o7777` at most.
    pub mode: u32,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// A regular file, and where its bytes lie.
    File {
        /// Bytes from the start of the data.
        offset: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A symbolic link, resolved by the engine inside the context.
    Symlink {
        /// Where it points.
        target: String,
    },
}

#[derive(Clone, Debug)]
enum Data {
    Memory(Bytes),
    File(Arc<File>),
}

/// Collects a tree. Folders that entries need are added.
#[derive(Debug, Default)]
pub struct TreeBuilder {
    /// By path, its slashes as NULs: byte order is then depth-first order.
    entries: BTreeMap<String, (u32, EntryKind)>,
    data: Vec<u8>,
}

/// An entry can't be part of a tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?}: {fault}")]
pub struct InvalidTree {
    path: String,
    fault: &'static str,
}

// === impl Tree ===

impl Tree {
    /// An empty builder for a tree held in memory.
    #[must_use]
    pub fn builder() -> TreeBuilder {
        TreeBuilder::default()
    }

    /// The entries depth-first with sorted names, each folder before what lies in it: the order
    /// that the engine's file sync insists on.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries
            .binary_search_by(|entry| entry.path.split('/').cmp(path.split('/')))
            .ok()
            .map(|at| &self.entries[at])
    }

    /// What lies directly in the folder `dir`; `""` is the root.
    pub fn children<'t>(&'t self, dir: &'t str) -> impl Iterator<Item = &'t Entry> {
        let from = if dir.is_empty() {
            0
        } else {
            self.entries.partition_point(|entry| entry.path.split('/').le(dir.split('/')))
        };
        let below = move |entry: &'t Entry| {
            if dir.is_empty() { Some(entry.path.as_str()) } else { entry.path.strip_prefix(dir)?.strip_prefix('/') }
        };
        self.entries[from..]
            .iter()
            .map_while(move |entry| below(entry).map(|rest| (entry, rest)))
            .filter(|(_, rest)| !rest.contains('/'))
            .map(|(entry, _)| entry)
    }

    /// The bytes of a file entry, read as they are asked for.
    #[must_use]
    pub fn read(&self, entry: &Entry) -> Box<dyn Read + Send> {
        let EntryKind::File { offset, size } = entry.kind else { return Box::new(io::empty()) };
        match &self.data {
            Data::Memory(bytes) => {
                let (from, to) = (clamp(offset, bytes.len()), clamp(offset.saturating_add(size), bytes.len()));
                Box::new(io::Cursor::new(bytes.slice(from..to)))
            }
            Data::File(file) => Box::new(Section { file: Arc::clone(file), at: offset, left: size }),
        }
    }

    /// What lies below the folder `dir`, as a tree of its own over the same data; `None` where there
    /// is no such folder.
    #[must_use]
    pub fn subtree(&self, dir: &str) -> Option<Self> {
        if self.get(dir)?.kind != EntryKind::Dir {
            return None;
        }
        let from = self.entries.partition_point(|entry| entry.path.split('/').le(dir.split('/')));
        let below = |entry: &Entry| {
            let path = entry.path.strip_prefix(dir)?.strip_prefix('/')?.to_owned();
            Some(Entry { path, ..entry.clone() })
        };
        let entries = self.entries[from..].iter().map_while(below).collect();
        Some(Self { entries, data: self.data.clone(), hash: None })
    }

    /// The bytes of all its files together; a file that has several names counts once for each.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = |entry: &Entry| if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
        self.entries.iter().map(size).fold(0, u64::saturating_add)
    }

    /// The same tree with its [`Tree::content_hash`], for one over a data file: reads every file
    /// once, so it blocks. What holds more than `up_to` bytes stays without.
    ///
    /// The hash is of the content and not of the bytes as they came: two archives of the same files
    /// differ in times and order, and an engine shouldn't be sent the second one's files again.
    ///
    /// # Errors
    /// When the data can't be read, or is shorter than the index says.
    pub fn hashed(mut self, up_to: u64) -> io::Result<Self> {
        if matches!(self.data, Data::File(_)) && self.size() <= up_to {
            self.hash = Some(self.hash_content()?);
        }
        Ok(self)
    }

    /// A hash (SHA-256) of every path, mode, link and byte: two trees have the same one only if an
    /// engine can't tell them apart. `None` over a data file that [`Tree::hashed`] hasn't read.
    #[must_use]
    pub fn content_hash(&self) -> Option<[u8; 32]> {
        match self.data {
            Data::Memory(_) => self.hash_content().ok(),
            Data::File(_) => self.hash,
        }
    }

    fn hash_content(&self) -> io::Result<[u8; 32]> {
        let mut hash = digest::Context::new(&digest::SHA256);
        // Each part behind its length, so that no two trees give the same bytes.
        let part = |hash: &mut digest::Context, part: &[u8]| {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        let mut chunk = vec![0; HASHED_AT_ONCE];
        for entry in &self.entries {
            part(&mut hash, entry.path.as_bytes());
            part(&mut hash, &entry.mode.to_be_bytes());
            match &entry.kind {
                EntryKind::Dir => part(&mut hash, b"dir"),
                EntryKind::File { size, .. } => {
                    part(&mut hash, b"file");
                    hash.update(&size.to_be_bytes());
                    let mut reader = self.read(entry);
                    loop {
                        match reader.read(&mut chunk) {
                            Ok(0) => break,
                            Ok(read) => hash.update(&chunk[..read]),
                            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                            Err(e) => return Err(e),
                        }
                    }
                }
                EntryKind::Symlink { target } => {
                    part(&mut hash, b"symlink");
                    part(&mut hash, target.as_bytes());
                }
            }
        }
        hash.finish().as_ref().try_into().map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

// === impl Entry ===

impl Entry {
    /// The last component of its path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(self.path.as_str(), |(_, name)| name)
    }
}

fn clamp(position: u64, len: usize) -> usize {
    usize::try_from(position).unwrap_or(len).min(len)
}

/// A part of a file, read at its own position so that readers don't disturb each other.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = clamp(self.left, buf.len());
        if want == 0 {
            return Ok(0);
        }
        let got = self.file.read_at(&mut buf[..want], self.at)?;
        if got == 0 {
            // A context that was cut off must fail the build, never give a shorter file.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

// === impl TreeBuilder ===

impl TreeBuilder {
    /// Adds a file with its bytes.
    ///
    /// # Errors
    /// When the path isn't a relative, clean one, or is taken.
    pub fn file(mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<Self, InvalidTree> {
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.insert(path, mode, EntryKind::File { offset, size: bytes.len() as u64 })?;
        Ok(self)
    }

    /// Adds a folder, or gives one that its entries have added its mode.
    ///
    /// # Errors
    /// When the path isn't a relative, clean one, or is taken by something else.
    pub fn dir(mut self, path: &str, mode: u32) -> Result<Self, InvalidTree> {
        match self.entries.get_mut(&key(path)) {
            Some((there, EntryKind::Dir)) => *there = mode & 0o7777,
            _ => self.insert(path, mode, EntryKind::Dir)?,
        }
        Ok(self)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As for [`TreeBuilder::file`].
    pub fn symlink(mut self, path: &str, target: &str) -> Result<Self, InvalidTree> {
        self.insert(path, 0o777, EntryKind::Symlink { target: target.to_owned() })?;
        Ok(self)
    }

    /// Adds a file whose bytes lie in the data file that [`TreeBuilder::over`] will be given.
    ///
    /// # Errors
    /// As for [`TreeBuilder::file`].
    pub fn section(mut self, path: &str, mode: u32, offset: u64, size: u64) -> Result<Self, InvalidTree> {
        self.insert(path, mode, EntryKind::File { offset, size })?;
        Ok(self)
    }

    /// The tree, its bytes in memory.
    #[must_use]
    pub fn build(self) -> Tree {
        Tree { entries: sorted(self.entries), data: Data::Memory(self.data.into()), hash: None }
    }

    /// The tree over a data file.
    #[must_use]
    pub fn over(self, data: File) -> Tree {
        Tree { entries: sorted(self.entries), data: Data::File(Arc::new(data)), hash: None }
    }

    fn insert(&mut self, path: &str, mode: u32, kind: EntryKind) -> Result<(), InvalidTree> {
        let invalid = |fault| InvalidTree { path: path.to_owned(), fault };
        if path.contains('\0') || path.split('/').any(|component| matches!(component, "" | "." | "..")) {
            return Err(invalid("not a clean relative path"));
        }
        for (end, _) in path.match_indices('/') {
            let parent = self.entries.entry(key(&path[..end])).or_insert((0o755, EntryKind::Dir));
            if parent.1 != EntryKind::Dir {
                return Err(invalid("lies below something that is no folder"));
            }
        }
        if self.entries.insert(key(path), (mode & 0o7777, kind)).is_some() {
            return Err(invalid("is there twice"));
        }
        Ok(())
    }
}

fn key(path: &str) -> String {
    path.replace('/', "\0")
}

/// Component-wise order is depth-first order.
fn sorted(entries: BTreeMap<String, (u32, EntryKind)>) -> Vec<Entry> {
    entries.into_iter().map(|(key, (mode, kind))| Entry { path: key.replace('\0', "/"), mode, kind }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_depth_first_with_their_folders() {
        let tree = Tree::builder().file("b-x", 0o644, b"").unwrap().file("b/c", 0o644, b"").unwrap().build();
        let paths: Vec<_> = tree.entries().iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["b", "b/c", "b-x"]);
    }

    #[test]
    fn a_folder_has_its_own_mode_whether_it_comes_before_or_after_its_entries() {
        let before = Tree::builder().dir("d", 0o700).unwrap().file("d/x", 0o644, b"").unwrap();
        let after = Tree::builder().file("d/x", 0o644, b"").unwrap().dir("d", 0o40_700).unwrap();
        for tree in [before.build(), after.build()] {
            assert_eq!(tree.get("d").unwrap().mode, 0o700);
        }
        assert!(Tree::builder().file("d", 0o644, b"").unwrap().dir("d", 0o755).is_err());
        assert!(Tree::builder().dir("../d", 0o755).is_err());
    }

    #[test]
    fn an_entry_is_found_by_its_path_and_a_folder_lists_its_own() {
        let tree = ["b-x", "b/c", "b/d/e", "b/f", "c"]
            .iter()
            .fold(Tree::builder(), |builder, path| builder.file(path, 0o644, b"").unwrap())
            .build();
        assert_eq!(tree.get("b/d").unwrap().kind, EntryKind::Dir);
        assert!(tree.get("b/x").is_none());
        let names = |dir| tree.children(dir).map(Entry::name).collect::<Vec<_>>();
        assert_eq!(names("b"), ["c", "d", "f"]);
        assert_eq!(names(""), ["b", "b-x", "c"]);
        assert_eq!(names("c"), [""; 0]);
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b"] {
            assert!(Tree::builder().file(path, 0o644, b"").is_err(), "{path:?}");
        }
    }

    #[test]
    fn whatever_an_engine_can_tell_apart_has_a_hash_of_its_own() {
        let file = |path, mode, bytes: &[u8]| Tree::builder().file(path, mode, bytes).unwrap();
        let trees = [
            Tree::builder(),
            file("a", 0o644, b"x"),
            file("a", 0o755, b"x"),
            file("a", 0o644, b"y"),
            file("a", 0o644, b""),
            file("b", 0o644, b"x"),
            file("a/b", 0o644, b"x"),
            file("a", 0o644, b"x").file("b", 0o644, b"").unwrap(),
            file("a", 0o644, b"").file("b", 0o644, b"x").unwrap(),
            Tree::builder().symlink("a", "x").unwrap(),
        ];
        let hashes: std::collections::HashSet<_> = trees.map(|tree| tree.build().content_hash().unwrap()).into();
        assert_eq!(hashes.len(), 10);
        assert!(hashes.contains(&file("a", 0o644, b"x").build().content_hash().unwrap()));
        assert_eq!(Tree::builder().over(tempfile::tempfile().unwrap()).content_hash(), None);
    }

    #[test]
    fn a_tree_over_a_file_has_the_hash_of_its_twin_in_memory_once_it_was_read() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"twoone").unwrap();
        let over = Tree::builder().section("a", 0o644, 3, 3).unwrap().section("d/b", 0o600, 0, 3).unwrap().over(file);
        let twin = Tree::builder().file("a", 0o644, b"one").unwrap().file("d/b", 0o600, b"two").unwrap().build();
        assert_eq!(over.clone().hashed(5).unwrap().content_hash(), None, "six bytes are more than five");
        let hashed = over.hashed(6).unwrap();
        assert_eq!(hashed.content_hash(), twin.content_hash());
        assert_eq!(hashed.subtree("d").unwrap().content_hash(), None, "a part isn't the whole");
    }

    #[test]
    fn a_folder_of_a_tree_is_a_tree() {
        let tree = ["a", "b-x", "b/c", "b/d/e", "c"]
            .iter()
            .fold(Tree::builder(), |builder, path| builder.file(path, 0o644, path.as_bytes()).unwrap())
            .build();
        let below = tree.subtree("b").unwrap();
        let paths: Vec<_> = below.entries().iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["c", "d", "d/e"]);
        let mut text = String::new();
        below.read(below.get("d/e").unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), below.size()), ("b/d/e", 8));
        assert!(tree.subtree("a").is_none() && tree.subtree("x").is_none());
    }

    #[test]
    fn a_file_is_read_back_and_a_cut_off_one_fails() {
        let tree = Tree::builder().file("a", 0o644, b"one").unwrap().file("b", 0o600, b"two").unwrap().build();
        let mut text = String::new();
        tree.read(&tree.entries()[1]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");

        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"abc").unwrap();
        let tree = Tree::builder().section("a", 0o644, 0, 10).unwrap().over(file);
        let end = tree.read(&tree.entries()[0]).read_to_string(&mut text).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
