//! The document at `/openapi.json`, and schemathesis, which tries the gateway by it.

use std::path::PathBuf;

use kiln_conformance_tests::{Engine, Launch, engine};
use tokio::{process::Command, time::timeout};

use crate::PATIENCE;

/// What schemathesis may take in all; its own bound ends its loops before.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(240);
const LOOPS_WITHIN: &str = "120";

/// Which checks are left out, and why.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/schemathesis/schemathesis.toml");

#[tokio::test]
async fn the_document_is_for_everybody_and_a_wrong_method_is_told_the_right_ones() {
    let kiln = crate::idle().await;
    let answer = kiln.anonymous().get("/openapi.json").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json()["openapi"], "3.1.0");
    let deleted = kiln.anonymous().send(kiln.anonymous().request(reqwest::Method::DELETE, "/v1/builds")).await;
    crate::assert_problem(&deleted, 405, "a method that isn't there");
    let mut allowed: Vec<_> = deleted.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let rates = "{ per_minute = 60000, burst = 60000 }";
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__RATES__SUBMIT", rates);
    let launch = launch.set("KILN_LIMITS__RATES__READ", rates).set("KILN_LIMITS__RATES__STREAM", rates);
    // It tries the routes without a token, too, and with bad ones.
    let kiln = launch.set("KILN_LIMITS__RATES__FAILURES", rates).start().await;
    let client = kiln.client("devel");
    crate::create(&client, "devel:tried").await;
    let packages = PathBuf::from(engine("KILN_DEV_BIN")).join("schemathesis");
    assert!(packages.exists(), "there is none: run conformance-tests/clients/schemathesis/fetch");
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).args(["-m", "schemathesis.cli", "--config-file", CONFIG, "run"]);
    command.arg(format!("{}/openapi.json", kiln.url));
    command.args(["-H", &format!("Authorization: {}", kiln.token("devel")), "--no-color", "--continue-on-failure"]);
    command.args(["--max-examples", "20", "--max-time", LOOPS_WITHIN, "--generation-database", "none"]);
    command.args(["--request-timeout", &PATIENCE.as_secs().to_string()]);
    let folder = tempfile::tempdir().unwrap();
    let output = timeout(WITHIN, command.current_dir(folder.path()).kill_on_drop(true).output()).await;
    let output = output.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // That it tried all there is, and not nothing.
    let document = client.get("/openapi.json").await.json();
    let count = document["paths"].as_object().unwrap().values();
    let count: usize = count.map(|item| item.as_object().unwrap().len()).sum();
    assert!(said.contains(&format!("{count} selected / {count} total")), "{said}");
}
