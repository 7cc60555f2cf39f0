//! The real registry, asked directly: what the gateway says is compared with what is there.

use aws_lc_rs::digest::{SHA256, digest as hash};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine;

/// An image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image's configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer that isn't compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.oci.image.index.v1+json";

/// The digest that a tag names; `None` if there is no such tag.
///
/// # Panics
/// When the registry doesn't answer.
pub async fn digest(repository: &str, tag: &str) -> Option<String> {
    let (digest, _) = manifest(repository, tag).await?;
    Some(digest)
}

/// A manifest and its digest.
///
/// # Panics
/// When the registry doesn't answer.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn manifest(repository: &str, reference: &str) -> Option<(String, Value)> {
    let response = client()
        .get(api(&format!("{repository}/manifests/{reference}")))
        .header("accept", ACCEPT)
        .send()
        .await
        .expect("the registry answers");
    if response.status() == StatusCode::NOT_FOUND {
        return None;
    }
    let digest = response.headers().get("docker-content-digest").and_then(|d| d.to_str().ok()).map(str::to_owned);
    Some((digest.expect("a digest"), response.json().await.expect("a manifest")))
}

/// The configuration of an image.
///
/// # Panics
/// When it isn't there.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn config(repository: &str, reference: &str) -> Value {
    let (_, manifest) = manifest(repository, reference).await.expect("an image");
    let digest = manifest["config"]["digest"].as_str().expect("a configuration");
    serde_json::from_slice(&blob(repository, digest).await).expect("JSON")
}

/// The bytes of a blob.
///
/// # Panics
/// When it isn't there.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn blob(repository: &str, digest: &str) -> bytes::Bytes {
    let response = send(client().get(api(&format!("{repository}/blobs/{digest}")))).await;
    response.bytes().await.expect("bytes")
}

/// Takes a blob from a repository; others that have it keep it.
///
/// # Panics
/// When it isn't there.
pub async fn delete_blob(repository: &str, digest: &str) {
    send(client().delete(api(&format!("{repository}/blobs/{digest}")))).await;
}

/// Whether anything was ever uploaded to a repository, with a tag or without.
///
/// # Panics
/// When the registry doesn't answer.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn has_repository(repository: &str) -> bool {
    // The list begins behind `last`, in the order of bytes.
    let before = &repository[..repository.len() - 1];
    let answer = send(client().get(api(&format!("_catalog?n=1&last={before}")))).await;
    let listed: Value = answer.json().await.expect("a catalogue");
    listed["repositories"][0] == repository
}

/// Deletes an image by its digest.
///
/// # Panics
/// When the registry doesn't.
pub async fn delete(repository: &str, digest: &str) {
    send(client().delete(api(&format!("{repository}/manifests/{digest}")))).await;
}

/// Gives a repository a blob that another one has.
///
/// # Panics
/// When the registry doesn't.
pub async fn mount(from: &str, to: &str, digest: &str) {
    send(client().post(api(&format!("{to}/blobs/uploads/?mount={digest}&from={from}")))).await;
}

/// Uploads a blob and returns its digest.
///
/// # Panics
/// When the registry doesn't take it.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn upload(repository: &str, blob: Vec<u8>) -> String {
    let digest: String = hash(&SHA256, &blob).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = format!("sha256:{digest}");
    let begun = send(client().post(api(&format!("{repository}/blobs/uploads/")))).await;
    let location = begun.headers().get("location").and_then(|l| l.to_str().ok()).expect("a place to upload to");
    let place = begun.url().join(location).expect("a URL");
    send(client().put(place).query(&[("digest", &digest)]).body(blob)).await;
    digest
}

/// An image, for which there is one blob of each.
#[derive(Debug)]
pub struct Image {
    /// Under no tag yet.
    pub manifest: Value,
    /// Of its blobs, bytes.
    pub size: u64,
}

/// Uploads an image of a layer of its own.
///
/// # Panics
/// When the registry doesn't take it.
pub async fn image(repository: &str, architecture: &str) -> Image {
    let layer = Uuid::new_v4().to_string().into_bytes();
    let config = json!({
        "os": "linux", "architecture": architecture, "created": "2026-01-31T12:00:00Z",
        "config": { "User": "nobody" }, "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let config = config.to_string().into_bytes();
    let sizes = (config.len() as u64, layer.len() as u64);
    let (config, layer) = (upload(repository, config).await, upload(repository, layer).await);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config, "size": sizes.0 },
        "layers": [{ "mediaType": LAYER, "digest": layer, "size": sizes.1 }],
    });
    Image { manifest, size: sizes.0 + sizes.1 }
}

/// Puts a manifest under a tag.
///
/// # Panics
/// When the registry doesn't take it.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn put_manifest(repository: &str, tag: &str, manifest: &Value) {
    let kind = manifest["mediaType"].as_str().expect("a media type");
    let put = client().put(api(&format!("{repository}/manifests/{tag}")));
    send(put.header("content-type", kind).body(manifest.to_string())).await;
}

/// Gives an image another tag, to the byte.
///
/// # Panics
/// When it isn't there, or the registry refuses.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn tag(repository: &str, reference: &str, tag: &str) {
    let get = client().get(api(&format!("{repository}/manifests/{reference}"))).header("accept", ACCEPT);
    let manifest = send(get).await;
    let kind = manifest.headers().get("content-type").expect("a media type").clone();
    let bytes = manifest.bytes().await.expect("a manifest");
    send(client().put(api(&format!("{repository}/manifests/{tag}"))).header("content-type", kind).body(bytes)).await;
}

#[expect(clippy::expect_used, reason = "a test panics where it fails")]
async fn send(request: reqwest::RequestBuilder) -> reqwest::Response {
    let response = request.send().await.expect("the registry answers");
    assert!(response.status().is_success(), "{}: {}", response.url(), response.status());
    response
}

fn api(path: &str) -> String {
    format!("http://{}/v2/{path}", engine("KILN_TEST_REGISTRY"))
}

/// Copies an image, tag `latest`, to another repository, as an owner who pushes a base of their own does.
///
/// # Panics
/// When the registry refuses.
#[expect(clippy::expect_used, reason = "a test panics where it fails")]
pub async fn copy(from: &str, to: &str) {
    let (_, manifest) = manifest(from, "latest").await.expect("an image");
    let registry = format!("http://{}/v2", engine("KILN_TEST_REGISTRY"));
    let layers = manifest["layers"].as_array().expect("layers");
    for blob in layers.iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().expect("a digest");
        let mount = format!("{registry}/{to}/blobs/uploads/?mount={digest}&from={from}");
        let mounted = client().post(mount).send().await.expect("the registry answers").status();
        assert_eq!(mounted, StatusCode::CREATED, "{digest}");
    }
    let kind = manifest["mediaType"].as_str().expect("a media type").to_owned();
    let put = client().put(format!("{registry}/{to}/manifests/latest")).header("content-type", kind);
    let put = put.body(manifest.to_string()).send().await.expect("the registry answers").status();
    assert_eq!(put, StatusCode::CREATED, "{to}");
}

#[expect(clippy::expect_used, reason = "a test panics where it fails")]
fn client() -> Client {
    // Whoever comes first installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().build().expect("a client")
}
