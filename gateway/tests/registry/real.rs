//! Claims about real registries, one open and one that wants a name and a password.

use kiln_backends::{RegistryAuth as _, TokenRequest};
use kiln_gateway::registry::{
    Authentication, BaseRef, BuildCredentials, Credential, Credentials, Platform, PullGrant, PushGrant, RegistryError,
    ResolveError,
};
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::fixture::{INDEX, MANIFEST, Real, client, configuration, http, push, repository, target};

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_tag_is_resolved_to_its_digest_and_configuration() {
    for registry in [Real::open(), Real::closed()] {
        let repository = repository();
        let pushed = registry.put_image(&repository, "t", &configuration("linux/amd64", "nobody")).await;
        let credentials = Credentials::from_iter(registry.credential.clone().map(|c| (registry.host.clone(), c)));
        let reference = BaseRef::parse(&format!("{}/{repository}:t", registry.host)).unwrap();
        let client = client(&[&registry.host]);

        let base = client.resolve(&reference, &[platform("linux/amd64")], &credentials).await.unwrap();
        assert_eq!(base.digest, pushed);
        assert_eq!(base.reference.to_string(), format!("{}/{repository}@{pushed}", registry.host));
        assert_eq!((base.media_type.as_str(), base.platforms.as_slice()), (MANIFEST, &[platform("linux/amd64")][..]));
        assert_eq!((base.config.user.as_str(), base.config.workdir.as_str()), ("nobody", "/action"));
        assert_eq!(base.config.env, ["A=b"]);
        assert!(base.config.onbuild.is_empty());

        let again = client.resolve(&base.reference, &[platform("linux/amd64")], &credentials).await.unwrap();
        assert_eq!(again, base, "by digest it is the same");
    }
}

