//! Sealed build secrets: envelopes as faas-cli makes them, opened for one step and kept nowhere.

use std::path::Path;

use kiln_conformance_tests::{Engine, Kiln, Launch, kiln::base, registry};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Archive, USER, archive::tar, log, post, signed, signed_on};

/// A key pair that was thrown away, and what faas-cli sealed for it; both values are [`PLAIN`].
const PRIVATE: &str = "yWEI5Uge5Xcp1LNgowicpXbVPg21CHq4cd9rCLxHajs=";
const PUBLIC: &str = "yJVNaR+dsI7+HIFerOTUE3raLAhAdClHjVvJrtMqbW0=";
const ENVELOPE: &str = "version: v1
algorithm: nacl/box
key_id: yJVNaR+d
public_key: sgfGwB9IC0Q+bKA4NJUEhmKgbiDVdw9yFSskK1ByXBk=
secrets:
    ca.crt: yO4XsHZ2ee8iVxQvWIgDAukkmMeZ5/4R6uhl55FspPJpptUQSBc2eHxG8iw2XA==
    pip_token: aHVRA2TI22AOe0ywB/ypFGOmgRzZvx5SDPFfkomP8AhmouDnKqzahZfc1yTDAw==
";
const PLAIN: &str = "s3cr3t";
const FILE: &str = "com.openfaas.secrets";

/// A gateway with that key, which logs all it can.
fn with_key(launch: Launch) -> Launch {
    let key = launch.folder().join("build-secrets");
    std::fs::write(&key, format!("{PRIVATE}\n")).unwrap();
    launch.set("KILN_OPENFAAS__BUILD_SECRETS_KEY_FILE", key.display().to_string()).set("KILN_LOG", "debug,kiln=trace")
}

/// An archive whose step mounts both secrets, says what it thinks of them, and prints them all the same.
fn reading() -> Archive {
    let dockerfile = format!(
        "FROM {}\nUSER root\nRUN --mount=type=secret,id=pip_token --mount=type=secret,id=ca.crt,target=/ca.crt \\\n\
         echo {} && [ \"$(cat /run/secrets/pip_token)\" = s3cr\"\"3t ] && [ \"$(wc -c </ca.crt)\" = 6 ] && echo as sealed && \\\n\
         cat /run/secrets/pip_token && ! cat /run/secrets/other\n",
        base("waiting"),
        Uuid::new_v4()
    );
    Archive::asking(&dockerfile, &json!({}), &[(FILE, ENVELOPE)])
}

/// Panics where the plain text lies in a file below the folder.
fn nothing_lies_in(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nothing_lies_in(&path);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes());
            assert!(!found, "the secret lies in {}", path.display());
        }
    }
}

/// Panics where the image shows the plain text, in its configuration or a file of its last layer.
async fn nothing_shows_in(archive: &Archive) {
    let (_, manifest) = registry::manifest(&archive.repository, &archive.tag).await.expect("the image is there");
    let config = registry::config(&archive.repository, &archive.tag).await.to_string();
    assert!(!config.contains(PLAIN), "{config}");
    let layer = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    let layer = registry::blob(&archive.repository, &layer).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("layer"), layer).unwrap();
    let unpacked =
        std::process::Command::new("tar").args(["-xzf", "layer"]).current_dir(folder.path()).status().unwrap();
    assert!(unpacked.success());
    std::fs::remove_file(folder.path().join("layer")).unwrap();
    nothing_lies_in(folder.path());
}

#[tokio::test]
async fn a_step_finds_what_was_sealed_and_it_shows_nowhere() {
    for engine in [Engine::Buildkitd, Engine::Docker, Engine::DockerContainerd] {
        let kiln = with_key(signed_on(engine)).start().await;
        let archive = reading();
        let answer = post(&kiln.anonymous(), &archive).await;
        assert_eq!(answer.status, 200, "{engine:?}: {}", answer.text);
        let said = log(&answer);
        assert!(said.contains("as sealed") && said.contains("***"), "{engine:?}: {said}");
        assert!(!answer.text.contains(PLAIN), "{engine:?}: {}", answer.text);
        nothing_shows_in(&archive).await;

        let client = kiln.client(USER);
        let builds = client.get("/v1/builds").await.text;
        let id = serde_json::from_str::<Value>(&builds).unwrap()["builds"][0]["id"].as_str().unwrap().to_owned();
        let kept = client.log(&id).await;
        assert!(kept.iter().any(|(_, text)| text.contains("***")), "{engine:?}: {kept:?}");
        assert!(!format!("{builds}{kept:?}{:?}", kiln.log()).contains(PLAIN), "{engine:?}");
        nothing_lies_in(&kiln.folder().join("data"));
    }
}

#[tokio::test]
async fn a_step_that_fails_does_not_tell_it_either() {
    let kiln = with_key(signed()).start().await;
    let dockerfile = format!(
        "FROM {}\nUSER root\nRUN --mount=type=secret,id=pip_token echo {} && cat /run/secrets/pip_token && exit 3\n",
        base("waiting"),
        Uuid::new_v4()
    );
    let answer = post(&kiln.anonymous(), &Archive::asking(&dockerfile, &json!({}), &[(FILE, ENVELOPE)])).await;
    assert_eq!(answer.status, 500, "{}", answer.text);
    let builds = kiln.client(USER).get("/v1/builds").await.text;
    assert!(builds.contains("StepFailed") && builds.contains("***"), "{builds}");
    assert!(!format!("{}{builds}{:?}", answer.text, kiln.log()).contains(PLAIN));
    nothing_lies_in(&kiln.folder().join("data"));
}

