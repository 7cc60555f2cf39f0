//! The corpus of hostile archives, read in process: what becomes of each.

use std::{fs::File, io::Read as _, path::Path};

use bytes::Bytes;
use futures_util::stream;
use kiln_auth::UserName;
use kiln_backends::{EntryKind, Tree};
use kiln_conformance_tests::corpus::{
    Case, bounds, cases,
    writer::{Tar, gzip, raw},
};
use tokio_util::sync::CancellationToken;

use super::{Compression, Limits, ReceiveError, Spool, UnpackError};

const LIMITS: Limits = Limits {
    body: bounds::BODY,
    unpacked: bounds::UNPACKED,
    ratio: bounds::RATIO,
    ratio_free: bounds::RATIO_FREE,
    entries: bounds::ENTRIES,
    names: bounds::NAMES,
    depth: bounds::DEPTH,
    decoder_memory: bounds::DECODER_MEMORY,
    free: 0,
};

/// Every entry as a word: `path/`, `path=content`, `path->target`.
fn words(tree: &Tree) -> String {
    let word = |entry: &kiln_backends::Entry| match &entry.kind {
        EntryKind::Dir => format!("{}/", entry.path),
        EntryKind::Symlink { target } => format!("{}->{target}", entry.path),
        EntryKind::File { .. } => {
            let mut content = String::new();
            tree.read(entry).read_to_string(&mut content).unwrap();
            format!("{}={content}", entry.path)
        }
    };
    tree.entries().iter().map(word).collect::<Vec<_>>().join(" ")
}

async fn unpack(dir: &Path, body: Vec<u8>) -> Result<Tree, String> {
    let chunks = stream::iter(
        body.chunks(7_000).map(|chunk| Ok::<_, ReceiveError>(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>(),
    );
    let (spooled, signer) = Spool::new(dir.to_owned(), LIMITS).receive(chunks, None).await.unwrap();
    assert_eq!((spooled.length(), signer), (body.len() as u64, None));
    spooled.unpack(&UserName::parse("owner").unwrap()).await.map_err(|error| match error {
        UnpackError::Archive(error) => error.fault().to_string(),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn every_hostile_archive_becomes_the_tree_or_the_fault_that_it_must() {
    let dir = tempfile::tempdir().unwrap();
    let cases = cases();
    assert!(cases.len() >= 200, "{}", cases.len());
    let mut wrong = Vec::new();
    for Case { name, body, expected } in cases {
        let tree = unpack(dir.path(), body).await;
        if let Ok(tree) = &tree {
            let clean = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
            assert!(tree.entries().iter().all(|entry| entry.path.split('/').all(clean)), "{name} escapes");
            assert!(tree.entries().len() <= LIMITS.entries && tree.size() <= LIMITS.unpacked, "{name} is too much");
        }
        let got = tree.map(|tree| words(&tree));
        let as_it_must = match (&got, expected) {
            (Ok(got), Ok(tree)) => got == tree,
            (Err(said), Err(fault)) => said.contains(&fault.to_string()),
            _ => false,
        };
        if !as_it_must {
            wrong.push(format!("{name}: {got:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something lies in the spool");
}

#[tokio::test]
async fn an_archive_within_data_stays_data_where_only_pax_says_how_long_it_is() {
    let inner = Tar::default().file("evil", b"!").end();
    let outer = Tar::default().pax(&[("size", inner.len().to_string().as_bytes())]).entry(raw(b'0', b"a", 0), b"").0;
    let body = Tar([outer, inner.clone()].concat()).file("b", b"y").end();
    let dir = tempfile::tempdir().unwrap();
    let tree = unpack(dir.path(), body).await.unwrap();
    let paths: Vec<_> = tree.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["a", "b"]);
    let mut data = Vec::new();
    tree.read(&tree.entries()[0]).read_to_end(&mut data).unwrap();
    assert_eq!(data, inner);
}

#[test]
fn a_bomb_is_given_up_before_the_disk_is_full() {
    let bomb = tempfile::tempfile().unwrap();
    let body = gzip(&vec![0; 16 << 20]);
    std::os::unix::fs::FileExt::write_all_at(&bomb, &body, 0).unwrap();
    let to = tempfile::tempfile().unwrap();
    let unpacked = Compression::Gzip.decompress(&bomb, &to, &LIMITS, &CancellationToken::new());
    assert!(matches!(unpacked, Err(UnpackError::Archive(_))));
    assert!(size(&to) <= LIMITS.unpacked, "{} bytes", size(&to));
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let to = tempfile::tempfile().unwrap();
    let unpacked = Compression::Gzip.decompress(&bomb, &to, &LIMITS, &cancelled);
    assert!(matches!(unpacked, Err(UnpackError::Cancelled)));
    assert_eq!(size(&to), 0);
}

fn size(file: &File) -> u64 {
    file.metadata().unwrap().len()
}