#[tokio::test]
async fn an_index_is_pinned_as_a_whole_and_lacking_platforms_are_named() {
    let (registry, repository) = (Real::open(), repository());
    let mut manifests = Vec::new();
    for name in ["linux/amd64", "linux/arm64"] {
        let digest = registry.put_image(&repository, "", &configuration(name, name)).await;
        let (os, architecture) = name.split_once('/').unwrap();
        let platform = json!({"os": os, "architecture": architecture});
        let url = format!("http://{}/v2/{repository}/manifests/{digest}", registry.host);
        let size = http().get(url).header("accept", MANIFEST).send().await.unwrap().bytes().await.unwrap().len();
        manifests.push(json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let pushed = registry.put_manifest(&repository, "t", INDEX, &index).await;
    let reference = BaseRef::parse(&format!("{}/{repository}:t", registry.host)).unwrap();
    let client = client(&[&registry.host]);
    let resolve = async |platforms: &[Platform]| client.resolve(&reference, platforms, &Credentials::default()).await;

    for wanted in ["linux/amd64", "linux/arm64", "linux/arm64/v8"] {
        let base = resolve(&[platform(wanted)]).await.unwrap();
        assert_eq!((&base.digest, base.config.user.as_str()), (&pushed, wanted.trim_end_matches("/v8")));
    }
    assert!(resolve(&[platform("linux/arm64"), platform("linux/amd64")]).await.unwrap().config.user.ends_with("arm64"));
    let error = resolve(&[platform("linux/amd64"), platform("linux/s390x")]).await.unwrap_err();
    assert!(matches!(&error, ResolveError::UnsupportedPlatform { wanted, .. } if *wanted == platform("linux/s390x")));
    assert!(error.to_string().ends_with("isn't made for linux/s390x; it has linux/amd64, linux/arm64"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let (registry, repository) = (Real::open(), repository());
    registry.put_image(&repository, "t", &configuration("linux/amd64", "")).await;
    let client = client(&[&registry.host]);
    let unknown = format!("sha256:{}", "0".repeat(64));
    for name in [format!("{repository}:other"), format!("{repository}x:t"), format!("{repository}@{unknown}")] {
        let reference = BaseRef::parse(&format!("{}/{name}", registry.host)).unwrap();
        let error = client.resolve(&reference, &[], &Credentials::default()).await.unwrap_err();
        assert!(matches!(error, ResolveError::Registry(RegistryError::NotFound { .. })), "{name}: {error}");
    }
}

#[tokio::test]
async fn without_the_right_credential_a_base_is_forbidden() {
    let (registry, repository) = (Real::closed(), repository());
    registry.put_image(&repository, "t", &configuration("linux/amd64", "")).await;
    let reference = BaseRef::parse(&format!("{}/{repository}:t", registry.host)).unwrap();
    let client = client(&[&registry.host]);
    let own = |credential: Option<Credential>| credential.map(|c| (registry.host.clone(), c)).into_iter().collect();
    let amd64 = [platform("linux/amd64")];
    // The right one first: what it opened must not be answered to the others.
    client.resolve(&reference, &amd64, &own(registry.credential.clone())).await.unwrap();
    for wrong in [None, Credential::from_pair("kiln:p"), Credential::from_pair("other:p:ss")] {
        let credentials: Credentials = own(wrong);
        let error = client.resolve(&reference, &amd64, &credentials).await.unwrap_err();
        assert!(matches!(error, ResolveError::Registry(RegistryError::Forbidden { .. })), "{error}");
    }
}

#[tokio::test]
async fn a_tag_is_put_on_the_very_bytes_that_were_pushed() {
    for registry in [Real::open(), Real::closed()] {
        let repository = repository();
        let digest = registry.put_image(&repository, "", &configuration("linux/amd64", "")).await;
        let (client, push, target) = (client(&[&registry.host]), registry.push(), target(&repository, "t"));
        assert_eq!(client.head(&push, &target, None).await.unwrap(), None, "no tag yet");
        assert_eq!(client.head(&push, &target, Some(&digest)).await.unwrap().as_ref(), Some(&digest));
        client.put_tag(&push, &target, &digest).await.unwrap();
        assert_eq!(client.head(&push, &target, None).await.unwrap().as_ref(), Some(&digest));
        client.put_tag(&push, &target, &digest).await.expect("a crash in between repeats it");

        let next = registry.put_image(&repository, "", &configuration("linux/amd64", "next")).await;
        client.put_tag(&push, &target, &next).await.unwrap();
        assert_eq!(client.head(&push, &target, None).await.unwrap(), Some(next), "a tag moves at once");
    }
}

#[tokio::test]
async fn who_builds_on_what_they_have_just_pushed_gets_the_newest() {
    let (registry, repository) = (Real::open(), repository());
    let (client, target) = (client(&[&registry.host]), target(&repository, "t"));
    let reference = BaseRef::parse(&format!("{}/{repository}:t", registry.host)).unwrap();
    for user in ["first", "second"] {
        let digest = registry.put_image(&repository, "", &configuration("linux/amd64", user)).await;
        client.put_tag(&registry.push(), &target, &digest).await.unwrap();
        let base = client.resolve(&reference, &[platform("linux/amd64")], &Credentials::default()).await.unwrap();
        assert_eq!(base.config.user, user);
    }
}

#[tokio::test]
async fn no_tag_is_put_on_what_is_not_there_or_without_the_right() {
    let (registry, repository) = (Real::closed(), repository());
    let digest = registry.put_image(&repository, "", &configuration("linux/amd64", "")).await;
    let (client, target) = (client(&[&registry.host]), target(&repository, "t"));
    let unknown = format!("sha256:{}", "0".repeat(64));
    let error = client.put_tag(&registry.push(), &target, &unknown).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let error = client.put_tag(&push(&registry.host, None), &target, &digest).await.unwrap_err();
    assert!(matches!(error, RegistryError::Forbidden { .. }), "{error}");
    assert_eq!(client.head(&registry.push(), &target, None).await.unwrap(), None);
}

#[tokio::test]
async fn ping_says_how_a_registry_wants_to_be_asked() {
    let (open, closed) = (Real::open(), Real::closed());
    let client = client(&[&open.host, &closed.host]);
    assert_eq!(client.ping(&open.push()).await.unwrap(), Authentication::None);
    assert_eq!(client.ping(&closed.push()).await.unwrap(), Authentication::Basic);
    for wrong in [None, Credential::from_pair("kiln:wrong")] {
        let error = client.ping(&push(&closed.host, wrong)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Forbidden { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_session_gets_the_password_of_a_registry_that_knows_nothing_else() {
    let (open, closed) = (Real::open(), Real::closed());
    let pulls = vec![PullGrant { host: open.host.clone(), repositories: vec!["*".to_owned()], credential: None }];
    let push = PushGrant { to: closed.push(), repository: "devel".to_owned() };
    let session = BuildCredentials { push, pulls, elsewhere: None }.session(client(&[&open.host, &closed.host]));
    let basic = session.basic(closed.host.as_str()).await.unwrap();
    assert_eq!((basic.username.as_str(), basic.password.expose_secret()), ("kiln", "p:ss"));
    for host in [open.host.as_str(), "registry-1.docker.io", "127.0.0.1", "not a host"] {
        assert!(session.basic(host).await.is_none(), "{host}");
    }
    let request = TokenRequest {
        host: closed.host.to_string(),
        realm: "http://127.0.0.1:9/token".to_owned(),
        service: String::new(),
        scopes: vec!["repository:devel:pull,push".to_owned()],
    };
    let refused = session.token(request).await.unwrap_err();
    assert_eq!(refused.cause, "the registry has no token service");
}
