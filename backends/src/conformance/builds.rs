//! Builds that succeed: what is pushed, what of the context arrives, what is told on the way.

use std::collections::BTreeMap;

use super::{Bench, bench::destination, registry};
use crate::{BuildArg, EventKind, Output, Tree};

/// The image is in the registry under its digest when the run returns, as a plain manifest; the tag
/// is left to Kiln where the engine can push without one.
///
/// # Panics
/// When it isn't.
pub async fn a_build_is_in_the_registry_under_its_digest(bench: &Bench) {
    let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nENV WORD={}", bench.unique())));
    let target = destination(&mut spec).target.clone();
    let outcome = bench.run(spec).await;
    let config = registry::config(&bench.registry, target.repository(), outcome.digest()).await;
    assert_eq!(config["os"], "linux");

    let tagged = registry::has_tag(&bench.registry, target.repository(), target.tag()).await;
    let capabilities = probed(bench).await;
    assert_eq!(tagged, !capabilities.atomic_tag, "the tag is moved by Kiln alone");
}

/// A build that is to push nothing runs its steps, fails where one does, and leaves the registry as it was.
///
/// # Panics
/// When something is pushed, or a step isn't run.
pub async fn a_build_without_output_runs_and_pushes_nothing(bench: &Bench) {
    let word = bench.unique();
    let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nRUN echo ran {word}")));
    let target = destination(&mut spec).target.clone();
    spec.output = Output::Nothing;
    let outcome = bench.run(spec).await;
    assert!(matches!(outcome.result, Ok(None)), "{:?}", outcome.result);
    assert!(outcome.output().contains(&format!("ran {word}")), "{}", outcome.output());
    assert!(!registry::has_tag(&bench.registry, target.repository(), target.tag()).await);

    let mut fails = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nRUN echo {word}; exit 3")));
    fails.output = Output::Nothing;
    let failure = bench.run(fails).await.failure().clone();
    assert_eq!(failure.step.and_then(|step| step.exit_code), Some(3));
}

/// One platform gives a plain manifest, several an index, where the engine declares that it can push one.
///
/// # Panics
/// When they give something else.
pub async fn several_platforms_are_an_index(bench: &Bench) {
    let capabilities = probed(bench).await;
    let native = capabilities.platforms.first().cloned().unwrap_or_default();
    let other = capabilities.platforms.iter().find(|platform| **platform != native);
    for platforms in [Some(vec![native.clone()]), other.map(|other| vec![native.clone(), other.clone()])] {
        let Some(platforms) = platforms.filter(|platforms| platforms.len() == 1 || capabilities.indexes) else {
            continue;
        };
        let text = format!("FROM scratch\nCOPY f /f\nENV WORD={}", bench.unique());
        let mut spec = bench.spec("ann", bench.with_files(&text, &[("f", b"x")]));
        spec.platforms.clone_from(&platforms);
        let target = destination(&mut spec).target.clone();
        let outcome = bench.run(spec).await;
        let manifest = registry::manifest(&bench.registry, target.repository(), outcome.digest()).await;
        let named: Vec<String> = manifest["manifests"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| {
                let part = |name: &str| one["platform"][name].as_str();
                [part("os"), part("architecture"), part("variant")].into_iter().flatten().collect::<Vec<_>>().join("/")
            })
            .collect();
        let index = platforms.len() > 1;
        assert_eq!((named.len(), manifest.get("config").is_some()), (if index { 2 } else { 0 }, !index), "{manifest}");
        assert!(named.iter().all(|name| platforms.contains(name)), "{named:?} for {platforms:?}");
    }
}

/// An ignore file beside the Dockerfile, with its name, counts in the place of `.dockerignore`.
///
/// # Panics
/// When it doesn't.
pub async fn an_ignore_file_of_the_dockerfiles_own_counts_first(bench: &Bench) {
    let text = format!("FROM {{base}}\nCOPY . /all\nRUN ls /all # {}", bench.unique());
    for (own, out) in [(None, "a.txt"), (Some("Dockerfile.dockerignore"), "b.txt")] {
        let ignored = own.map(|name| (name, &b"b.*\n"[..]));
        let files = [(".dockerignore", &b"a.*\n"[..]), ("a.txt", b"a"), ("b.txt", b"b")];
        let files: Vec<_> = files.into_iter().chain(ignored).collect();
        let outcome = bench.run(bench.spec("ann", bench.with_files(&text, &files))).await;
        let (_, output) = (outcome.digest(), outcome.output());
        for file in ["a.txt", "b.txt"] {
            assert_eq!(output.contains(file), file != out, "{file}, ignored by {own:?}: {output}");
        }
    }
}

/// What keeps tenants apart leaves no trace in the image.
///
/// # Panics
/// When the configuration shows it.
pub async fn the_image_shows_nothing_of_kiln(bench: &Bench) {
    let mut spec = bench.spec("ann", bench.dockerfile(&format!("FROM {{base}}\nRUN echo {} > /x", bench.unique())));
    let (target, hostname) = (destination(&mut spec).target.clone(), spec.tenant.step_hostname());
    let outcome = bench.run(spec).await;
    let config = registry::config(&bench.registry, target.repository(), outcome.digest()).await.to_string();
    assert!(!config.contains(&hostname) && !config.contains("BUILDKIT_") && !config.contains("kiln"), "{config}");
}

