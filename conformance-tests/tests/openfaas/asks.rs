//! What an archive may ask for beside its image: no push, platforms, files to be left out.

use std::{path::Path, process::Command, time::Duration};

use kiln_conformance_tests::{Engine, kiln::base, registry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Archive, USER, log, post, signed, signed_on};

const ENGINES: [Engine; 3] = [Engine::Buildkitd, Engine::Docker, Engine::DockerContainerd];
const PATIENCE: Duration = Duration::from_secs(60);
const COPIES: &str = "FROM scratch\nCOPY hello /hello\n";

#[tokio::test]
async fn what_is_not_to_be_pushed_is_built_and_nowhere_to_be_found() {
    for engine in ENGINES {
        let kiln = signed_on(engine).start().await;
        let client = kiln.client(USER);
        let dockerfile = format!("FROM {}\nRUN echo ran {}\n", base("waiting"), Uuid::new_v4());
        let repository = format!("functions/n{}", Uuid::new_v4().simple());
        let image = format!("{}/{repository}:Latest", kiln_conformance_tests::engine("KILN_TEST_REGISTRY"));
        let archive = Archive::asking(&dockerfile, &json!({ "Ref": image, "skipPush": true }), &[]);
        let answer = post(&kiln.anonymous(), &archive).await;
        let json = answer.json();
        assert_eq!(answer.status, 200, "{engine:?}: {}", answer.text);
        assert_eq!((&json["status"], &json["imageName"]), (&json!("success"), &json!(image)), "{engine:?}");
        assert!(log(&answer).contains("ran "), "{engine:?}: {}", answer.text);
        assert!(!registry::has_repository(&repository).await, "{engine:?}: something was uploaded");
        assert_eq!(kept(engine, &repository), "", "{engine:?}");
        let builds = client.get("/v1/builds").await.json();
        let build = &builds["builds"][0];
        assert_eq!((&build["state"], &build["digest"]), (&json!("succeeded"), &Value::Null), "{engine:?}: {build}");

        // The same is found where it is pushed.
        let pushed = Archive::asking(&dockerfile, &json!({ "Ref": image }), &[]);
        assert_eq!(post(&kiln.anonymous(), &pushed).await.status, 200, "{engine:?}");
        assert!(registry::has_repository(&repository).await, "{engine:?}");

        let fails = Archive::asking(&format!("{dockerfile}RUN exit 3\n"), &json!({ "skipPush": true }), &[]);
        let answer = post(&kiln.anonymous(), &fails).await;
        assert!(answer.status == 500 && answer.text.contains("exit code 3"), "{engine:?}: {}", answer.text);
    }
}

