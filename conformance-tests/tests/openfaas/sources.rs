//! Frontends and hosts of `ADD`: nothing but what the operator lists.

use kiln_conformance_tests::{Engine, engine, kiln::base, registry};
use serde_json::json;
use uuid::Uuid;

use crate::{Archive, log, post, signed, signed_on};

const ENGINES: [Engine; 3] = [Engine::Buildkitd, Engine::Docker, Engine::DockerContainerd];
const NOT_FOLLOWED: &str = "is not followed";

/// The frontend that the suites were given, by digest, where nobody may build on it.
async fn frontend() -> String {
    registry::copy("bases/frontend", "frontends/dockerfile").await;
    let digest = registry::digest("frontends/dockerfile", "latest").await.expect("it was pushed");
    format!("{}/frontends/dockerfile@{digest}", engine("KILN_TEST_REGISTRY"))
}

fn step() -> String {
    format!("FROM {}\nRUN echo ran {}\n", base("waiting"), Uuid::new_v4())
}

#[tokio::test]
async fn a_frontend_that_is_listed_reads_the_dockerfile() {
    let image = frontend().await;
    for engine in ENGINES {
        let kiln = signed_on(engine).config(&format!("[sources]\nfrontends = [{image:?}]\n")).start().await;
        for archive in [
            Archive::of(&format!("# syntax={image}\n{}", step())),
            Archive::asking(&step(), &json!({ "frontend": image }), &[]),
        ] {
            let answer = post(&kiln.anonymous(), &archive).await;
            assert_eq!(answer.status, 200, "{engine:?}: {}", answer.text);
            let said = log(&answer);
            assert!(said.contains("ran ") && said.contains(&image), "{engine:?}: {said}");
            assert!(!said.contains(NOT_FOLLOWED), "{engine:?}: {said}");
        }
    }
}

#[tokio::test]
async fn no_other_frontend_is_started_and_the_log_says_so() {
    let image = frontend().await;
    let (name, _) = image.split_once('@').unwrap();
    let other = format!("{name}@sha256:{}", "0".repeat(64));
    let listed = signed().config(&format!("[sources]\nfrontends = [{image:?}]\n")).start().await;
    let none = signed().start().await;
    for (kiln, named) in [(&listed, other.as_str()), (&listed, name), (&listed, "docker/dockerfile:1"), (&none, &image)]
    {
        for archive in [
            Archive::of(&format!("# syntax={named}\n{}", step())),
            Archive::asking(&step(), &json!({ "frontend": named }), &[]),
        ] {
            let answer = post(&kiln.anonymous(), &archive).await;
            assert_eq!(answer.status, 200, "{named}: {}", answer.text);
            let said = log(&answer);
            assert!(said.contains("ran ") && said.contains(NOT_FOLLOWED), "{named}: {said}");
            assert!(!said.contains("dockerfile@sha256"), "{named}: {said}");
        }
    }
}

#[tokio::test]
async fn arguments_that_steer_the_engine_are_refused() {
    let kiln = signed().start().await;
    for (name, status) in [
        ("BUILDKIT_SYNTAX", 400),
        ("BUILDKIT_CACHE_MOUNT_NS", 400),
        ("buildkit_syntax", 400),
        ("BUILDKIT_INLINE_CACHE", 200),
    ] {
        let archive = Archive::asking(&step(), &json!({ "buildArgs": { name: "1" } }), &[]);
        let answer = post(&kiln.anonymous(), &archive).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(status == 200 || answer.text.contains(name), "{name}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_listed_host_gives_files_and_no_repository() {
    let host = engine("KILN_TEST_REGISTRY");
    for engine in ENGINES {
        let kiln = signed_on(engine).config(&format!("[sources]\nadd_hosts = [\"http://{host}\"]\n")).start().await;
        for (line, permitted) in [
            (format!("ADD http://{host}/v2/ /x"), true),
            (format!("ADD https://{host}/v2/ /x"), false),
            (format!("ADD http://{host}.example/ /x"), false),
            (format!("ADD http://{host}/moby/buildkit.git /x"), false),
            ("ADD https://github.com/moby/buildkit.git /x".to_owned(), false),
            ("ADD git@github.com:moby/buildkit.git /x".to_owned(), false),
        ] {
            let answer = post(&kiln.anonymous(), &Archive::of(&format!("FROM {}\n{line}\n", base("waiting")))).await;
            assert_eq!(answer.status, if permitted { 200 } else { 500 }, "{engine:?} {line}: {}", answer.text);
            assert!(permitted || answer.text.contains("may not fetch"), "{engine:?} {line}: {}", answer.text);
        }
    }
}

#[test]
fn a_source_that_makes_no_sense_is_refused_at_start() {
    for (toml, text) in [
        ("frontends = ['docker/dockerfile:1']", "by digest"),
        ("add_hosts = ['*']", "no host of ADD"),
        ("add_hosts = ['files.example/path']", "no host of ADD"),
        ("hosts = []", "unknown field"),
    ] {
        let launch = signed().config(&format!("[sources]\n{toml}\n"));
        let output = launch.command(&["serve"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(text), "{toml}: {said}");
    }
}
