//! The pipeline of OpenFaaS Cloud: an archive as git-tar packs it, posted as buildshiprun posts it.

use kiln_conformance_tests::{Engine, Kiln};
use serde_json::json;
use tokio::process::Command;

use crate::{
    program::{Ended, fetched, run},
    project::{Package, fails, greets},
    signed,
};

/// Packs and posts.
pub(crate) async fn shipped(kiln: &Kiln, package: &Package) -> Ended {
    let mut command = Command::new(fetched("openfaas"));
    command.arg("pipeline").args(["-url", &format!("{}/", kiln.url), "-folder"]).arg(package.path());
    run(command.arg("-payload-secret").arg(kiln.folder().join("payload-secret"))).await
}

/// A package as the pipeline configures it.
pub(crate) fn package(dockerfile: &str) -> Package {
    Package::configured(dockerfile, |image| json!({ "ref": image, "buildArgs": { "GREETING": "moin" } }))
}

#[tokio::test]
async fn a_commit_is_built_and_its_image_named_as_it_was() {
    let kiln = signed(Engine::Buildkitd).start().await;
    // As of-builder has it, the name is pushed in lower case, and given back as it came.
    let package = Package::configured(
        &greets(),
        |image| json!({ "ref": image.replace("fns/greeter", "Fns/Greeter"), "buildArgs": { "GREETING": "moin" } }),
    );
    let ended = shipped(&kiln, &package).await;
    let outcome = ended.outcome();
    assert_eq!((ended.status, outcome.status.as_str()), (Some(0), "success"), "{ended:?}");
    assert_eq!(outcome.image, package.image.name().replace("fns/greeter", "Fns/Greeter"));
    assert!(outcome.log.as_ref().is_some_and(|log| log[0].starts_with("v: ")), "{:?}", outcome.log);
    assert_eq!(package.image.config().await["config"]["Labels"]["greeting"], "moin");
}

#[tokio::test]
async fn a_failure_is_json_that_says_why_under_a_status_that_is_fatal() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let package = package(&fails());
    let ended = shipped(&kiln, &package).await;
    let outcome = ended.outcome();
    assert_eq!((ended.status, outcome.error.as_str()), (Some(1), "status code 500"), "{ended:?}");
    assert!(outcome.status.starts_with("failure: ") && outcome.status.contains("exit code 3"), "{}", outcome.status);
    assert!(outcome.shows(" no such luck\n"));
    assert_eq!(package.image.digest().await, None);
}
