//! What honest writers write comes back as it was.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use kiln_backends::{EntryKind, Tree};
use kiln_conformance_tests::corpus::writer::{bzip2, gzip, xz, zstd};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::{Limits, index::index};

/// What an entry is, with a file's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Dir,
    File(u32, Vec<u8>),
    Symlink(String),
}

fn indexed(body: &[u8]) -> Tree {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(body, 0).unwrap();
    let tree = index(&file, body.len() as u64, &Limits::default(), &CancellationToken::new()).unwrap();
    tree.over(file)
}

fn items(tree: &Tree) -> BTreeMap<String, Item> {
    let item = |entry: &kiln_backends::Entry| match &entry.kind {
        EntryKind::Dir => Item::Dir,
        EntryKind::Symlink { target } => Item::Symlink(target.clone()),
        EntryKind::File { .. } => {
            let mut bytes = Vec::new();
            tree.read(entry).read_to_end(&mut bytes).unwrap();
            Item::File(entry.mode, bytes)
        }
    };
    tree.entries().iter().map(|entry| (entry.path.clone(), item(entry))).collect()
}

/// Trees of files two folders deep at most, so that their names can't be in each other's way.
fn trees() -> impl Strategy<Value = BTreeMap<String, Item>> {
    let name = || "[a-zA-Z0-9 ._ü\u{1f600}-]{0,40}x".prop_map(|name| name);
    let long = "[a-z]{101,250}";
    let path = prop_oneof![
        name().prop_map(|name| format!("f-{name}")),
        (name(), name()).prop_map(|(dir, name)| format!("d-{dir}/{name}")),
        (long, long).prop_map(|(dir, name)| format!("d-{dir}/{name}")),
    ];
    let item = prop_oneof![
        3 => (0_u32..0o1000, prop::collection::vec(any::<u8>(), 0..1500)).prop_map(|(mode, bytes)| Item::File(mode, bytes)),
        1 => "/?[a-z]{1,50}(/[a-z]{1,50}){0,2}".prop_map(Item::Symlink),
    ];
    prop::collection::btree_map(path, item, 0..20)
}

fn written(tree: &BTreeMap<String, Item>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    // Backwards, so that folders come after what lies in them.
    for (path, item) in tree.iter().rev() {
        let mut header = tar::Header::new_gnu();
        match item {
            Item::Dir => header.set_entry_type(tar::EntryType::Directory),
            Item::File(mode, bytes) => {
                header.set_mode(*mode);
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
            }
            Item::Symlink(target) => {
                header.set_mode(0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_comes_back_from_the_tar_crate(tree in trees()) {
        let mut expected = tree.clone();
        for (dir, _) in tree.keys().filter_map(|path| path.split_once('/')) {
            expected.insert(dir.to_owned(), Item::Dir);
        }
        prop_assert_eq!(items(&indexed(&written(&tree))), expected);
    }

    #[test]
    fn no_bytes_make_the_index_panic(body in prop::collection::vec(any::<u8>(), 0..4096), flips in prop::collection::vec((0_usize..4096, any::<u8>()), 0..4)) {
        let index = |body: &[u8]| {
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(body, 0).unwrap();
            let _ = index(&file, body.len() as u64, &Limits::default(), &CancellationToken::new());
        };
        index(&body);
        let mut tar = written(&BTreeMap::from([
            ("a/b".to_owned(), Item::File(0o644, body)),
            ("l".repeat(150), Item::Symlink("t".repeat(150))),
        ]));
        let length = tar.len();
        flips.into_iter().for_each(|(at, byte)| tar[at % length] = byte);
        index(&tar);
    }
}

/// A folder with what builds have.
fn folder(root: &Path) -> BTreeMap<String, Item> {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let script = Item::File(0o755, b"#!/bin/sh\n".to_vec());
    let expected = BTreeMap::from([
        ("context".to_owned(), Item::Dir),
        ("context/Dockerfile".to_owned(), Item::File(0o644, b"FROM scratch\n".to_vec())),
        ("context/again".to_owned(), script.clone()),
        ("context/empty".to_owned(), Item::Dir),
        ("context/link".to_owned(), Item::Symlink("run".to_owned())),
        ("context/run".to_owned(), script),
        (format!("context/{}", "d".repeat(120)), Item::Dir),
        (format!("context/{long}"), Item::File(0o644, vec![b'x'; 5000])),
        ("context/übel \u{1f600}".to_owned(), Item::File(0o644, Vec::new())),
    ]);
    for (path, item) in &expected {
        let path = root.join(path);
        match item {
            Item::Dir => fs::create_dir(&path).unwrap(),
            Item::Symlink(target) => symlink(target, &path).unwrap(),
            Item::File(..) if path.ends_with("run") => fs::hard_link(path.with_file_name("again"), &path).unwrap(),
            Item::File(mode, bytes) => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
    expected
}

fn run(program: &str, args: &[&str], dir: &Path) -> Vec<u8> {
    let output = Command::new(program).args(args).current_dir(dir).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; install it, these are clients that must work"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn gnu_tar_and_pythons_tarfile_are_read_in_each_of_their_formats() {
    let dir = tempfile::tempdir().unwrap();
    let expected = folder(dir.path());
    for format in ["gnu", "oldgnu", "pax"] {
        for name in [".", "context", "./context"] {
            let body = run("tar", &["-c", "--format", format, name], dir.path());
            assert_eq!(items(&indexed(&body)), expected, "tar --format {format} {name}");
        }
    }
    const PYTHON: &str = "import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=getattr(tarfile, sys.argv[1])) as t: t.add('context')";
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let body = run("python3", &["-c", PYTHON, format], dir.path());
        assert_eq!(items(&indexed(&body)), expected, "tarfile.{format}");
    }
    // What ustar can hold: a name of 120 in a folder of 120 isn't.
    fs::remove_dir_all(dir.path().join("context").join("d".repeat(120))).unwrap();
    let expected: BTreeMap<_, _> = expected.into_iter().filter(|(path, _)| !path.contains("dddd")).collect();
    for format in ["ustar", "v7"] {
        let body = run("tar", &["-c", "--format", format, "context"], dir.path());
        assert_eq!(items(&indexed(&body)), expected, "tar --format {format}");
    }
    let body = run("python3", &["-c", PYTHON, "USTAR_FORMAT"], dir.path());
    assert_eq!(items(&indexed(&body)), expected, "tarfile.USTAR_FORMAT");
}

#[test]
fn equal_trees_have_one_hash_however_they_were_archived() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let hash = |args: &[&str]| {
        let tree = indexed(&run("tar", args, dir.path()));
        tree.subtree("context").unwrap().hashed(u64::MAX).unwrap().content_hash().unwrap()
    };
    let first = hash(&["-c", "--format", "gnu", "context"]);
    assert_eq!(first, hash(&["-c", "--format", "pax", "--mtime", "2001-01-01", "--sort=name", "./context"]));
    assert_ne!(first, hash(&["-c", "--exclude", "empty", "context"]));
}

#[test]
fn the_codecs_programs_write_what_is_told_by_its_first_bytes() {
    use super::Compression::{self, Bzip2, Gzip, Xz, Zstd};
    for (expected, body) in [
        (Some(Gzip), gzip(b"x")),
        (Some(Bzip2), bzip2(b"x")),
        (Some(Bzip2), bzip2(b"")),
        (Some(Xz), xz(b"x", 1 << 20)),
        (Some(Zstd), zstd(b"x")),
        (None, b"BZh9 is a name".to_vec()),
        (None, Vec::new()),
    ] {
        assert_eq!(Compression::detect(&body), expected);
    }
}