#[tokio::test]
async fn every_envelope_that_can_not_be_opened_is_a_400_of_its_own() {
    let kiln = with_key(signed()).start().await;
    let client = kiln.anonymous();
    let first = "yO4XsHZ2ee8iVxQvWIgDAukkmMeZ5/4R6uhl55FspPJpptUQSBc2eHxG8iw2XA==";
    let mut said = Vec::new();
    for (from, to, text) in [
        ("version: v1", "version: v2", "the version must be v1"),
        ("nacl/box", "nacl/secretbox", "the algorithm must be nacl/box"),
        ("sgfGwB9I", "sgfG", "public_key is no base64 of 32 bytes"),
        (first, "AAAA", "the value of \"ca.crt\" is no base64 of a nonce of 24 bytes and a box"),
        (first, "no base64", "the value of \"ca.crt\""),
        ("yO4X", "AAAA", "\"ca.crt\" can't be opened; it was sealed for the key \"yJVNaR+d\""),
        ("ca.crt", "../ca", "can't be a secret's name"),
        ("secrets:", "secrets: [", "isn't as expected"),
    ] {
        let envelope = ENVELOPE.replacen(from, to, 1);
        let answer = post(&client, &Archive::asking("FROM scratch\n", &json!({}), &[(FILE, &envelope)])).await;
        let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, 400, "{from:?} -> {to:?}: {}", answer.text);
        assert!(status.contains(FILE) && status.contains(text), "{from:?} -> {to:?}: {status}");
        said.push(status);
    }
    assert_eq!(kiln.client(USER).get("/v1/builds").await.json()["builds"], json!([]));
    let keyless = signed().start().await;
    let answer = post(&keyless.anonymous(), &reading()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("no key to open build secrets with"), "{}", answer.text);
}

#[tokio::test]
async fn keys_change_while_it_runs_and_the_old_one_opens_beside_the_new() {
    let kiln = with_key(signed()).start().await;
    let client = kiln.anonymous();
    assert_eq!(published(&kiln).await["key_id"], "yJVNaR+d");
    let rotated = keygen(&kiln, &["--rotate"]);
    assert_eq!(published(&kiln).await["public_key"].as_str(), Some(rotated.trim()));
    assert_ne!(published(&kiln).await["key_id"], "yJVNaR+d");
    // Sealed for the key that was there before.
    let answer = post(&client, &reading()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    keygen(&kiln, &["--rotate"]);
    let answer = post(&client, &reading()).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    std::fs::write(kiln.folder().join("build-secrets"), "no key").unwrap();
    let answer = post(&client, &reading()).await;
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert!(!answer.text.contains(&kiln.folder().display().to_string()), "{}", answer.text);
}

#[tokio::test]
async fn the_public_key_is_there_for_everybody_or_its_absence_is_explained() {
    let kiln = with_key(signed()).start().await;
    for path in ["/publickey", "/public-key"] {
        let answer = kiln.anonymous().get(path).await;
        let want = format!(r#"{{"key_id":"yJVNaR+d","algorithm":"nacl/box","public_key":"{PUBLIC}"}}"#);
        assert_eq!(answer.parts(), (200, "application/json", want.as_str()));
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let answer = kiln.anonymous().send(kiln.anonymous().request(method.clone(), path)).await;
            assert_eq!(answer.status, 405, "{method} {path}");
        }
    }
    let keyless = signed().start().await;
    let answer = keyless.anonymous().get("/publickey").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (404, "text/plain; charset=utf-8"));
    assert!(answer.text.contains("openfaas.build_secrets_key_file"), "{}", answer.text);
}

#[test]
fn the_doctor_reads_the_key_file() {
    let doctor = |launch: &Launch| {
        let output = launch.command(&["doctor"]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let launch = with_key(signed());
    let file = launch.folder().join("build-secrets");
    std::fs::remove_file(&file).unwrap();
    let (status, said) = doctor(&launch);
    assert!(said.contains("FAIL  build secrets: ") && said.contains("kiln openfaas keygen"), "{said}");
    assert_eq!(status, Some(1), "{said}");
    let made = launch.command(&["openfaas", "keygen"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (status, said) = doctor(&launch);
    assert!(status == Some(0) && said.contains("ok    build secrets: callers seal for the key "), "{said}");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (status, said) = doctor(&launch);
    assert!(status == Some(0) && said.contains("warn  build secrets: "), "{said}");
}

async fn published(kiln: &Kiln) -> Value {
    kiln.anonymous().get("/publickey").await.json()
}

/// Makes a key in the gateway's file by the program; gives the public half.
fn keygen(kiln: &Kiln, arguments: &[&str]) -> String {
    let file = kiln.folder().join("build-secrets");
    let output = std::process::Command::new(kiln_conformance_tests::kiln::program())
        .args(["openfaas", "keygen", "--file"])
        .arg(file)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Bodies without an envelope are nobody's secret, with a key or without.
#[tokio::test]
async fn an_archive_needs_no_envelope() {
    let kiln = with_key(signed()).start().await;
    let archive = Archive::of("FROM scratch\nCOPY hello /\n");
    assert_eq!(post(&kiln.anonymous(), &archive).await.status, 200);
    let folder = Archive::raw(tar(&[("com.openfaas.docker.config", "{}"), ("com.openfaas.secrets/x", "")], &[]));
    let answer = post(&kiln.anonymous(), &folder).await;
    assert!(answer.status == 400 && answer.text.contains("must be a regular file"), "{}", answer.text);
}
