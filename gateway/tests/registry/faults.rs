//! Claims about registries that are down, slow, wrong or hostile, and about mirrors.

use kiln_gateway::registry::{
    BaseRef, Credential, Credentials, Host, Registries, RegistryError, RegistrySettings, ResolveError,
};
use tokio::net::TcpListener;

use crate::{
    double::{Answer, Double},
    fixture::{MANIFEST, client, client_with, digest_of, push, target},
};

fn reference(host: &Host, name: &str) -> BaseRef {
    BaseRef::parse(&format!("{host}/{name}")).unwrap()
}

async fn resolve(hosts: &[&Host], reference: &BaseRef) -> RegistryError {
    let platform = ["linux/amd64".parse().unwrap()];
    match client(hosts).resolve(reference, &platform, &Credentials::default()).await {
        Err(ResolveError::Registry(error)) => error,
        other => panic!("the registry's fault, not {other:?}"),
    }
}

#[tokio::test]
async fn a_registry_that_is_down_or_silent_is_unavailable_within_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Host::parse(&silent.local_addr().unwrap().to_string()).unwrap();
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = Host::parse(&held.local_addr().unwrap().to_string()).unwrap();
    drop(held);
    for host in [&silent, &down] {
        let error = resolve(&[host], &reference(host, "base")).await;
        assert!(matches!(&error, RegistryError::Unavailable { host: named, .. } if named == host), "{error}");
    }
}

