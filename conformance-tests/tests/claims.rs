//! Every row of the contract names a test that there is: `CLAIMS.md` against the sources.
#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A door: what its rows' ids begin with, and where its suite lies.
const DOORS: [(&str, &str); 4] = [
    ("OS-", "conformance-tests/tests/openserverless"),
    ("OF-", "conformance-tests/tests/openfaas"),
    ("PG-", "conformance-tests/tests/page"),
    ("WH-", "conformance-tests/tests/webhooks"),
];

/// A row of a table: its id, and what its last column says.
struct Row {
    id: String,
    shown_by: String,
}

#[test]
fn every_row_has_a_test_or_says_why_it_comes_later() {
    let rows = rows();
    assert!(rows.len() > 100, "{} rows: the table wasn't read", rows.len());
    for Row { id, shown_by } in rows {
        let later = shown_by.strip_prefix("later: ").is_some_and(|why| !why.is_empty());
        assert!(later || !tests_in(&id, &shown_by).is_empty(), "{id} has no test: {shown_by:?}");
    }
}

#[test]
fn every_row_has_an_id_of_its_own() {
    let mut seen = BTreeSet::new();
    for Row { id, .. } in rows() {
        assert!(seen.insert(id.clone()), "{id} is there twice");
    }
}

#[test]
fn every_named_test_is_in_the_sources() {
    let mut sources = BTreeMap::new();
    for Row { id, shown_by } in rows() {
        for (path, name) in tests_in(&id, &shown_by) {
            let source = sources.entry(path.clone()).or_insert_with(|| fs::read_to_string(root().join(&path)));
            let source = source.as_ref().unwrap_or_else(|e| panic!("{id}: {path}: {e}"));
            assert!(is_test(source, &name), "{id}: {path} has no test {name}");
        }
    }
}

#[test]
fn every_test_of_a_door_is_claimed() {
    let claimed: BTreeSet<_> = rows().iter().flat_map(|row| tests_in(&row.id, &row.shown_by)).collect();
    let files = DOORS.map(|(_, folder)| fs::read_dir(root().join(folder)).unwrap().map(move |file| (folder, file)));
    for (folder, file) in files.into_iter().flatten() {
        let file = file.unwrap().path();
        let path = format!("{folder}/{}", file.file_name().unwrap().to_string_lossy());
        let source = fs::read_to_string(&file).unwrap();
        for name in source.split("fn ").skip(1).filter_map(|rest| rest.split('(').next()) {
            let unclaimed = is_test(&source, name) && !claimed.contains(&(path.clone(), name.to_owned()));
            assert!(!unclaimed, "{path}::{name} shows no row");
        }
    }
}

/// The rows of `CLAIMS.md`: those whose first column is an id.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("conformance-tests/CLAIMS.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let id = cells.first().filter(|id| DOORS.iter().any(|(prefix, _)| id.starts_with(prefix)))?;
        assert_eq!(cells.len(), 3, "{id} has id, claim and test");
        Some(Row { id: (*id).to_owned(), shown_by: cells[2].to_owned() })
    };
    text.lines().filter_map(row).collect()
}

/// The tests in a row's cell, each `path::name` between backticks; a path without folder is the door's suite.
fn tests_in(id: &str, cell: &str) -> Vec<(String, String)> {
    let folder = DOORS.iter().find(|(prefix, _)| id.starts_with(prefix)).map(|(_, folder)| *folder).unwrap();
    let quoted = cell.split('`').skip(1).step_by(2);
    let test = |text: &str| {
        let (path, name) = text.rsplit_once("::")?;
        let path = if path.contains('/') { path.to_owned() } else { format!("{folder}/{path}") };
        Some((path, name.to_owned()))
    };
    quoted.filter_map(test).collect()
}

/// Whether a function of this name stands below a test attribute, perhaps with others in between.
fn is_test(source: &str, name: &str) -> bool {
    let declared = [format!("fn {name}("), format!("async fn {name}(")];
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let attributes = lines[..at].iter().rev().take_while(|above| above.starts_with("#["));
        declared.iter().any(|start| line.starts_with(start.as_str()))
            && attributes.into_iter().any(|above| above.starts_with("#[test]") || above.starts_with("#[tokio::test"))
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
