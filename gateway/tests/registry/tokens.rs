//! Claims about registries with a token service: what it is sent, and what the engine may have of it.

use kiln_backends::{RegistryAuth as _, TokenRequest};
use kiln_gateway::registry::{
    BaseRef, BuildCredentials, Credential, Credentials, Host, ProcessRegistry, PullGrant, PushGrant, RegistryError,
    ResolveError, SessionAuth,
};
use secrecy::ExposeSecret as _;

use crate::{
    double::{Double, Seen},
    fixture::{client, push, target},
};

const AMD64: &str = "linux/amd64";

fn reference(double: &Double, name: &str) -> BaseRef {
    BaseRef::parse(&format!("{}/{name}", double.host)).unwrap()
}

fn token_requests(double: &Double) -> Vec<Seen> {
    double.seen().into_iter().filter(|seen| seen.uri.starts_with("/token")).collect()
}

#[tokio::test]
async fn bases_are_resolved_with_anonymous_tokens_for_one_repository() {
    let double = Double::start().await;
    double.want_tokens();
    let digest = double.has_image("team/base", "t");
    let client = client(&[&double.host]);
    let (reference, platform) = (reference(&double, "team/base:t"), [AMD64.parse().unwrap()]);
    let base = client.resolve(&reference, &platform, &Credentials::default()).await.unwrap();
    assert_eq!(base.digest, digest);
    let asked = token_requests(&double);
    assert_eq!(asked.len(), 1, "one token serves all that is read: {asked:?}");
    assert_eq!(asked[0].uri, "/token?service=double&scope=repository%3Ateam%2Fbase%3Apull");
    assert_eq!(asked[0].authorization, "");
}

#[tokio::test]
async fn the_token_service_alone_sees_the_password() {
    let double = Double::start().await;
    double.want_tokens();
    let digest = double.has_image("devel", "t");
    let credential = Credential::from_pair("kiln:p:ss");
    let client = client(&[&double.host]);
    let head = client.head(&push(&double.host, credential), &target("devel", "t"), None).await.unwrap();
    assert_eq!(head, Some(digest));
    let with_password: Vec<_> =
        double.seen().into_iter().filter(|seen| seen.authorization.starts_with("Basic")).collect();
    assert_eq!(with_password.len(), 1);
    assert!(with_password[0].uri.starts_with("/token?"));
    assert_eq!(with_password[0].authorization, "Basic a2lsbjpwOnNz");
}

#[tokio::test]
async fn an_identity_token_is_posted_for_a_token_and_goes_nowhere_else() {
    let double = Double::start().await;
    double.want_tokens();
    double.has_image("devel", "t");
    let credential = Some(Credential::IdentityToken("refresh-me".into()));
    let client = client(&[&double.host]);
    client.head(&push(&double.host, credential), &target("devel", "t"), None).await.unwrap();
    let asked = token_requests(&double);
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "POST"));
    for field in
        ["grant_type=refresh_token", "refresh_token=refresh-me", "service=double", "scope=repository%3Adevel%3Apull"]
    {
        assert!(asked[0].body.contains(field), "{field} in {}", asked[0].body);
    }
    assert!(
        !double.seen().iter().any(|seen| seen.uri.contains("refresh-me") || seen.authorization.contains("refresh-me"))
    );
}

#[tokio::test]
async fn a_token_that_has_run_out_is_replaced() {
    let double = Double::start().await;
    double.want_tokens();
    let digest = double.has_image("devel", "t");
    let (client, push, target) = (client(&[&double.host]), push(&double.host, None), target("devel", "t"));
    assert_eq!(client.head(&push, &target, None).await.unwrap().as_ref(), Some(&digest));
    assert_eq!(client.head(&push, &target, None).await.unwrap().as_ref(), Some(&digest));
    assert_eq!(token_requests(&double).len(), 1);
    double.forget_tokens();
    assert_eq!(client.head(&push, &target, None).await.unwrap(), Some(digest));
    assert_eq!(token_requests(&double).len(), 2);
}

#[tokio::test]
async fn many_who_want_one_base_ask_once() {
    let double = Double::start().await;
    double.has_image("base", "t");
    let client = client(&[&double.host]);
    let (reference, platform) = (reference(&double, "base:t"), [AMD64.parse().unwrap()]);
    let all = (0..20).map(|_| async { client.resolve(&reference, &platform, &Credentials::default()).await.is_ok() });
    assert!(futures_util::future::join_all(all).await.into_iter().all(|ok| ok));
    let asked: Vec<_> = double.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(asked, ["HEAD", "GET", "GET"], "the tag, the manifest, the configuration");
}

#[tokio::test]
async fn a_token_service_where_callers_may_not_reach_gets_nothing() {
    let (named, elsewhere) = (Double::start().await, Double::start().await);
    named.want_tokens_of(&format!("http://{}/token", elsewhere.host));
    named.has_image("devel", "t");
    // An operator's registry may have its token service inside; one that a user named may not.
    let push = push(&named.host, Credential::from_pair("kiln:p:ss"));
    let trusted = client(&[&named.host]);
    let error = trusted.head(&push, &target("devel", "t"), None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Forbidden { .. }), "its tokens are refused, but it was asked: {error}");
    assert_eq!(token_requests(&elsewhere).len(), 1);

    let error = client(&[]).head(&push, &target("devel", "t"), None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
    assert_eq!(token_requests(&elsewhere).len(), 1);
}

