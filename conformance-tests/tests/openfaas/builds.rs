//! Archives that become images, and those that don't.

use std::{io::Read as _, process::Stdio};

use kiln_conformance_tests::{kiln::base, registry};
use serde_json::{Value, json};

use crate::{Archive, USER, log, post, signed};

const COPIES: &str = "FROM scratch\nCOPY hello /hello\n";

#[tokio::test]
async fn an_archive_becomes_an_image_and_its_sender_finds_the_build_at_the_native_door_too() {
    let kiln = signed().start().await;
    let archive = Archive::of(COPIES);
    let answer = post(&kiln.anonymous(), &archive).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/plain; charset=utf-8"));
    let json = answer.json();
    assert_eq!((&json["status"], &json["imageName"]), (&json!("success"), &json!(archive.image())), "{}", answer.text);
    assert!(answer.text.starts_with("{\"log\":[\"v: ") && !answer.text.ends_with('\n'), "{}", answer.text);
    assert!(log(&answer).contains("COPY hello /hello"), "{}", answer.text);
    assert_eq!(hello(&archive).await, "hello from the context\n");

    let client = kiln.client(USER);
    let builds = client.get("/v1/builds").await.json();
    let build = &builds["builds"][0];
    assert_eq!((&build["state"], &build["source"]), (&json!("succeeded"), &Value::Null), "{builds}");
    let log = client.log(build["id"].as_str().unwrap()).await;
    assert_eq!(log.last().unwrap(), &("end".to_owned(), "succeeded".to_owned()));
}

#[tokio::test]
async fn compressed_archives_and_build_arguments_do_as_well() {
    let kiln = signed().start().await;
    let dockerfile =
        format!("# syntax=docker/dockerfile:1\nFROM {}\nARG GREETING\nRUN echo it says $GREETING\n", base("waiting"));
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let archive = Archive::of(&dockerfile).compressed(program);
        let answer = post(&kiln.anonymous(), &archive).await;
        assert_eq!(answer.status, 200, "{program}: {}", answer.text);
        assert!(registry::digest(&archive.repository, &archive.tag).await.is_some(), "{program}");
    }
}

#[tokio::test]
async fn a_build_that_fails_is_a_500_with_its_log() {
    let kiln = signed().start().await;
    let archive =
        Archive::of(&format!("FROM {}\nARG GREETING\nRUN echo $GREETING '<&>' >&2; exit 3\n", base("waiting")));
    let answer = post(&kiln.anonymous(), &archive).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (500, "text/plain; charset=utf-8"));
    let status = answer.json()["status"].as_str().unwrap().to_owned();
    assert!(status.starts_with("failure: ") && status.contains("exit code 3"), "{status}");
    assert!(log(&answer).contains("moin <&>\n"), "{}", answer.text);
    assert!(answer.text.contains(r"moin \u003c\u0026\u003e\n"), "{}", answer.text);
    assert_eq!(registry::digest(&archive.repository, &archive.tag).await, None);
}

/// The file of the image's one layer.
async fn hello(archive: &Archive) -> String {
    let (_, manifest) = registry::manifest(&archive.repository, &archive.tag).await.expect("the image is there");
    let layers = manifest["layers"].as_array().unwrap();
    let layer = registry::blob(&archive.repository, layers[0]["digest"].as_str().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer");
    std::fs::write(&file, layer).unwrap();
    let mut tar = std::process::Command::new("tar");
    let mut tar = tar.arg("-xzOf").arg(&file).arg("hello").stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    tar.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(tar.wait().unwrap().success());
    text
}
