//! The real registry, asked directly: what the gateway says is compared with what is there.

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::engine;

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
    let url = format!("http://{}/v2/{repository}/manifests/{reference}", engine("KILN_TEST_REGISTRY"));
    let response = client().get(url).header("accept", ACCEPT).send().await.expect("the registry answers");
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
    let url = format!("http://{}/v2/{repository}/blobs/{digest}", engine("KILN_TEST_REGISTRY"));
    let response = client().get(url).send().await.expect("the registry answers");
    assert!(response.status().is_success(), "{repository} {digest}: {}", response.status());
    response.bytes().await.expect("bytes")
}

#[expect(clippy::expect_used, reason = "a test panics where it fails")]
fn client() -> Client {
    // Whoever comes first installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().no_proxy().build().expect("a client")
}
