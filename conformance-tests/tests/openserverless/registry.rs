//! Where images go: the process's host, the user's, the default; and with whose credential.

use std::sync::Arc;

use kiln_conformance_tests::{Engine, Launch, engine, kiln::base};
use serde_json::{Value, json};

use super::{
    couchdb::{User, on_couchdb},
    gateway::{ENSURE, JSON, NO_ENGINE, START, STATUS, Tenant, idle},
};

/// OpenServerless's registry inside the cluster.
const DEFAULT: &str = "nuvolaris-registry-svc:5000";

#[tokio::test]
async fn without_a_host_of_the_process_the_users_counts_and_then_the_default() {
    let launch = on_couchdb(Launch::on(Engine::Buildkitd)).unset("REGISTRY_HOST").unset("KILN_IDENTITY__USERS_FILE");
    let catalog = json!({ "builders": { "go": { "kind": "go", "source": "golang" } } }).to_string();
    let launch = launch.set("KILN_ENGINE__BUILDKIT", NO_ENGINE).set("BUILDER_CATALOG_JSON", catalog);
    let kiln = Arc::new(launch.start().await);
    for (env, userenv, host) in [
        (&[("AUTH", "a")][..], &[][..], DEFAULT),
        (&[("REGISTRY_HOST", "operators.example")], &[], "operators.example"),
        (&[("AUTH", "a")], &[("REGISTRY_HOST", "users.example:5000")], "users.example:5000"),
        (&[("REGISTRY_HOST", "operators.example")], &[("REGISTRY_HOST", "users.example")], "users.example"),
        (&[("AUTH", "a")], &[("REGISTRY_HOST", "http://users.example:5000/")], "users.example:5000"),
        (&[("AUTH", "a")], &[("REGISTRY_HOST", "https://users.example")], "users.example"),
        (&[("AUTH", "a")], &[("REGISTRY_HOST", "  ")], DEFAULT),
    ] {
        let tenant = Tenant::of(Arc::clone(&kiln), User::with(env, userenv).await);
        tenant.start("python", "t", None).await;
        assert_eq!(tenant.builds().await[0]["image"], format!("{host}/{}:t", tenant.name), "{env:?} {userenv:?}");
    }
    let tenant =
        Tenant::of(Arc::clone(&kiln), User::with(&[("AUTH", "a")], &[("REGISTRY_HOST", "users.example")]).await);
    let ensured = tenant.client.post(ENSURE, &json!({ "builder": "go", "file": "bW9kdWxlIGEK" })).await;
    assert_eq!(ensured.status, 202, "{}", ensured.text);
    let image = tenant.builds().await[0]["image"].as_str().unwrap().to_owned();
    assert!(image.starts_with(&format!("{DEFAULT}/{}:go-", tenant.name)), "ensure knows no user's registry: {image}");
}

#[tokio::test]
async fn the_host_of_the_process_wins_over_the_users() {
    let tenant = Tenant::of(idle().await, User::with(&[("REGISTRY_HOST", "users.example")], &[]).await);
    tenant.start("python", "t", None).await;
    let host = engine("KILN_TEST_REGISTRY");
    assert_eq!(tenant.builds().await[0]["image"], format!("{host}/{}:t", tenant.name));
}

#[tokio::test]
async fn a_users_host_that_is_none_is_said_at_start() {
    let launch = on_couchdb(Launch::on(Engine::Buildkitd)).unset("REGISTRY_HOST").unset("KILN_IDENTITY__USERS_FILE");
    let kiln = Arc::new(launch.set("KILN_ENGINE__BUILDKIT", NO_ENGINE).start().await);
    for host in ["a/b", "a b", "a,b", "ftp://a", "user@host", "a\nb"] {
        let tenant = Tenant::of(Arc::clone(&kiln), User::with(&[("REGISTRY_HOST", host)], &[]).await);
        let body = json!({ "source": "python", "target": format!("{}:t", tenant.name), "kind": "python" });
        let answer = tenant.client.post(START, &body).await;
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.parts().0, answer.parts().1), (400, JSON), "{host:?}: {}", answer.text);
        assert!(message.starts_with("REGISTRY_HOST of the user: "), "{host:?}: {message}");
        assert_eq!(tenant.builds().await, Vec::<Value>::new(), "{host:?}");
    }
}

#[tokio::test]
async fn a_users_pair_with_a_colon_in_its_password_pushes_to_the_users_registry() {
    let (host, user) = (engine("KILN_TEST_REGISTRY_AUTH"), engine("KILN_TEST_REGISTRY_AUTH_USER"));
    let password = engine("KILN_TEST_REGISTRY_AUTH_PASSWORD");
    assert!(password.contains(':'));
    let bases = engine("KILN_TEST_REGISTRY");
    let allowed =
        format!("[registry]\nallowed_user_registries = [\"{host}\"]\n[registries.\"{bases}\"]\nplain_http = true\n");
    let launch = on_couchdb(Launch::on(Engine::Buildkitd)).unset("REGISTRY_HOST").unset("KILN_IDENTITY__USERS_FILE");
    let kiln = Arc::new(launch.config(&allowed).start().await);
    let tenant = async |secret: &str| {
        let userenv = [("REGISTRY_HOST", host.as_str()), ("REGISTRY_SECRET", secret)];
        Tenant::of(Arc::clone(&kiln), User::with(&[("AUTH", "a")], &userenv).await)
    };
    let good = tenant(&format!("{user}:{password}")).await;
    let id = good.start(&base("extendable"), "t", Some("humanize\n")).await;
    let build = good.client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build}");
    let client = kiln_conformance_tests::Client::new(&format!("http://{host}"), None);
    let manifest = client
        .request(reqwest::Method::HEAD, &format!("/v2/{}/manifests/t", good.name))
        .header("accept", "application/vnd.oci.image.manifest.v1+json")
        .basic_auth(&user, Some(&password));
    let there = client.send(manifest).await;
    assert_eq!(Some(there.header("docker-content-digest")), build["digest"].as_str());

    let bad = tenant(&format!("{user}:wr:ong-canary")).await;
    let id = bad.start(&base("extendable"), "t", None).await;
    let build = bad.client.ended(&id).await;
    assert_eq!((build["state"].as_str(), build["failure"]["reason"].as_str()), (Some("failed"), Some("PushDenied")));
    let status = bad.client.get(&format!("{STATUS}?id={id}")).await.text;
    for (secret, shown) in [("wr:ong-canary", &status), (password.as_str(), &status)] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!kiln.log().iter().any(|line| line.to_string().contains(secret)), "the log shows a password");
    }
}
