//! Hostile archives over HTTP, each signed as it should be: what is wrong is said, and nothing is left.

use std::{collections::BTreeSet, path::Path};

use kiln_conformance_tests::{
    Client, Kiln, Launch,
    corpus::{
        Case, bounds, cases,
        writer::{Tar, xz},
    },
    kiln::base,
    registry,
};
use serde_json::json;

use crate::{Archive, USER, post, request, signed};

/// What the gateway may take of memory beyond what it had when the first one came: less than any one of the
/// bombs would become.
const HEADROOM: u64 = 64 << 20;
const CONFIG: &str = "com.openfaas.docker.config";

/// A gateway with the bounds that the corpus is made for, as far as there are settings for them.
fn bounded() -> Launch {
    signed()
        .set("KILN_OPENFAAS__BODY", bounds::BODY.to_string())
        .set("KILN_OPENFAAS__UNPACKED", bounds::UNPACKED.to_string())
        .set("KILN_OPENFAAS__RATIO", bounds::RATIO.to_string())
        .set("KILN_OPENFAAS__ENTRIES", bounds::ENTRIES.to_string())
}

/// Every path below a folder.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.insert(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            all.extend(files(&path));
        }
    }
    all
}

/// What lies where a path without or with a leading slash would lead.
fn around() -> BTreeSet<String> {
    let names =
        |folder: &str| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    [".", "/"].into_iter().flat_map(names).collect()
}

/// The most memory that the process has had, bytes.
fn peak(kiln: &Kiln) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", kiln.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Descriptors of files that have no name any more.
fn unnamed(kiln: &Kiln) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", kiln.pid().unwrap())).unwrap();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().ends_with("(deleted)")).count()
}

async fn healthy(kiln: &Kiln, client: &Client) {
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.get("/ready").await.status, 200);
    let archive = Archive::of("FROM scratch\nCOPY hello /hello\n");
    let answer = post(client, &archive).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(registry::digest(&archive.repository, &archive.tag).await.is_some());
    assert_eq!(unnamed(kiln), 0);
}

#[tokio::test]
async fn every_hostile_archive_is_refused_for_what_is_wrong_with_it_and_leaves_nothing() {
    let kiln = bounded().start().await;
    let client = kiln.anonymous();
    healthy(&kiln, &client).await;
    let (before, elsewhere, memory) = (files(kiln.folder()), around(), peak(&kiln));
    let cases = cases();
    assert!(cases.len() >= 200, "{}", cases.len());
    let mut wrong = Vec::new();
    for Case { name, body, expected } in cases {
        let answer = post(&client, &Archive::raw(body)).await;
        let said = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        let as_it_must = match expected {
            // A good archive, of which none holds what is to be built.
            Ok(_) => said.contains(CONFIG),
            Err(fault) => said.contains(&fault.to_string()) || (fault.is_of_fixed_bounds() && said.contains(CONFIG)),
        };
        if answer.status != 400 || !as_it_must {
            wrong.push(format!("{name}: {} {said}, not {expected:?}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(files(kiln.folder()), before, "something lies in the gateway's folder");
    assert_eq!(around(), elsewhere, "something lies outside");
    assert_eq!(unnamed(&kiln), 0, "a body is kept");
    let grown = peak(&kiln).saturating_sub(memory);
    assert!(grown <= HEADROOM, "{} MiB", grown >> 20);
    assert_eq!(kiln.client(USER).get("/v1/builds").await.json()["builds"].as_array().map(Vec::len), Some(1));
    healthy(&kiln, &client).await;
}

/// Of-builder's own: a context that is a link to a folder of the host, a file written through one, and
/// links into the folder of another's build.
#[tokio::test]
async fn no_link_reaches_a_file_of_the_host() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    let canary = kiln.folder().join("host-file");
    std::fs::write(&canary, "canary of the host").unwrap();
    let (host, file) = (kiln.folder().display().to_string(), canary.display().to_string());
    let image = |archive: &Archive| json!({ "ref": archive.image() }).to_string();
    let target = Archive::of("");
    let head = || Tar::default().file(CONFIG, image(&target).as_bytes());
    let step = format!("FROM {}\nCOPY . /all\nRUN cat /all/l/host-file /all/l /all/x; find /all\n", base("waiting"));
    let context = || head().dir("context").file("context/Dockerfile", step.as_bytes());
    for (name, body, status) in [
        ("the context is a link", head().symlink("context", &host).end(), 400),
        ("a file is written through a link", context().symlink("context/l", &host).file("context/l/x", b"").end(), 400),
        ("links lead to the host", context().symlink("context/l", &host).symlink("context/x", &file).end(), 200),
        ("a link leads to its folder's neighbour", context().symlink("context/l", "../../spool").end(), 400),
        ("a hard link to the host", context().hardlink("context/l", &file).end(), 400),
    ] {
        let answer = post(&client, &Archive { bytes: body, ..Archive::raw(Vec::new()) }).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(!answer.text.contains("canary of the host"), "{name}: {}", answer.text);
    }
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "canary of the host");
    assert!(!kiln.folder().join("x").exists());
}

#[tokio::test]
async fn archives_at_once_take_no_more_memory_than_those_that_have_a_turn() {
    let kiln = signed().set("KILN_LIMITS__ARCHIVES_PER_ADDRESS", "64").start().await;
    let client = kiln.anonymous();
    healthy(&kiln, &client).await;
    let memory = peak(&kiln);
    let dictionary = 60 << 20;
    let body = xz(&vec![0; dictionary], u32::try_from(dictionary).unwrap());
    let turns = std::thread::available_parallelism().map_or(1, usize::from);
    let sent: Vec<_> =
        (0..turns + 4).map(|_| tokio::spawn(request(&client, &Archive::raw(body.clone())).send())).collect();
    for answer in sent {
        assert_eq!(answer.await.unwrap().unwrap().status(), 400, "no archive");
    }
    let grown = peak(&kiln).saturating_sub(memory);
    assert!(grown <= (turns * dictionary) as u64 + HEADROOM, "{} MiB", grown >> 20);
}