/// The images of a repository that a Docker Engine has.
fn kept(engine: Engine, repository: &str) -> String {
    let ("KILN_ENGINE__DOCKER", host) = engine.variable() else { return String::new() };
    let docker = Path::new(&kiln_conformance_tests::engine("KILN_DEV_BIN")).join("docker");
    let reference = format!("reference=*/{repository}");
    let listed =
        Command::new(docker).args(["--host", &host, "image", "ls", "--quiet", "--filter", &reference]).output();
    let listed = listed.expect("docker runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap()
}

#[tokio::test]
async fn a_target_is_checked_also_where_nothing_is_pushed() {
    let kiln = signed().start().await;
    for (image, status) in [("elsewhere.example/a:1", 403), ("not a ref!!", 400)] {
        let more = json!({ "Ref": image, "skipPush": true });
        let answer = post(&kiln.anonymous(), &Archive::asking(COPIES, &more, &[])).await;
        assert_eq!(answer.status, status, "{image}: {}", answer.text);
    }
}

/// An earlier build of the same target whose tag is still to be moved isn't overtaken by one that moves none.
#[tokio::test]
async fn a_build_that_pushes_nothing_leaves_the_tag_to_those_that_do() {
    // Both at once, or the second would wait for the first one's end.
    let launch = signed().set("KILN_LIMITS__CONCURRENCY", "4").set("KILN_LIMITS__RUNNING_PER_OWNER", "4");
    let mut kiln = launch.start().await;
    let client = kiln.anonymous();
    let slow = Archive::of(&format!("FROM {}\nRUN echo {}; sleep 3\n", base("waiting"), Uuid::new_v4()));
    let checks = Archive::asking(COPIES, &json!({ "Ref": slow.image(), "skipPush": true }), &[]);
    let pushed = tokio::spawn({
        let request = crate::request(&client, &slow);
        async move { request.send().await.unwrap().status().as_u16() }
    });
    kiln.line(PATIENCE, |line| line["fields"]["what"] == "accept").await;
    assert_eq!(post(&client, &checks).await.status, 200);
    assert!(!pushed.is_finished(), "the first one was to take longer");
    assert_eq!(pushed.await.unwrap(), 200);
    assert!(registry::digest(&slow.repository, &slow.tag).await.is_some(), "its tag was moved");
}

#[tokio::test]
async fn several_platforms_are_one_index_under_the_tag() {
    for (engine, platforms) in [
        (Engine::Buildkitd, ["linux/386", "linux/amd64"]),
        (Engine::DockerContainerd, ["linux/amd64", "linux/amd64/v2"]),
    ] {
        let kiln = signed_on(engine).start().await;
        let archive = Archive::asking(COPIES, &json!({ "platforms": platforms }), &[]);
        let answer = post(&kiln.anonymous(), &archive).await;
        assert_eq!(answer.status, 200, "{engine:?}: {}", answer.text);
        let (digest, index) = registry::manifest(&archive.repository, &archive.tag).await.expect("the image is there");
        let mut named: Vec<String> = index["manifests"]
            .as_array()
            .expect("an index")
            .iter()
            .map(|one| {
                let part = |name: &str| one["platform"][name].as_str().map(str::to_owned);
                [part("os"), part("architecture"), part("variant")].into_iter().flatten().collect::<Vec<_>>().join("/")
            })
            .collect();
        named.sort();
        assert_eq!(named, platforms, "{engine:?}: {index}");
        let builds = kiln.client(USER).get("/v1/builds").await.json();
        assert_eq!(builds["builds"][0]["digest"], json!(digest), "{engine:?}");
    }
}

#[tokio::test]
async fn one_platform_or_an_empty_list_is_a_plain_image() {
    for (engine, other, others) in [
        (Engine::Buildkitd, "linux/386", "386"),
        (Engine::Docker, "linux/386", "386"),
        (Engine::DockerContainerd, "linux/amd64/v2", "amd64"),
    ] {
        let kiln = signed_on(engine).start().await;
        for (platforms, architecture) in
            [(json!([""]), "amd64"), (json!([]), "amd64"), (json!([other]), others), (json!(null), "amd64")]
        {
            let archive = Archive::asking(COPIES, &json!({ "platforms": platforms }), &[]);
            let answer = post(&kiln.anonymous(), &archive).await;
            assert_eq!(answer.status, 200, "{engine:?} {platforms}: {}", answer.text);
            let config = registry::config(&archive.repository, &archive.tag).await;
            assert_eq!(config["architecture"], architecture, "{engine:?} {platforms}");
        }
    }
}

#[tokio::test]
async fn a_platform_that_the_engine_lacks_is_refused_before_a_step_runs() {
    for (engine, platforms, text) in [
        (
            Engine::Buildkitd,
            json!(["linux/amd64", "linux/s390x"]),
            "the engine can't build for linux/s390x; it has linux/amd64",
        ),
        (Engine::Docker, json!(["linux/amd64", "linux/386"]), "the engine builds for one platform at a time"),
        (Engine::Docker, json!(["linux/s390x"]), "the engine can't build for linux/s390x; it has linux/amd64"),
    ] {
        let kiln = signed_on(engine).start().await;
        let dockerfile = format!("FROM {}\nRUN echo ran\n", base("waiting"));
        let archive = Archive::asking(&dockerfile, &json!({ "platforms": platforms }), &[]);
        let answer = post(&kiln.anonymous(), &archive).await;
        let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 500 && status.contains(text), "{engine:?}: {}", answer.text);
        assert_eq!(log(&answer), "", "{engine:?}");
    }
}

#[tokio::test]
async fn ignore_files_are_honoured() {
    for engine in ENGINES {
        let kiln = signed_on(engine).start().await;
        let dockerfile = format!("FROM {}\nCOPY . /all\nRUN find /all # {}\n", base("waiting"), Uuid::new_v4());
        let ignore = ("context/.dockerignore", "**/secret*\n!keep/secret-not\n");
        let own = ("context/Dockerfile.dockerignore", "hello\n");
        let files = [("context/secret-1", ""), ("context/keep/secret-2", ""), ("context/keep/secret-not", "")];
        for (ignores, seen, unseen) in [
            (vec![ignore], vec!["hello", "secret-not"], vec!["secret-1", "secret-2"]),
            (vec![ignore, own], vec!["secret-1", "secret-2", "secret-not"], vec!["/all/hello"]),
        ] {
            let archive = Archive::asking(&dockerfile, &json!({}), &[&files[..], &ignores].concat());
            let answer = post(&kiln.anonymous(), &archive).await;
            assert_eq!(answer.status, 200, "{engine:?}: {}", answer.text);
            let said = log(&answer);
            assert!(seen.iter().all(|file| said.contains(file)), "{engine:?}: {seen:?} in {said}");
            assert!(!unseen.iter().any(|file| said.contains(file)), "{engine:?}: none of {unseen:?} in {said}");
        }
    }
}
