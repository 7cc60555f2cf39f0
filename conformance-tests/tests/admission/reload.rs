//! Limits that change while the gateway runs.

use std::{fs, process::Command};

use kiln_conformance_tests::{Kiln, Launch};

use crate::{BUILDS, PATIENCE, assert_refused, idle, until};

const ONE: &str = "[limits.rates]\nread = { per_minute = 1, burst = 1 }\n";

fn narrow() -> Launch {
    idle().config(ONE)
}

/// Replaces a part of the configuration file.
fn rewrite(kiln: &Kiln, from: &str, to: &str) {
    let path = kiln.folder().join("kiln.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn hang_up(kiln: &Kiln) {
    let pid = kiln.pid().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

async fn said(kiln: &mut Kiln, level: &str, words: &str) {
    let wanted = |line: &serde_json::Value| {
        line["level"] == level && line["fields"]["message"].as_str().is_some_and(|message| message.contains(words))
    };
    kiln.line(PATIENCE, wanted).await;
}

#[tokio::test]
async fn a_signal_brings_new_limits_and_ends_nothing() {
    let mut kiln = narrow().start().await;
    let client = kiln.client("devel");
    assert_eq!(client.get(BUILDS).await.status, 200);
    assert_refused(&client.get(BUILDS).await, 429, BUILDS);
    let wide = "[limits]\ntrusted_proxies = [\"127.0.0.1\"]\n[limits.rates]\nread = { per_minute = 60, burst = 600 }\n";
    rewrite(&kiln, ONE, wide);
    hang_up(&kiln);
    said(&mut kiln, "INFO", "read anew").await;
    let answer = client.get(BUILDS).await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit-policy")), (200, "\"read\";q=600;w=600"));
}

#[tokio::test]
async fn a_configuration_that_cant_be_used_changes_nothing_and_is_told_of() {
    let mut kiln = narrow().start().await;
    let client = kiln.client("devel");
    rewrite(&kiln, "per_minute = 1, burst = 1 }", "per_minute = 0, burst = 1 }");
    hang_up(&kiln);
    said(&mut kiln, "ERROR", "the limits stay as they were").await;
    let answer = client.get(BUILDS).await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit-policy")), (200, "\"read\";q=1;w=60"));
    assert_refused(&client.get(BUILDS).await, 429, BUILDS);
    // Good again, with the same rate: what is used up stays used up.
    rewrite(&kiln, "per_minute = 0", "per_minute = 1");
    hang_up(&kiln);
    said(&mut kiln, "INFO", "read anew").await;
    assert_refused(&client.get(BUILDS).await, 429, BUILDS);
}

#[tokio::test]
async fn a_changed_file_is_seen_without_a_signal() {
    let kiln = narrow().start().await;
    let client = kiln.client("devel");
    rewrite(&kiln, "per_minute = 1, burst = 1 }", "per_minute = 60, burst = 500 }");
    let policy = until("the file is read", || async {
        let policy = client.get(BUILDS).await.header("ratelimit-policy").to_owned();
        (policy != "\"read\";q=1;w=60").then_some(policy)
    })
    .await;
    assert_eq!(policy, "\"read\";q=500;w=500");
}
