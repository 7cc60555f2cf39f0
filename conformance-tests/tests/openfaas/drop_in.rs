//! A gateway that nothing but the real builders' variables describes.

use std::{fs, os::unix::fs::PermissionsExt as _};

use kiln_conformance_tests::{Engine, Kiln, Launch, engine, kiln::base};
use serde_json::json;
use uuid::Uuid;

use crate::{Archive, KEY, archive, archive::tar, log, post, unsigned};

/// As their manifests have it, with the folders of this test.
fn launch() -> Launch {
    let launch = Launch::drop_in();
    fs::write(launch.folder().join("payload-secret"), format!("{KEY}\n")).unwrap();
    let folder = launch.folder().display().to_string();
    let variables = [
        ("LISTEN_PORT", "0"),
        ("enable_lchown", "false"),
        ("insecure", "true"),
        ("disable_hmac", "false"),
        ("max_inflight", "4"),
        ("buildkit_server_name", "127.0.0.1"),
        ("http_proxy", "http://127.0.0.1:9"),
        ("no_proxy", "localhost"),
        ("secret_mount_path", &folder),
        ("HOME", &folder),
        ("buildkit_url", &Engine::Buildkitd.variable().1),
    ];
    variables.iter().fold(launch, |launch, (name, value)| launch.set(name, *value))
}

/// An archive that tells its proxies, with these arguments.
fn telling(registry: &str, args: &serde_json::Value) -> Archive {
    let image = format!("{registry}/functions/{}:latest", Uuid::new_v4().simple());
    let config = json!({ "image": image, "buildArgs": args }).to_string();
    // Proxies are in no cache's key, so the step is another one each time.
    let step = format!("RUN echo {} proxies: $http_proxy $no_proxy", Uuid::new_v4());
    let dockerfile = format!("FROM {}\n{step}\n", base("waiting"));
    Archive::raw(tar(&[("com.openfaas.docker.config", &config), ("context/Dockerfile", &dockerfile)], &[]))
}

#[tokio::test]
async fn the_real_builders_variables_alone_suffice_to_build_and_their_proxies_reach_the_steps() {
    let kiln = launch().start().await;
    let client = kiln.anonymous();
    let registry = engine("KILN_TEST_REGISTRY");
    for (args, told) in [
        (json!({}), " proxies: http://127.0.0.1:9 localhost\n"),
        (json!({ "http_proxy": "http://127.0.0.1:10" }), " proxies: http://127.0.0.1:10 localhost\n"),
    ] {
        let answer = post(&client, &telling(&registry, &args)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("success")), "{}", answer.text);
        assert!(log(&answer).contains(told), "{}", answer.text);
    }
    let unsigned = client.send(unsigned(&client, &telling(&registry, &json!({})))).await;
    assert_eq!(unsigned.status, 401);
    assert_eq!(client.get("/ready").await.status, 200);
    assert_eq!(client.get("/v1/builds").await.status, 401, "nobody else calls");
}

#[tokio::test]
async fn what_their_variables_open_is_told_at_the_start() {
    let told = |kiln: &Kiln, words: &str| {
        let lines = kiln.log().into_iter().filter(|line| line["level"] == "WARN" && line.to_string().contains(words));
        lines.count()
    };
    let kiln = launch().start().await;
    assert_eq!(told(&kiln, "bases.any"), 1, "{:#?}", kiln.log());
    assert_eq!(told(&kiln, "archives need no signature"), 0, "{:#?}", kiln.log());
    let (_, launch) = kiln.stop().await;

    // The folder of the key stays set, as in their manifests.
    let kiln = launch.set("disable_hmac", "true").start().await;
    assert_eq!(told(&kiln, "archives need no signature"), 1, "{:#?}", kiln.log());
    let registry = engine("KILN_TEST_REGISTRY");
    let client = kiln.anonymous();
    let answer = client.send(unsigned(&client, &telling(&registry, &json!({})))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (_, launch) = kiln.stop().await;

    let launch = launch.set("KILN_OPENFAAS__PAYLOAD_SECRET_FILE", "key");
    let refused = launch.command(&["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("remove the variable disable_hmac"), "{said}");
}

#[tokio::test]
async fn a_credential_helper_of_the_home_folder_finds_its_own_variables() {
    let launch = launch();
    let registry = engine("KILN_TEST_REGISTRY_AUTH");
    let answer = json!({
        "Username": engine("KILN_TEST_REGISTRY_AUTH_USER"), "Secret": engine("KILN_TEST_REGISTRY_AUTH_PASSWORD"),
    });
    let folder = launch.folder().to_owned();
    fs::create_dir(folder.join(".docker")).unwrap();
    let config = json!({ "credHelpers": { &registry: "kiln-test" } });
    fs::write(folder.join(".docker/config.json"), config.to_string()).unwrap();
    fs::write(folder.join("aws"), answer.to_string()).unwrap();
    let helper = folder.join("docker-credential-kiln-test");
    fs::write(&helper, "#!/bin/sh\ncat \"$AWS_SHARED_CREDENTIALS_FILE\"\n").unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();

    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let launch = launch.set("PATH", path);
    let archive = telling(&registry, &json!({}));
    let refused = {
        let kiln = launch.start().await;
        let answer = post(&kiln.anonymous(), &archive).await;
        assert_eq!(answer.status, 500, "{}", answer.text);
        kiln.stop().await.1
    };
    let kiln = refused.set("AWS_SHARED_CREDENTIALS_FILE", folder.join("aws").display().to_string()).start().await;
    let signature = archive::sha256(archive.bytes(), KEY);
    let client = kiln.anonymous();
    let answer = client.send(crate::unsigned(&client, &archive).header("x-build-signature", signature)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
