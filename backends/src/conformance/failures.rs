//! Builds that fail: each for its reason, in words for people.

use std::sync::Arc;

use super::{Bench, Fixed, bench::destination};
use crate::{EventKind, Reason, SourceRule, SourceRules};

/// Exit code, line and last lines of the step that failed.
///
/// # Panics
/// When one of them is missing.
pub async fn a_failing_step_tells_exit_code_line_and_last_lines(bench: &Bench) {
    let text = format!("FROM {{base}}\n\nRUN echo {}; echo oops >&2; exit 7", bench.unique());
    let outcome = bench.build("ann", &text).await;
    let failure = outcome.failure();
    assert_eq!(failure.reason, Reason::StepFailed);
    assert!(failure.message.contains("(Dockerfile line 3) ended with exit code 7"), "{failure:?}");
    let Some(step) = &failure.step else { panic!("{failure:?}") };
    assert_eq!((step.exit_code, step.line), (Some(7), Some(3)));
    assert!(step.tail.iter().any(|line| line == "oops"), "{step:?}");
    let failed = outcome.events.iter().any(|e| matches!(&e.kind, EventKind::StepFinished { error: Some(_), .. }));
    assert!(failed, "the step's end says so too: {:#?}", outcome.events);
}

/// A base without a shell is a reason of its own, without the runtime's words.
///
/// # Panics
/// When it isn't.
pub async fn a_base_without_a_shell_is_unsupported(bench: &Bench) {
    let outcome = bench.build("ann", &format!("FROM scratch\nLABEL x={}\nRUN echo hi", bench.unique())).await;
    let failure = outcome.failure();
    assert_eq!(failure.reason, Reason::BaseUnsupported, "{failure:?}\n{}", outcome.output());
    assert!(failure.message.contains("/bin/sh") && !failure.message.contains("runc"), "{failure:?}");
}

/// Programs for another processor are a reason of their own.
///
/// # Panics
/// When they aren't.
pub async fn a_base_for_another_processor_is_unsupported(bench: &Bench) {
    let text = format!("FROM {{base}}\nRUN echo {} > /x && chmod +x /x\nRUN [\"/x\"]", bench.unique());
    let failure = bench.build("ann", &text).await.failure().clone();
    assert_eq!(failure.reason, Reason::BaseUnsupported, "{failure:?}");
}

/// A base that isn't in its registry.
///
/// # Panics
/// When another reason is given.
pub async fn a_base_that_is_not_there_is_not_found(bench: &Bench) {
    let name = format!("{}/bases/nothing:{}", bench.registry, bench.unique());
    let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {name}")));
    spec.sources = SourceRules(vec![SourceRule::Allow(format!("docker-image://{name}"))]);
    let failure = bench.run(spec).await.failure().clone();
    assert_eq!(failure.reason, Reason::BaseNotFound, "{failure:?}");
    assert!(failure.message.contains(&name), "{failure:?}");
}

/// What is wrong in the Dockerfile, or missing in the context, is the recipe's fault and has a line.
///
/// # Panics
/// When another reason is given.
pub async fn a_broken_dockerfile_is_an_invalid_recipe(bench: &Bench) {
    for (text, part) in [
        ("FROM {base}\nNONSENSE x", "NONSENSE"),
        ("", "empty"),
        ("FROM {base}\nCOPY missing /x", "missing (Dockerfile line 2)"),
        ("FROM {base}\nRUN --mount=type=secret,id=none,required=true true", "none"),
    ] {
        let failure = bench.build("ann", text).await.failure().clone();
        assert_eq!(failure.reason, Reason::RecipeInvalid, "{text}: {failure:?}");
        assert!(failure.message.contains(part), "{failure:?}");
    }
    let mut spec = bench.spec("ann", bench.dockerfile("FROM {base}"));
    spec.dockerfile = "elsewhere/Dockerfile".to_owned();
    let failure = bench.run(spec).await.failure().clone();
    assert_eq!(failure.reason, Reason::RecipeInvalid, "{failure:?}");
}

/// A registry that wants credentials refuses a push without them and takes one with them.
///
/// # Panics
/// When it doesn't.
pub async fn a_push_needs_the_registrys_credentials(bench: &Bench) {
    let (registry, credential) = &bench.private;
    let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nENV WORD={}", bench.unique())));
    destination(&mut spec).registry.clone_from(registry);
    let mut permitted = spec.clone();
    let failure = bench.run(spec).await.failure().clone();
    assert_eq!(failure.reason, Reason::PushDenied, "{failure:?}");

    permitted.attempt.attempt = 2;
    permitted.registry_auth = Arc::new(Fixed(Some(credential.clone())));
    let outcome = bench.run(permitted).await;
    assert!(outcome.digest().starts_with("sha256:"));
}

/// A base in a registry that wants credentials can't be had without them.
///
/// # Panics
/// When it can.
pub async fn a_private_base_needs_the_callers_credentials(bench: &Bench) {
    let (registry, credential) = &bench.private;
    let mut seed = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nENV WORD={}", bench.unique())));
    destination(&mut seed).registry.clone_from(registry);
    seed.registry_auth = Arc::new(Fixed(Some(credential.clone())));
    let (repository, owner) = (destination(&mut seed).target.repository().to_owned(), Arc::clone(&seed.registry_auth));
    let digest = bench.run(seed).await.digest().to_owned();

    let base = format!("{registry}/{repository}@{digest}");
    let mut stranger = bench.spec("bob", bench.dockerfile(&format!("FROM {base}\nRUN echo {}", bench.unique())));
    stranger.sources = SourceRules(vec![SourceRule::Allow(format!("docker-image://{base}"))]);
    let mut permitted = stranger.clone();
    let failure = bench.run(stranger).await.failure().clone();
    assert_eq!(failure.reason, Reason::BaseForbidden, "{failure:?}");
    permitted.attempt.attempt = 2;
    permitted.registry_auth = owner;
    assert!(bench.run(permitted).await.digest().starts_with("sha256:"));
}

/// A registry that doesn't answer is tried three times, then named as the reason.
///
/// # Panics
/// When it isn't.
pub async fn a_registry_that_does_not_answer_is_tried_again(bench: &Bench) {
    let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nENV WORD={}", bench.unique())));
    // Nothing listens on a port that was free a moment ago.
    destination(&mut spec).registry = match std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()) {
        Ok(address) => address.to_string(),
        Err(error) => panic!("{error}"),
    };
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.failure().reason, Reason::RegistryUnavailable, "{:?}", outcome.failure());
    let again = outcome.warnings().iter().filter(|text| text.contains("trying again")).count();
    assert_eq!(again, 2, "{:?}", outcome.warnings());
}
