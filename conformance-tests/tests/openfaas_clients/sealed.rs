//! Build secrets as the SDK seals them: for the key that the gateway publishes, or one that is given.

use kiln_conformance_tests::{Engine, Kiln, kiln::base};
use serde_json::json;
use tokio::process::Command;

use crate::{
    image::Image,
    program::{Ended, run},
    project::Stack,
    sdk::published,
    signed,
};

/// Not what any log may show.
const PLAIN: &str = "s3cr3t-0f-a-client";

/// A gateway with a key of its own, and the public half as `kiln openfaas keygen` prints it.
async fn keyed(engine: Engine) -> (Kiln, String) {
    let launch = signed(engine);
    let file = launch.folder().join("build-secrets").display().to_string();
    let made = run(&mut Command::from(launch.command(&["openfaas", "keygen", "--file", &file]))).await;
    assert_eq!(made.status, Some(0), "{made:?}");
    let kiln = launch.set("KILN_OPENFAAS__BUILD_SECRETS_KEY_FILE", file).start().await;
    (kiln, made.stdout.trim().to_owned())
}

/// A function whose step knows the secret's length, and would print it.
fn reads(image: &Image) -> Stack {
    let mount = "RUN --mount=type=secret,id=pip_token";
    let step = format!("[ \"$(wc -c </run/secrets/pip_token)\" = {} ] && cat /run/secrets/pip_token", PLAIN.len());
    let dockerfile = format!("FROM {}\nLABEL sealed=yes\n{mount} {step}\n", base("busybox"));
    Stack::of(image, &dockerfile).secret("greeter", "pip_token", PLAIN)
}

fn hidden(ended: &Ended, kiln: &Kiln) {
    assert!(!format!("{ended:?}{:?}", kiln.log()).contains(PLAIN), "the secret shows: {ended:?}");
}

#[tokio::test]
async fn a_step_finds_what_was_sealed_for_the_published_key_or_a_given_one() {
    for engine in [Engine::Buildkitd, Engine::Docker, Engine::DockerContainerd] {
        let (kiln, key) = keyed(engine).await;
        for more in [&[][..], &["-builder-public-key", &key], &["-sync"]] {
            let image = Image::new();
            let ended = published(&kiln, &reads(&image), more).await;
            assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(0), "success"), "{engine:?}: {ended:?}");
            assert_eq!(image.config().await["config"]["Labels"]["sealed"], "yes");
            hidden(&ended, &kiln);
        }
    }
}

/// faas-cli doesn't survive a status that isn't 200 here.
#[tokio::test]
async fn what_can_not_be_opened_is_refused_in_a_line() {
    let (kiln, _) = keyed(Engine::Buildkitd).await;
    let (_, other) = keyed(Engine::Buildkitd).await;
    let image = Image::new();
    let ended = published(&kiln, &reads(&image), &["-builder-public-key", &other]).await;
    assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(1), "failed"), "{ended:?}");
    assert!(ended.outcome().error.contains("com.openfaas.secrets"), "{ended:?}");
    hidden(&ended, &kiln);

    let keyless = signed(Engine::Buildkitd).start().await;
    let ended = published(&keyless, &reads(&image), &["-builder-public-key", &other]).await;
    assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(1), "failed"), "{ended:?}");
    let asking = published(&keyless, &reads(&image), &[]).await;
    assert!(asking.status == Some(1) && asking.outcome().error.ends_with("status code 404"), "{asking:?}");
    assert_eq!(image.digest().await, None);
}

#[tokio::test]
async fn what_is_not_to_be_pushed_is_built_and_nowhere_to_be_found() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let image = Image::new();
    let ended = published(&kiln, &Stack::of(&image, &crate::project::greets()), &["-skip-push"]).await;
    let outcome = ended.outcome();
    assert_eq!((ended.status, outcome.status.as_str(), outcome.image), (Some(0), "success", image.name()));
    assert_eq!(image.digest().await, None);
    let fails = published(&kiln, &Stack::of(&image, &crate::project::fails()), &["-skip-push"]).await;
    assert!(fails.status == Some(1) && fails.outcome().error.contains("exit code 3"), "{}", json!(fails.stdout));
}