#[tokio::test]
async fn answers_mean_what_they_mean() {
    type Test = fn(&RegistryError) -> bool;
    let cases: [(u16, Test); 7] = [
        (404, |e| matches!(e, RegistryError::NotFound { .. })),
        (401, |e| matches!(e, RegistryError::Forbidden { .. })),
        (403, |e| matches!(e, RegistryError::Forbidden { .. })),
        (429, |e| matches!(e, RegistryError::Unavailable { .. })),
        (500, |e| matches!(e, RegistryError::Unavailable { .. })),
        (503, |e| matches!(e, RegistryError::Unavailable { .. })),
        (418, |e| matches!(e, RegistryError::Invalid { .. })),
    ];
    for (status, means) in cases {
        let double = Double::start().await;
        double.answer("base/manifests/t", Answer::status(status));
        let error = resolve(&[&double.host], &reference(&double.host, "base:t")).await;
        assert!(means(&error), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn what_does_not_match_its_digest_is_invalid() {
    let pinned = digest_of(b"another");
    let double = Double::start().await;
    let digest = double.has_image("base", "t");
    let manifest = double.seen().len().to_string();
    for (path, answer) in [
        (format!("base/manifests/{digest}"), Answer::ok(MANIFEST, "{}")),
        (format!("base/manifests/{pinned}"), Answer::ok(MANIFEST, manifest)),
    ] {
        double.answer(&path, answer);
    }
    for name in ["base:t".to_owned(), format!("base@{pinned}")] {
        let error = resolve(&[&double.host], &reference(&double.host, &name)).await;
        assert!(matches!(&error, RegistryError::Invalid { cause, .. } if cause.contains("digest")), "{error}");
    }
    // The configuration likewise.
    let double = Double::start().await;
    double.has_image("base", "t");
    let blob = double_config(&double).await;
    double.answer(&blob, Answer::ok("application/octet-stream", "{}"));
    let error = resolve(&[&double.host], &reference(&double.host, "base:t")).await;
    assert!(matches!(&error, RegistryError::Invalid { cause, .. } if cause.contains("digest")), "{error}");
}

/// The path of the configuration of the double's one image.
async fn double_config(double: &Double) -> String {
    let url = format!("http://{}/v2/base/manifests/t", double.host);
    let manifest = crate::fixture::http().get(url).send().await.unwrap().bytes().await.unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    format!("base/blobs/{}", manifest["config"]["digest"].as_str().unwrap())
}

#[tokio::test]
async fn an_endless_manifest_is_not_read_to_its_end() {
    let double = Double::start().await;
    double.answer("base/manifests/t", Answer::ok(MANIFEST, vec![b' '; (4 << 20) + 1]));
    let error = resolve(&[&double.host], &reference(&double.host, "base:t")).await;
    assert!(matches!(&error, RegistryError::Invalid { cause, .. } if cause.contains("larger than")), "{error}");
}

#[tokio::test]
async fn a_tag_that_is_stored_as_something_else_is_no_success() {
    let double = Double::start().await;
    let digest = double.has_image("devel", "other");
    let other = digest_of(b"other");
    double.answer("devel/manifests/t", Answer::status(201).header("docker-content-digest", &other));
    let error = client(&[&double.host]).put_tag(&push(&double.host, None), &target("devel", "t"), &digest).await;
    assert!(matches!(error, Err(RegistryError::Invalid { .. })));
    let put = double.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert_eq!(digest_of(put.body.as_bytes()), digest, "the very bytes");
}

#[tokio::test]
async fn a_host_that_only_a_caller_named_is_reached_at_public_addresses_only() {
    let double = Double::start().await;
    double.has_image("base", "t");
    let port = double.host.as_str().rsplit(':').next().unwrap();
    for name in [double.host.to_string(), format!("localhost:{port}"), format!("[::1]:{port}")] {
        let host = Host::parse(&name).unwrap();
        let error = client(&[]).head(&push(&host, None), &target("base", "t"), None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Refused { .. }), "{name}: {error}");
        assert!(client(&[]).admit(&host).await.is_err() && client(&[&host]).admit(&host).await.is_ok(), "{name}");
    }
    for name in ["169.254.169.254", "10.0.0.1:5000", "192.168.1.1"] {
        let error = resolve(&[], &reference(&Host::parse(name).unwrap(), "latest/meta-data")).await;
        assert!(matches!(error, RegistryError::Refused { .. }), "{name}: {error}");
    }
    assert!(double.seen().is_empty());
}

/// `base.invalid` with a mirror; what it names itself can't be reached.
fn mirrored(own: &Host, mirror: &Host) -> Registries {
    let settings = RegistrySettings { mirrors: vec![mirror.clone()], ..RegistrySettings::default() };
    Registries::from_iter([(own.clone(), settings)])
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_sees_no_credential_of_the_host() {
    let (mirror, own) = (Double::start().await, Double::start().await);
    let digest = mirror.has_image("base", "t");
    let credentials = Credentials::from_iter([(own.host.clone(), Credential::from_pair("kiln:p:ss").unwrap())]);
    let client = client_with(mirrored(&own.host, &mirror.host));
    let platform = ["linux/amd64".parse().unwrap()];
    mirror.want_tokens();
    let base = client.resolve(&reference(&own.host, "base:t"), &platform, &credentials).await.unwrap();
    assert_eq!((&base.digest, base.reference.host()), (&digest, &own.host));
    assert!(own.seen().is_empty());
    assert!(!mirror.seen().is_empty());
    assert!(mirror.seen().iter().all(|seen| !seen.authorization.starts_with("Basic")));
}

#[tokio::test]
async fn what_a_mirror_lacks_comes_from_the_host() {
    let own = Double::start().await;
    let digest = own.has_image("base", "t");
    let platform = ["linux/amd64".parse().unwrap()];
    let lacking = Double::start().await;
    let broken = Double::start().await;
    for path in ["base/manifests/t".to_owned(), format!("base/manifests/{digest}")] {
        broken.answer(&path, Answer::status(503));
    }
    let denying = Double::start().await;
    denying.want_tokens_of("nonsense");
    for mirror in [&lacking, &broken, &denying] {
        let client = client_with(mirrored(&own.host, &mirror.host));
        let base = client.resolve(&reference(&own.host, "base:t"), &platform, &Credentials::default()).await.unwrap();
        assert_eq!(base.digest, digest);
        assert!(!mirror.seen().is_empty());
    }
}

#[tokio::test]
async fn a_head_without_a_digest_is_followed_by_a_get() {
    let double = Double::start().await;
    let digest = double.has_image("devel", "other");
    let manifest = crate::fixture::http().get(format!("http://{}/v2/devel/manifests/other", double.host));
    let manifest = manifest.send().await.unwrap().bytes().await.unwrap();
    double.answer("devel/manifests/t", Answer::ok(MANIFEST, manifest));
    let head = client(&[&double.host]).head(&push(&double.host, None), &target("devel", "t"), None).await.unwrap();
    assert_eq!(head, Some(digest));
}
