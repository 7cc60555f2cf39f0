//! Images copied under another name of their owner's, without a byte through the gateway.

use kiln_conformance_tests::{
    Client,
    client::Answer,
    registry::{self, MANIFEST, image},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{IMAGES, INDEX, PATIENCE, assert_problem, gateway, proxy::Proxy, pushed, somebody};

async fn copy(client: &Client, from: &str, to: &str) -> Answer {
    client.post(IMAGES, &json!({ "from": from, "to": to })).await
}

#[tokio::test]
async fn a_copy_is_the_same_image_and_no_blob_passes_through() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "t").await;
    let mut kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    proxy.seen();
    for (from, to) in [
        (format!("{user}:t"), format!("{user}:u")),
        (format!("{user}:t"), format!("{user}/other:t")),
        (format!("{user}@{digest}"), format!("{user}/third/x:t")),
    ] {
        let answer = copy(&client, &from, &to).await;
        assert_eq!(answer.status, 201, "{from} {to}: {}", answer.text);
        let (catalog, tag) = to.split_once(':').unwrap();
        assert_eq!(answer.json(), json!({ "catalog": catalog, "tag": tag, "digest": digest }));
        assert_eq!(answer.header("location"), format!("{IMAGES}/{to}"));
        assert_eq!(registry::digest(catalog, tag).await.as_ref(), Some(&digest));
        // The registry has every blob there: the configuration is read from the copy's own repository.
        assert_eq!(registry::config(catalog, tag).await["config"]["User"], "nobody");
    }
    let moved: Vec<_> =
        proxy.seen().into_iter().filter(|(method, path)| path.contains("/blobs/") && *method != Method::POST).collect();
    assert_eq!(moved, [], "only mounts");
    let line = kiln.line(PATIENCE, |line| line["fields"]["what"] == "copy-image").await;
    assert_eq!((&line["fields"]["who"], &line["fields"]["target"]), (&json!(user), &json!(format!("{user}:u"))));
}

#[tokio::test]
async fn a_copy_replaces_what_had_the_name() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "new").await;
    pushed(&format!("{user}/x"), "t").await;
    let kiln = gateway(&proxy, &user).await;
    let answer = copy(&kiln.client(&user), &format!("{user}:new"), &format!("{user}/x:t")).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(registry::digest(&format!("{user}/x"), "t").await, Some(digest));
}

#[tokio::test]
async fn an_index_is_copied_with_its_images() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let mut parts: Vec<Value> = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let made = image(&user, architecture).await;
        registry::put_manifest(&user, architecture, &made.manifest).await;
        let digest = registry::digest(&user, architecture).await;
        let platform = json!({ "os": "linux", "architecture": architecture });
        let size = made.manifest.to_string().len();
        parts.push(json!({ "mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform }));
    }
    registry::put_manifest(&user, "all", &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": parts })).await;
    let kiln = gateway(&proxy, &user).await;
    let to = format!("{user}/copy");
    let answer = copy(&kiln.client(&user), &format!("{user}:all"), &format!("{to}:all")).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(registry::digest(&to, "all").await, registry::digest(&user, "all").await);
    for part in &parts {
        let config = registry::config(&to, part["digest"].as_str().unwrap()).await;
        assert_eq!(config["architecture"], part["platform"]["architecture"]);
    }
}

#[tokio::test]
async fn what_is_no_copy_is_refused() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "t").await;
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let mine = format!("{user}:t");
    for (from, to, status) in [
        (format!("{user}:nothing"), format!("{user}:x"), 404),
        (format!("{user}/nothing:t"), format!("{user}:x"), 404),
        (mine.clone(), user.clone(), 400),
        (mine.clone(), format!("{user}@{digest}"), 400),
        (user.clone(), format!("{user}:x"), 400),
    ] {
        assert_problem(&copy(&client, &from, &to).await, status, &format!("{from} {to}"));
    }
    for body in [json!({}), json!({ "from": mine }), json!({ "from": mine, "to": 1 }), json!([])] {
        assert_problem(&client.post(IMAGES, &body).await, 422, &body.to_string());
    }
    assert_eq!(registry::digest(&user, "x").await, None);
}