/// A session that pushes to `devel` on one double and reads `base` on it.
fn session(double: &Double, others: &[&Host]) -> SessionAuth {
    let to = push(&double.host, Credential::from_pair("kiln:p:ss"));
    let pulls = vec![PullGrant { host: double.host.clone(), repositories: vec!["base".to_owned()], credential: None }];
    let hosts: Vec<_> = others.iter().copied().chain([&double.host]).collect();
    let push = PushGrant { to, repository: "devel".to_owned() };
    BuildCredentials { push, pulls, elsewhere: None }.session(client(&hosts))
}

fn request(double: &Double, realm: &str, scope: &str) -> TokenRequest {
    TokenRequest {
        host: double.host.to_string(),
        realm: realm.to_owned(),
        service: "double".to_owned(),
        scopes: vec![scope.to_owned()],
    }
}

#[tokio::test]
async fn the_engine_gets_tokens_for_this_build_only_and_never_the_password() {
    let double = Double::start().await;
    let realm = double.want_tokens();
    let session = session(&double, &[]);
    let wide = "repository:devel:pull,push,delete repository:base:pull,push repository:other:pull";
    let token = session.token(request(&double, &realm, wide)).await.unwrap();
    assert_eq!((token.token.expose_secret(), token.expires_in), ("token-1", 300));
    let asked = token_requests(&double);
    assert_eq!(
        asked[0].uri, "/token?service=double&scope=repository%3Adevel%3Apull%2Cpush",
        "the base isn't for the push's credential"
    );
    assert!(asked[0].authorization.starts_with("Basic"));
    assert!(session.basic(double.host.as_str()).await.is_none(), "there are tokens, so the password stays");

    session.token(request(&double, &realm, "repository:base:pull")).await.unwrap();
    assert_eq!(token_requests(&double)[1].authorization, "", "a base is read with its own credential, here none");

    for foreign in ["repository:other:pull,push", "repository:devel/x:push", "registry:catalog:*", ""] {
        assert!(session.token(request(&double, &realm, foreign)).await.is_err(), "{foreign}");
    }
    assert_eq!(token_requests(&double).len(), 2);
}

#[tokio::test]
async fn where_every_base_may_be_fetched_each_registry_is_shown_the_operators_credential_for_it_alone() {
    let (own, other, third) = (Double::start().await, Double::start().await, Double::start().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    // other:p:ss
    let auths = format!(r#"{{"auths":{{"{}":{{"auth":"b3RoZXI6cDpzcw=="}}}}}}"#, other.host);
    std::fs::write(&file, auths).unwrap();
    let process = ProcessRegistry { docker_config: Some(file), ..ProcessRegistry::default() };
    let credentials = |elsewhere| BuildCredentials {
        push: PushGrant { to: push(&own.host, Credential::from_pair("kiln:p:ss")), repository: "devel".to_owned() },
        pulls: Vec::new(),
        elsewhere,
    };
    let client = client(&[&own.host, &other.host, &third.host]);
    let (closed, open) =
        (credentials(None).session(client.clone()), credentials(Some(process.into())).session(client.clone()));
    for (double, authorization) in [(&other, "Basic b3RoZXI6cDpzcw=="), (&third, "")] {
        let realm = double.want_tokens();
        let asked = || request(double, &realm, "repository:any/thing:pull,push");
        assert!(closed.token(asked()).await.is_err());
        open.token(asked()).await.unwrap();
        let seen = token_requests(double);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].uri, "/token?service=double&scope=repository%3Aany%2Fthing%3Apull");
        assert_eq!(seen[0].authorization, authorization);
    }
    assert!(own.seen().is_empty());
}

#[tokio::test]
async fn a_realm_that_is_not_the_registrys_own_gets_no_credential() {
    let (double, thief) = (Double::start().await, Double::start().await);
    double.want_tokens();
    let session = session(&double, &[&thief.host]);
    let realm = format!("http://{}/token", thief.host);
    let refused = session.token(request(&double, &realm, "repository:devel:pull,push")).await.unwrap_err();
    assert!(refused.cause.ends_with("isn't the registry's own token service"), "{}", refused.cause);
    let mut elsewhere = request(&double, &realm, "repository:devel:pull,push");
    elsewhere.host = thief.host.to_string();
    assert!(session.token(elsewhere).await.is_err());
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_refused_token_is_forbidden_in_one_sentence() {
    let double = Double::start().await;
    double.want_tokens_of(&format!("http://{}/v2/denied", double.host));
    let client = client(&[&double.host]);
    let error = client.resolve(&reference(&double, "base:t"), &[], &Credentials::default()).await.unwrap_err();
    assert!(matches!(error, ResolveError::Registry(RegistryError::Forbidden { .. })), "{error}");
}
