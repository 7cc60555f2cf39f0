//! What a caller's own Dockerfile may name: in any of its lines, what policy permits its sender.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Launch, engine, kiln::base, registry};
use serde_json::json;
use uuid::Uuid;

use crate::{Archive, post, signed};

#[tokio::test]
async fn shared_and_own_bases_are_fetched_and_other_tenants_are_not() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    let registry = engine("KILN_TEST_REGISTRY");
    let bob = format!("bob{}", Uuid::new_v4().simple());
    for repository in [format!("{bob}/private"), format!("openfaas/{bob}"), format!("openfaas-{bob}")] {
        registry::copy("bases/waiting", &repository).await;
    }
    let (shared, own) = (base("waiting"), format!("{registry}/openfaas/{bob}"));
    let theirs = format!("{registry}/{bob}/private");
    let likely = format!("{registry}/openfaas-{bob}");
    for (dockerfile, built) in [
        (format!("FROM {shared} AS a\nFROM {own}\nCOPY --from=a /etc/passwd /copied\n"), true),
        (format!("FROM {theirs}\n"), false),
        (format!("FROM {likely}\n"), false),
        (format!("FROM {shared}\nCOPY --from={theirs} /etc/passwd /copied\n"), false),
        (format!("FROM {shared}\nRUN --mount=type=bind,from={theirs},target=/x true\n"), false),
        (format!("FROM {shared}\nADD http://{registry}/v2/ /x\n"), false),
        (format!("FROM {shared}\nADD https://github.com/moby/buildkit.git /x\n"), false),
    ] {
        let archive = Archive::of(&dockerfile);
        let answer = post(&client, &archive).await;
        assert_eq!(answer.status, if built { 200 } else { 500 }, "{dockerfile}{}", answer.text);
        assert_eq!(registry::digest(&archive.repository, &archive.tag).await.is_some(), built, "{dockerfile}");
    }
}

/// The registry that wants a password, and a `config.json` that has it.
fn asking() -> (String, String) {
    let asking = engine("KILN_TEST_REGISTRY_AUTH");
    let pair = format!("{}:{}", engine("KILN_TEST_REGISTRY_AUTH_USER"), engine("KILN_TEST_REGISTRY_AUTH_PASSWORD"));
    let auths = json!({ "auths": { &asking: { "auth": BASE64_STANDARD.encode(&pair) } } }).to_string();
    (asking, auths)
}

/// A gateway from which images may go there, too.
fn on(any: &str, auths: &str) -> Launch {
    let asking = engine("KILN_TEST_REGISTRY_AUTH");
    let launch = signed().set("KILN_BASES__ANY", any).set("KILN_OPENFAAS__REGISTRIES", format!("[{asking:?}]"));
    std::fs::write(launch.folder().join("config.json"), auths).unwrap();
    let folder = launch.folder().display().to_string();
    launch.set("DOCKER_CONFIG", folder).config(&format!("[registries.{asking:?}]\nplain_http = true\n"))
}

/// The registry that wants a password is another one than that to which images go by default.
#[tokio::test]
async fn where_every_base_is_open_the_operators_credential_opens_the_registry_that_it_is_for() {
    let (asking, auths) = asking();
    let there = format!("{asking}/seeds/s{}:1", Uuid::new_v4().simple());
    let open = on("true", &auths).start().await;
    let seed = Archive::asking(&format!("FROM {}\n", base("waiting")), &json!({ "Ref": there }), &[]);
    let answer = post(&open.anonymous(), &seed).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for (any, auths, built) in [("true", auths.as_str(), true), ("true", "{}", false), ("false", &auths, false)] {
        let kiln = on(any, auths).start().await;
        let dockerfile = format!("FROM {there}\nRUN echo {}\n", Uuid::new_v4());
        let answer = post(&kiln.anonymous(), &Archive::of(&dockerfile)).await;
        assert_eq!(answer.status, if built { 200 } else { 500 }, "{any} {auths}: {}", answer.text);
        assert!(!answer.text.contains(engine("KILN_TEST_REGISTRY_AUTH_PASSWORD").as_str()), "{}", answer.text);
    }
}

/// One password opens all of the registry, and what the engine has already is asked of no registry.
#[tokio::test]
async fn a_public_registry_that_images_are_pushed_to_with_a_credential_opens_own_and_shared_ones_alone() {
    let (asking, auths) = asking();
    let fresh = |owner: &str| format!("{asking}/{owner}/s{}:1", Uuid::new_v4().simple());
    let (theirs, own) = (fresh("acme"), fresh("openfaas"));
    let open = on("true", &auths).start().await;
    for image in [&theirs, &own] {
        let seed =
            Archive::asking(&format!("FROM {}\nRUN echo {image}\n", base("waiting")), &json!({ "Ref": image }), &[]);
        let answer = post(&open.anonymous(), &seed).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        // The engine has it now.
        let answer = post(&open.anonymous(), &Archive::of(&format!("FROM {image}\nRUN true\n"))).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let closed = on("false", &auths).set("KILN_BASES__PUBLIC", format!("[{asking:?}]")).start().await;
    for (image, built) in [(&theirs, false), (&own, true)] {
        let pinned = format!("{image}@{}", digest(image).await);
        for dockerfile in [format!("FROM {image}\n"), format!("FROM {pinned}\n")] {
            let there = Archive::asking(&dockerfile, &json!({ "Ref": fresh("openfaas") }), &[]);
            let answer = post(&closed.anonymous(), &there).await;
            assert_eq!(answer.status, if built { 200 } else { 500 }, "{dockerfile}{}", answer.text);
        }
        // Where the image goes elsewhere, nothing of that registry is the owner's.
        let answer = post(&closed.anonymous(), &Archive::of(&format!("FROM {pinned}\n"))).await;
        assert_eq!(answer.status, 500, "{pinned}: {}", answer.text);
    }
}

/// What a tag of the registry that wants a password names.
async fn digest(image: &str) -> String {
    let (host, path) = image.split_once('/').unwrap();
    let (repository, tag) = path.split_once(':').unwrap();
    let head = reqwest::Client::new().head(format!("http://{host}/v2/{repository}/manifests/{tag}"));
    let head = head
        .basic_auth(engine("KILN_TEST_REGISTRY_AUTH_USER"), Some(engine("KILN_TEST_REGISTRY_AUTH_PASSWORD")))
        .header("accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json");
    let response = head.send().await.unwrap().error_for_status().unwrap();
    response.headers()["docker-content-digest"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_operator_of_a_single_tenant_opens_every_base() {
    let kiln = signed().set("KILN_BASES__ANY", "true").start().await;
    let bob = format!("bob{}", Uuid::new_v4().simple());
    registry::copy("bases/waiting", &bob).await;
    let archive = Archive::of(&format!("FROM {}/{bob}\n", engine("KILN_TEST_REGISTRY")));
    let answer = post(&kiln.anonymous(), &archive).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
