//! A full disk under the gateway's data.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kiln_conformance_tests::{Engine, Launch, corpus::writer::gzip, kiln::base};
use reqwest::Method;
use serde_json::json;

use crate::{
    assert_tagged,
    follower::{Follower, assert_whole},
    in_its_step, ready, start_lasting, start_quick, tag, texts, until,
};

/// A small disk, mounted; gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mounted_at(folder: &Path, megabytes: u64) -> Self {
        fs::create_dir(folder).unwrap();
        let folder = folder.to_owned();
        let size = format!("size={megabytes}m,mode=0777");
        as_root(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &folder.display().to_string()]);
        Self(folder)
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        for chunk in [64 << 10, 1] {
            while file.write_all(&vec![0; chunk]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        as_root(&["umount", "--lazy", &self.0.display().to_string()]);
    }
}

/// Bytes that are left there.
fn free(folder: &Path) -> u64 {
    let output = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(folder).output().expect("it runs");
    let said = String::from_utf8(output.stdout).unwrap();
    said.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product()
}

fn as_root(command: &[&str]) {
    let run = |command: &[&str]| Command::new(command[0]).args(&command[1..]).output().expect("it runs");
    let mut output = run(command);
    if !output.status.success() {
        output = run(&[&["sudo", "-n"], command].concat());
    }
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_full_disk_refuses_new_builds_loses_none_and_ends_them_once_there_is_space() {
    let launch = Launch::on(Engine::Buildkitd).user("devel");
    let disk = Disk::mounted_at(&launch.folder().join("data"), 4);
    let kiln = launch.set("KILN_LIMITS__CONCURRENCY", "1").start().await;
    let client = kiln.client("devel");
    let (running_tag, waiting_tag, later_tag) = (tag(), tag(), tag());
    let running = start_lasting(&client, "devel", &running_tag, "2").await;
    let waiting = start_quick(&client, "devel", &waiting_tag).await;
    in_its_step(&client, &running, 1).await;
    disk.fill();

    let body = json!({ "source": base("extendable"), "target": format!("devel:{}", tag()), "kind": "python" });
    let refused = client.post("/system/api/v1/build/start", &body).await;
    assert!(refused.status.is_server_error(), "{} {}", refused.status, refused.text);
    assert_eq!(ready(&client).await, (503, "unready".to_owned()));
    until("the running build waits for the ledger", || async {
        let said = |line: &serde_json::Value| line["fields"]["message"] == "a build waits for the ledger";
        kiln.log().iter().any(said).then_some(())
    })
    .await;
    let text = format!("{:?}", kiln.log());
    assert!(text.contains("database or disk is full"), "the log doesn't say what is wrong: {text}");
    assert_eq!(client.build(&running).await["state"], "running");
    assert_eq!(client.build(&waiting).await["state"], "queued");

    disk.free();
    assert_tagged(&client.ended(&running).await, "devel", &running_tag).await;
    assert_tagged(&client.ended(&waiting).await, "devel", &waiting_tag).await;
    for id in [&running, &waiting] {
        // What the engine had done wasn't done again.
        assert_eq!(texts(&client, id, "attempt").await, ["1"]);
        assert_whole(&Follower::of(&client, id, 0).await.ended().await);
    }
    let later = start_quick(&client, "devel", &later_tag).await;
    assert_tagged(&client.ended(&later).await, "devel", &later_tag).await;
    assert_eq!(client.get("/v1/builds").await.json()["builds"].as_array().map(Vec::len), Some(3));
    drop(kiln.kill().await);
    drop(disk);
}

#[tokio::test]
async fn no_archive_takes_the_disk_below_the_mark_neither_as_sent_nor_unpacked() {
    let launch = Launch::on(Engine::Buildkitd).user("devel");
    let disk = Disk::mounted_at(&launch.folder().join("data"), 64);
    let launch = launch.set("KILN_LIMITS__MIN_FREE", (32 << 20).to_string());
    let launch = launch.set("KILN_IDENTITY__SHARED_NAMES", "true");
    let kiln = launch.set("KILN_OPENFAAS__DISABLE_HMAC", "true").start().await;
    let client = kiln.anonymous();
    let least = Arc::new(AtomicU64::new(u64::MAX));
    let watch = tokio::task::spawn_blocking({
        let (least, folder) = (Arc::downgrade(&least), disk.0.clone());
        move || {
            while let Some(least) = least.upgrade() {
                least.fetch_min(free(&folder), Ordering::Relaxed);
            }
        }
    });
    for body in [vec![0; 96 << 20], gzip(&vec![0; 48 << 20])] {
        let answer = client.send(client.request(Method::POST, "/build").body(body)).await;
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(
            answer.text.contains("no room on its disk") && !answer.header("retry-after").is_empty(),
            "{}",
            answer.text
        );
        assert_eq!(ready(&client).await.0, 200);
        assert!(free(&disk.0) > 56 << 20, "what was refused is gone");
    }
    let seen = least.load(Ordering::Relaxed);
    drop(least);
    watch.await.unwrap();
    assert!(seen >= 32 << 20, "{seen}");
    drop(kiln.kill().await);
    drop(disk);
}
