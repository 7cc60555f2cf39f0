//! Images looked at: what the registry has is what is shown.

use kiln_conformance_tests::{
    Client, engine,
    registry::{self, CONFIG, LAYER, MANIFEST, image},
};
use serde_json::{Value, json};

use crate::{IMAGES, INDEX, assert_problem, gateway, launch, proxy::Proxy, somebody};

async fn get(client: &Client, name: &str) -> Value {
    let answer = client.get(&format!("{IMAGES}/{name}")).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    answer.json()
}

#[tokio::test]
async fn an_image_is_shown_with_all_that_it_has() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let repository = format!("{user}/app");
    let made = image(&repository, "arm64").await;
    registry::put_manifest(&repository, "t", &made.manifest).await;
    let (digest, manifest) = registry::manifest(&repository, "t").await.unwrap();
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let shown = get(&client, &format!("{repository}:t")).await;
    let mut expected = json!({
        "catalog": repository, "tag": "t", "digest": digest, "media_type": MANIFEST, "size": made.size,
        "created": "2026-01-31T12:00:00Z", "platforms": ["linux/arm64"],
        "images": [{
            "platform": "linux/arm64", "digest": digest, "size": made.size, "created": "2026-01-31T12:00:00Z",
        }],
        "layers": [{
            "digest": manifest["layers"][0]["digest"], "size": manifest["layers"][0]["size"], "media_type": LAYER,
        }],
        "manifest": manifest, "config": registry::config(&repository, "t").await,
    });
    assert_eq!(shown, expected);
    expected["tag"] = Value::Null;
    assert_eq!(get(&client, &format!("{repository}@{digest}")).await, expected);
    assert_eq!(get(&client, &format!("{repository}%40{}", digest.replace(':', "%3A"))).await, expected);
    for name in ["app:nothing", "nothing:t", &format!("app@sha256:{}", "0".repeat(64))] {
        assert_problem(&client.get(&format!("{IMAGES}/{user}/{name}")).await, 404, name);
    }
}

#[tokio::test]
async fn an_index_is_shown_by_platform_without_its_attestations() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let mut parts = Vec::new();
    let mut sizes = Vec::new();
    for architecture in ["amd64", "arm64", "unknown"] {
        let made = image(&user, architecture).await;
        registry::put_manifest(&user, architecture, &made.manifest).await;
        let os = if architecture == "unknown" { "unknown" } else { "linux" };
        parts.push(json!({
            "mediaType": MANIFEST, "digest": registry::digest(&user, architecture).await,
            "size": made.manifest.to_string().len(), "platform": { "os": os, "architecture": architecture },
        }));
        sizes.push(made.size);
    }
    registry::put_manifest(&user, "all", &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": parts })).await;
    let kiln = gateway(&proxy, &user).await;
    let shown = get(&kiln.client(&user), &format!("{user}:all")).await;
    assert_eq!(shown["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!((&shown["size"], &shown["config"]), (&json!(sizes[0] + sizes[1]), &Value::Null));
    assert_eq!((&shown["images"][1]["digest"], &shown["layers"]), (&parts[1]["digest"], &json!([])));
}

#[tokio::test]
async fn what_is_no_image_is_shown_as_far_as_it_goes() {
    let (proxy, user) = (Proxy::start().await, somebody());
    // A chart: a configuration of another kind, and no creation.
    let config = registry::upload(&user, b"[1]".to_vec()).await;
    let chart = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": { "mediaType": CONFIG, "digest": config, "size": 3 },
    });
    registry::put_manifest(&user, "chart", &chart).await;
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let shown = get(&client, &format!("{user}:chart")).await;
    assert_eq!((&shown["size"], &shown["created"], &shown["config"]), (&json!(3), &Value::Null, &json!([1])));
    assert_eq!(get(&client, &user).await["images"][0]["size"], 3);
}

#[tokio::test]
async fn a_registry_that_wants_a_password_is_shown_the_operators_and_the_caller_sees_images() {
    let part = |name: &str| engine(&format!("KILN_TEST_REGISTRY_AUTH{name}"));
    let (proxy, user) = (Proxy::before(&part("")).await, somebody());
    let pair = format!("{}:{}", part("_USER"), part("_PASSWORD"));
    let launch = || launch(&proxy, &user).set("KILN_ENGINE__BUILDKIT", "unix:///nonexistent/engine.sock");
    let kiln = launch().set("REGISTRY_PUSH_SECRET", pair).start().await;
    let none = kiln.client(&user).get(IMAGES).await.json();
    assert_eq!(none, json!({ "catalogs": [], "complete": true }));
    assert_problem(&kiln.client(&user).get(&format!("{IMAGES}/{user}:t")).await, 404, "none");
    let wrong = launch().set("REGISTRY_PUSH_SECRET", "kiln:wrong").start().await;
    let refused = wrong.client(&user).get(&format!("{IMAGES}/{user}:t")).await;
    assert_problem(&refused, 403, "a wrong password");
    assert_eq!(refused.json()["reason"], "RegistryForbidden");
    let listed = wrong.client(&user).get(IMAGES).await;
    assert!(!listed.text.contains("wrong"), "{}", listed.text);
}

#[tokio::test]
async fn a_registry_that_is_away_is_worth_another_try() {
    let (proxy, user) = (Proxy::before("127.0.0.1:9").await, somebody());
    let kiln = gateway(&proxy, &user).await;
    drop(proxy);
    for path in [String::new(), format!("/{user}"), format!("/{user}:t")] {
        let answer = kiln.client(&user).get(&format!("{IMAGES}{path}")).await;
        assert_problem(&answer, 503, &path);
        assert_eq!((&answer.json()["reason"], answer.header("retry-after")), (&json!("RegistryUnavailable"), "10"));
    }
}
