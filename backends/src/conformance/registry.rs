//! The suite's own view of a registry: what stands there is read back over plain HTTP.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Every kind of manifest.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";

/// A path below `/v2/`, if it is there.
async fn get(registry: &str, path: &str) -> Option<Bytes> {
    let answer = async {
        let stream = TcpStream::connect(registry).await?;
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(format!("/v2/{path}"))
            .header(header::HOST, registry)
            .header(header::ACCEPT, ACCEPT)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())?;
        let answer = async {
            let answer = send.send_request(request).await?;
            let found = answer.status() == StatusCode::OK;
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, Box<dyn std::error::Error>>(found.then_some(body))
        };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    match answer.await {
        Ok(body) => body,
        Err(error) => panic!("the registry at {registry}: {error}"),
    }
}

/// The manifest with this digest, proved to have it.
pub(super) async fn manifest(registry: &str, repository: &str, reference: &str) -> serde_json::Value {
    let Some(bytes) = get(registry, &format!("{repository}/manifests/{reference}")).await else {
        panic!("{registry}/{repository} has no {reference}")
    };
    if let Some(expected) = reference.strip_prefix("sha256:") {
        assert_eq!(sha256(&bytes), expected, "the manifest's digest");
    }
    json(&bytes)
}

/// The digest of the manifest that a tag names.
pub(super) async fn digest_of(registry: &str, repository: &str, tag: &str) -> String {
    let Some(bytes) = get(registry, &format!("{repository}/manifests/{tag}")).await else {
        panic!("{registry}/{repository} has no {tag}; conformance-tests/bases/build makes it")
    };
    format!("sha256:{}", sha256(&bytes))
}

/// The image's configuration.
pub(super) async fn config(registry: &str, repository: &str, reference: &str) -> serde_json::Value {
    let manifest = manifest(registry, repository, reference).await;
    let Some(digest) = manifest["config"]["digest"].as_str() else { panic!("no plain image: {manifest}") };
    match get(registry, &format!("{repository}/blobs/{digest}")).await {
        Some(bytes) => json(&bytes),
        None => panic!("the image's configuration isn't in the registry"),
    }
}

/// Whether the repository has this tag.
pub(super) async fn has_tag(registry: &str, repository: &str, tag: &str) -> bool {
    get(registry, &format!("{repository}/manifests/{tag}")).await.is_some()
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(bytes: &[u8]) -> serde_json::Value {
    match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => panic!("no JSON from the registry: {error}"),
    }
}