/// Links are followed inside the context, wildcards too, modes are kept, and what a
/// `.dockerignore` names stays out.
///
/// # Panics
/// When a file is missing, different, or there against the rules.
pub async fn the_context_arrives_as_it_is(bench: &Bench) {
    let dockerfile = "FROM {base}\nCOPY link/deep /deep\nCOPY *.txt /texts/\nCOPY --link run ünï /bin/\n\
                      COPY . /all\nRUN cat /deep /texts/* /bin/ünï && /bin/run && ls -R /all && readlink /all/link";
    let text = dockerfile.replace("{base}", &bench.base_reference());
    let tree = Tree::builder()
        .file("Dockerfile", 0o644, text.as_bytes())
        .and_then(|tree| tree.file(".dockerignore", 0o644, b"**/secret*\n!keep/secret-not\nnode_modules\n"))
        .and_then(|tree| tree.file("dir/deep", 0o644, format!("deep-{}\n", bench.unique()).as_bytes()))
        .and_then(|tree| tree.symlink("link", "dir"))
        .and_then(|tree| tree.file("a.txt", 0o644, b"text-a\n"))
        .and_then(|tree| tree.file("b.txt", 0o600, b"text-b\n"))
        .and_then(|tree| tree.file("run", 0o755, b"#!/bin/sh\necho it-runs\n"))
        .and_then(|tree| tree.file("ünï", 0o644, "ünïcode\n".as_bytes()))
        .and_then(|tree| tree.file("keep/secret-not", 0o644, b""))
        .and_then(|tree| tree.file("keep/secret-yes", 0o644, b""))
        .and_then(|tree| tree.file("node_modules/m.js", 0o644, b""))
        .map(crate::TreeBuilder::build);
    let Ok(tree) = tree else { panic!("{tree:?}") };
    let outcome = bench.run(bench.spec("ann", tree)).await;
    let (_, output) = (outcome.digest(), outcome.output());
    for part in ["deep-", "text-a", "text-b", "it-runs", "ünïcode", "secret-not", "\ndir\n"] {
        assert!(output.contains(part), "{part:?} in {output}");
    }
    for part in ["secret-yes", "m.js"] {
        assert!(!output.contains(part), "{part:?} in {output}");
    }
}

/// Arguments and proxy settings reach the steps; the latter aren't part of the cache key.
///
/// # Panics
/// When they don't.
pub async fn arguments_and_proxies_reach_the_steps(bench: &Bench) {
    let unique = bench.unique();
    let dockerfile = format!("FROM {{base}}\nARG WORD\nRUN echo got:$WORD:$http_proxy:{unique}");
    let mut spec = bench.spec("ann", bench.dockerfile(&dockerfile));
    let Ok(word) = BuildArg::parse("WORD") else { panic!("WORD is an argument") };
    spec.args = BTreeMap::from([(word, "a \"b\", c=d".to_owned())]);
    spec.proxy = BTreeMap::from([("http_proxy".to_owned(), "http://127.0.0.1:9".to_owned())]);
    let mut again = spec.clone();
    let outcome = bench.run(spec).await;
    let _ = outcome.digest();
    let expected = format!("got:a \"b\", c=d:http://127.0.0.1:9:{unique}");
    assert!(outcome.output().contains(&expected), "{}", outcome.output());

    if !probed(bench).await.keeps_cache {
        return;
    }
    again.attempt.attempt = 2;
    again.proxy.clear();
    let cached = bench.run(again).await;
    assert_eq!(cached.digest(), outcome.digest());
    assert_eq!(cached.output(), "", "the step came from the cache");
}

/// Every step starts once and ends once, in between lies its output, and numbers count from 1.
///
/// # Panics
/// When an event comes twice, out of order, or not at all.
pub async fn each_step_starts_once_and_ends_once(bench: &Bench) {
    let unique = bench.unique();
    let text = format!(
        "FROM {{base}} AS a\nRUN echo {unique}; echo one\nFROM {{base}}\nCOPY --from=a /bin/sh /x\nRUN echo two {unique}"
    );
    let outcome = bench.build("ann", &text).await;
    let _ = outcome.digest();
    let mut running: BTreeMap<u32, bool> = BTreeMap::new();
    let mut written = Vec::new();
    for event in &outcome.events {
        match &event.kind {
            EventKind::StepStarted { step, .. } => {
                assert_eq!(*step as usize, running.len() + 1, "steps are numbered as they are seen");
                running.insert(*step, true);
            }
            EventKind::StepFinished { step, error, .. } => {
                assert_eq!(running.insert(*step, false), Some(true), "step {step} ends once: {:#?}", outcome.events);
                assert_eq!(error, &None);
            }
            EventKind::Output { step, bytes, .. } => {
                assert_eq!(running.get(step), Some(&true), "output of a running step");
                written.extend_from_slice(bytes);
            }
            _ => {}
        }
    }
    assert!(running.values().all(|running| !running), "{:#?}", outcome.events);
    let written = String::from_utf8_lossy(&written).into_owned();
    assert!(written.contains("one\n") && written.contains("two "), "{written}");
}

/// The engine proves its rules, names its version and at least one platform.
///
/// # Panics
/// When it doesn't.
pub async fn the_probe_proves_the_engine(bench: &Bench) {
    let capabilities = probed(bench).await;
    assert!(capabilities.version.contains(|c: char| c.is_ascii_digit()), "{capabilities:?}");
    assert!(capabilities.platforms.first().is_some_and(|platform| platform.starts_with("linux/")), "{capabilities:?}");
}

pub(super) async fn probed(bench: &Bench) -> crate::Capabilities {
    match bench.backend.probe().await {
        Ok(capabilities) => capabilities,
        Err(error) => panic!("{error}"),
    }
}
