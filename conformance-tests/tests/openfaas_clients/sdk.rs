//! OpenFaaS's Go SDK, called as faas-cli calls it: a stack file, a context for each function, packed,
//! signed and posted, its answer read line by line or whole.

use std::path::Path;

use kiln_conformance_tests::{Engine, Kiln};
use tokio::process::Command;

use crate::{
    KEY,
    image::Image,
    program::{Ended, fetched, run},
    project::{Stack, fails, greets},
    signed,
};

/// The platform of the engines, which are here.
const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// The command to publish a stack at a gateway.
pub(crate) fn publish(kiln: &Kiln, stack: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(fetched("openfaas"));
    command.arg("publish").args(["-url", &kiln.url, "-payload-secret"]).arg(kiln.folder().join("payload-secret"));
    command.args(more).current_dir(stack);
    command
}

/// Publishes a stack.
pub(crate) async fn published(kiln: &Kiln, stack: &Stack, more: &[&str]) -> Ended {
    run(&mut publish(kiln, stack.path(), more)).await
}

#[tokio::test]
async fn a_stack_of_functions_becomes_images_several_at_once() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let names = ["a", "b", "c", "d"];
    let images = names.map(|_| Image::new());
    let stack = names.iter().zip(&images).fold(Stack::new(), |stack, (name, image)| match *name {
        "d" => stack.templated(name, image),
        name => stack.function(name, image, &greets()),
    });
    let ended = published(&kiln, &stack, &["-parallel", "4", "-platforms", PLATFORM]).await;
    assert_eq!(ended.status, Some(0), "{ended:?} {:#?}", kiln.log());
    for (outcome, image) in ended.outcomes().iter().zip(&images) {
        assert_eq!((outcome.status.as_str(), &outcome.image), ("success", &image.name()), "{outcome:?}");
        assert_eq!(PLATFORM, format!("linux/{}", image.config().await["architecture"].as_str().unwrap()));
    }
    assert_eq!(images[0].config().await["config"]["Labels"]["greeting"], "moin");
    let templated = &ended.outcomes()[3];
    assert!(templated.shows("Z adds <>"), "{templated:?}");
    assert_eq!(images[3].prints(&["sh", "/function/handler.sh"]).await, "handled\n");
}

#[tokio::test]
async fn the_environment_names_the_builder_and_only_its_host_counts() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let stack = Stack::of(&image, &greets());
    let mut command = Command::new(fetched("openfaas"));
    command.arg("publish").current_dir(stack.path());
    command.env("OPENFAAS_REMOTE_BUILDER", format!("{}/some/path?query", kiln.url));
    command.env("OPENFAAS_PAYLOAD_SECRET", kiln.folder().join("payload-secret"));
    let ended = run(&mut command).await;
    assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(0), "success"), "{ended:?}");
    assert!(image.digest().await.is_some());
}

#[tokio::test]
async fn a_caller_who_waits_for_the_whole_gets_the_log_too() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let ended = published(&kiln, &Stack::of(&image, &greets()), &["-sync"]).await;
    let outcome = ended.outcome();
    assert_eq!((ended.status, outcome.status.as_str(), &outcome.image), (Some(0), "success", &image.name()));
    assert!(outcome.shows("hello from the context"), "{:?}", outcome.log);
    assert!(image.digest().await.is_some());
}

#[tokio::test]
async fn a_step_that_fails_is_an_error_with_its_reason() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let stack = Stack::of(&image, &fails());
    let ended = published(&kiln, &stack, &[]).await;
    let outcome = ended.outcome();
    assert_eq!((ended.status, outcome.status.as_str(), &outcome.image), (Some(1), "failed", &image.name()));
    assert!(outcome.error.contains("exit code 3"), "{}", outcome.error);
    assert!(outcome.shows("no such luck"), "{:?}", outcome.log);
    // The other way the SDK tells the status and throws the body away.
    let whole = published(&kiln, &stack, &["-sync"]).await;
    assert!(whole.status == Some(1) && whole.outcome().error.ends_with("status code 500"), "{whole:?}");
    assert_eq!(image.digest().await, None);
}

#[tokio::test]
async fn what_can_not_be_built_says_why_where_a_status_would_hide_it() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let stack = Stack::of(&image, &greets());
    std::fs::remove_file(stack.path().join("greeter/Dockerfile")).unwrap();
    let ended = published(&kiln, &stack, &[]).await;
    assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(1), "failed"), "{ended:?}");
    assert!(ended.outcome().error.contains("no file context/Dockerfile"), "{ended:?}");
    let typo = published(&kiln, &Stack::of(&image, "FROMM scratch\n"), &[]).await;
    assert!(typo.status == Some(1) && typo.outcome().error.contains("unknown instruction: FROMM"), "{typo:?}");
}

#[tokio::test]
async fn the_wrong_key_is_refused_by_its_status() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let stack = Stack::of(&image, &greets());
    let other = stack.path().join("other");
    std::fs::write(&other, format!("not {KEY}")).unwrap();
    for more in [&[][..], &["-sync"]] {
        let more = [&["-payload-secret", other.to_str().unwrap()], more].concat();
        let ended = published(&kiln, &stack, &more).await;
        assert!(ended.status == Some(1) && ended.outcome().error.ends_with("status code 401"), "{ended:?}");
    }
    assert_eq!(image.digest().await, None);
}

/// A scanner of Go's stops at a line of 64 KiB and says nothing: what came behind it, an outcome too,
/// would never have been.
#[tokio::test]
async fn a_long_line_of_a_step_hides_no_outcome() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let step = "head -c 300000 /dev/zero | tr '\\0' '<'; echo; exit 3";
    let dockerfile = format!("FROM {}\nRUN {step}\n", kiln_conformance_tests::kiln::base("busybox"));
    let ended = published(&kiln, &Stack::of(&image, &dockerfile), &[]).await;
    let outcome = ended.outcome();
    assert_eq!((ended.status, outcome.status.as_str()), (Some(1), "failed"));
    let printed: usize = outcome.log.iter().flatten().map(|line| line.matches('<').count()).sum();
    assert!(printed >= 300_000 && outcome.error.contains("exit code 3"), "{printed}: {}", outcome.error);
}
