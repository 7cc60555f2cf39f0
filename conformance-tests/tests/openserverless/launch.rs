//! How the program starts: by the replaced systems' variables alone, and not at all with what it can't honour.

use std::{net::TcpListener, sync::Arc, time::Duration};

use kiln_conformance_tests::{Engine, Launch, engine, registry};
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinSet, time::timeout};

use super::{
    couchdb::{User, on_couchdb},
    gateway::{ENSURE, JSON, NO_ENGINE, START, STATUS, Tenant},
};

#[tokio::test]
async fn the_replaced_systems_variables_are_enough_to_build() {
    let mut builds = JoinSet::new();
    for (variable, address) in [
        ("BUILDKIT_HOST", engine("KILN_TEST_BUILDKIT")),
        ("buildkit_url", engine("KILN_TEST_BUILDKIT")),
        ("DOCKER_HOST", engine("KILN_TEST_DOCKER")),
    ] {
        builds.spawn(builds_by(variable, address));
    }
    builds.join_all().await;
}

#[tokio::test]
async fn an_engine_that_is_down_keeps_nobody_from_starting_builds() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let launch = on_couchdb(Launch::drop_in()).set("LISTEN_PORT", port.to_string()).set("BUILDKIT_HOST", NO_ENGINE);
    let tenant = Tenant::of(Arc::new(launch.start().await), User::new().await);
    let id = tenant.start("python", "t", None).await;
    assert_eq!(tenant.client.get(&format!("{STATUS}?id={id}")).await.json()["phase"], "Pending");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_start_with_the_reason() {
    let catalog = |text: &str| vec![("BUILDER_CATALOG_JSON", text.to_owned())];
    let check = |value: &str| vec![("STRICT_USER_CHECK", value.to_owned())];
    let builder =
        |id: &str, source: &str| json!({ "builders": { id: { "kind": "python", "source": source } } }).to_string();
    let mut refusals = JoinSet::new();
    for (variables, reason) in [
        (check("false"), "set identity.unchecked_targets = true as well"),
        (check("0"), "set identity.unchecked_targets = true as well"),
        (check("No"), "set identity.unchecked_targets = true as well"),
        (check("OFF"), "set identity.unchecked_targets = true as well"),
        ([check("true"), vec![("KILN_IDENTITY__UNCHECKED_TARGETS", "true".to_owned())]].concat(), "remove one of them"),
        (catalog("{"), "the builder catalogue"),
        (catalog("[]"), "the builder catalogue"),
        (catalog(r#"{"builders":{"a":{"kind":"rust","source":"rust"}}}"#), "the builder catalogue"),
        (catalog(r#"{"builders":{"a":{"kind":"go"}}}"#), "the builder catalogue"),
        (catalog(&builder("Python", "python")), "\"Python\" is no builder id"),
        (catalog(&builder(&"a".repeat(64), "python")), "is no builder id"),
        (catalog(&builder("a", "python;id")), "its source no image reference"),
        (catalog(&builder("a", "Python")), "its source no image reference"),
        (vec![("BUILDER_CATALOG_FILE", "/nowhere/builders.json".to_owned())], "/nowhere/builders.json"),
        (vec![("LISTEN_PORT", "http".to_owned())], "LISTEN_PORT: is no port number"),
    ] {
        refusals.spawn(refused_at_start(variables, reason));
    }
    refusals.join_all().await;
}

#[tokio::test]
async fn the_scope_check_goes_off_by_kilns_own_setting_with_or_without_the_variable() {
    for variable in [None, Some("false")] {
        let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
        let launch = variable.into_iter().fold(launch, |launch, value| launch.set("STRICT_USER_CHECK", value));
        let kiln = launch.set("KILN_IDENTITY__UNCHECKED_TARGETS", "true").start().await;
        let devel = kiln.client("devel");
        for target in ["other:t", "team/tool:1"] {
            devel.start("python", target, "python", None).await;
            let newest = devel.get("/v1/builds").await.json()["builds"][0].clone();
            let image = newest["image"].as_str().unwrap();
            assert!(image.ends_with(&format!("/{target}")), "{image}");
            assert_eq!(newest["owner"], "devel");
        }
        let body = json!({ "source": "python", "target": "other:t;id", "kind": "python" });
        assert_eq!(devel.post(START, &body).await.parts().0, 400, "the grammar holds for everybody");
    }
}

#[tokio::test]
async fn a_catalogue_may_be_a_file_and_ids_are_made_as_proposed() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
    let file = launch.folder().join("builders.json");
    let source = "docker.io/apache/openserverless-runtime-python:v3.13-2506091954";
    let catalog =
        json!({ "builders": { "python:3.13": { "kind": "python", "source": source, "note": "passed over" } } });
    std::fs::write(&file, catalog.to_string()).unwrap();
    let kiln = launch.set("BUILDER_CATALOG_FILE", file.display().to_string()).start().await;
    let devel = kiln.client("devel");
    let capabilities = devel.get("/system/api/v1/build/capabilities").await.json();
    assert_eq!(capabilities["builders"], json!([{ "id": "python:3.13", "kind": "python" }]));
    let ensured = devel.post(ENSURE, &json!({ "builder": "python:3.13", "file": "Zmxhc2sK" })).await.json();
    // sha256 of "openserverless-runtime-builder-v1", "python:3.13", "python", the source and "flask\n", with NUL between.
    assert_eq!(ensured["id"], "c6539187531cb2efb84c2d71109d7be6d545d74196f743218ee4ef7213812cb1");
    assert_eq!(devel.get("/v1/builds").await.json()["builds"][0]["source"], source);
}

#[tokio::test]
async fn without_a_catalogue_there_are_no_builders() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
    let kiln = launch.start().await;
    let capabilities = kiln.client("devel").get("/system/api/v1/build/capabilities").await;
    assert_eq!((capabilities.parts().0, &capabilities.json()["builders"]), (200, &Value::Array(Vec::new())));
}

#[tokio::test]
async fn accepted_builds_and_their_status_outlive_a_kill() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
    let kiln = launch.start().await;
    let id = kiln.client("devel").start("python", "devel:t", "python", Some("flask\n")).await;
    let kiln = kiln.kill().await.start().await;
    let status = kiln.client("devel").get(&format!("{STATUS}?id={id}")).await;
    assert_eq!((status.parts().0, status.parts().1, &status.json()["phase"]), (200, JSON, &"Pending".into()));
}

async fn refused_at_start(variables: Vec<(&str, String)>, reason: &str) {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_ENGINE__BUILDKIT", NO_ENGINE);
    let launch = variables.iter().fold(launch, |launch, (name, value)| launch.set(name, value));
    let output =
        timeout(Duration::from_secs(60), Command::from(launch.command(&["serve"])).kill_on_drop(true).output());
    let output = output.await.unwrap_or_else(|_| panic!("it serves with {variables:?}")).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{variables:?}: {said}");
    assert!(said.contains(reason), "{variables:?}: {said}");
}

/// Starts by `variable` and the replaced systems' others, and builds on a base of the user's own.
async fn builds_by(variable: &str, engine_address: String) {
    // Taken and given back: the variable needs a number.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let launch = on_couchdb(Launch::drop_in())
        .set("LISTEN_PORT", port.to_string())
        .set("REGISTRY_HOST", format!("http://{}", engine("KILN_TEST_REGISTRY")))
        .set(variable, engine_address);
    let kiln = Arc::new(launch.start().await);
    assert_eq!(kiln.url, format!("http://0.0.0.0:{port}"), "as the replaced service listens");
    let tenant = Tenant::of(Arc::clone(&kiln), User::new().await);
    // Their own repositories are open to them without any setting.
    let base = format!("{}/base", tenant.name);
    registry::copy("bases/extendable", &base).await;
    let source = format!("{}/{base}", engine("KILN_TEST_REGISTRY"));
    let id = tenant.start(&source, "t", Some("humanize\n")).await;
    let build = tenant.client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{variable}: {build}");
    let status = tenant.client.get(&format!("{STATUS}?id={id}")).await.json();
    assert_eq!(status["digest"].as_str(), registry::digest(&tenant.name, "t").await.as_deref(), "{variable}");
}
