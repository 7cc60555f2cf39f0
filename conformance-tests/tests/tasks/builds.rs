//! Builds: sent, followed, cleaned up.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::registry;

use crate::{gateway, run, send};

/// As `base64` writes them, with lines of 76 letters.
fn requirements(file: &str) -> String {
    let text = BASE64_STANDARD.encode(file);
    let lines: Vec<&str> = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("REQUIREMENTS={}\n", lines.join("\n"))
}

#[tokio::test]
async fn a_build_is_sent_and_followed_to_its_end() {
    let kiln = gateway("tasks-send").await;
    let file = requirements(include_str!("../../../deploy/samples/requirements.txt"));
    let out = run(&kiln, "tasks-send", &send("tasks-send:custom", Some(file))).await.well();
    let digest = registry::digest("tasks-send", "custom").await.unwrap();
    assert!(out.contains("cowsay"), "the log is shown: {out}");
    let status = out.lines().last().unwrap();
    assert!(status.contains("\"phase\":\"Succeeded\"") && status.contains(&digest), "{out}");
    // And once more, as somebody does who closed their terminal.
    let again = run(&kiln, "tasks-send", &["builder:logs"]).await.well();
    assert_eq!(again.lines().last(), Some(status));
}

#[tokio::test]
async fn a_failed_build_fails_the_task_and_says_why() {
    let kiln = gateway("tasks-fail").await;
    let file = requirements("cowsay==0.0.0.0.1\n");
    let said = run(&kiln, "tasks-fail", &send("tasks-fail:custom", Some(file))).await.badly();
    assert!(said.contains("No matching distribution found for cowsay"), "{said}");
    assert!(said.contains("\"phase\":\"Failed\""), "{said}");
    run(&kiln, "tasks-fail", &["builder:send", "SOURCE=x", "TARGET=someone-else:x", "KIND=python"]).await.badly();
    let said = run(&kiln, "tasks-fail", &["builder:send", "SOURCE=x"]).await.badly();
    assert!(said.contains("TARGET") && said.contains("KIND"), "{said}");
}

#[tokio::test]
async fn finished_builds_are_cleaned_up_by_age_or_all_of_them() {
    let kiln = gateway("tasks-clean").await;
    let client = kiln.client("tasks-clean");
    run(&kiln, "tasks-clean", &send("tasks-clean:a", None)).await.well();
    let count = async || client.get("/v1/builds").await.json()["builds"].as_array().unwrap().len();
    run(&kiln, "tasks-clean", &["builder:clean"]).await.well();
    assert_eq!(count().await, 1, "it isn't a day old");
    run(&kiln, "tasks-clean", &["builder:clean", "MAX_AGE_HOURS=many"]).await.badly();
    run(&kiln, "tasks-clean", &["builder:cleanjobs"]).await.well();
    assert_eq!(count().await, 0);
    let said = run(&kiln, "tasks-clean", &["builder:logs"]).await.badly();
    assert!(said.contains("you have no builds"), "{said}");
}

#[tokio::test]
async fn what_a_variable_holds_is_never_run() {
    let kiln = gateway("tasks-odd").await;
    let ran_there = kiln.folder().join("ran");
    let touch = format!("touch {}", ran_there.display());
    for odd in [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("'; {touch}; '"),
        format!("\"; {touch}; \""),
        format!("\n{touch}\n"),
        format!("{{{{\"{touch}\"}}}}"),
        format!("x\" & {touch} & \\"),
    ] {
        for (name, variables) in [
            ("send", &["SOURCE", "TARGET", "KIND", "REQUIREMENTS"][..]),
            ("clean", &["MAX_AGE_HOURS"]),
            ("list-images", &["CATALOG"]),
            ("get-image", &["IMAGE"]),
            ("delete-image", &["IMAGE", "ALL_TAGS"]),
        ] {
            let variables = variables.iter().map(|variable| format!("{variable}={odd}"));
            let arguments: Vec<String> = std::iter::once(format!("builder:{name}")).chain(variables).collect();
            let said = run(&kiln, "tasks-odd", &arguments).await.badly();
            assert!(!said.contains("500"), "{arguments:?}: {said}");
            assert!(!ran_there.exists(), "{arguments:?}: {said}");
        }
    }
}
