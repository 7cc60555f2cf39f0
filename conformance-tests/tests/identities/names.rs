//! User names are one namespace: who could name another provider's user isn't let start.

use kiln_conformance_tests::Launch;
use serde_json::json;

use super::{
    BUILDS, idle,
    issuer::{Key, claims, set_file},
    said,
};

const PREFIX: &str = "KILN_IDENTITY__OPENWHISK__PREFIX";

/// An issuer of tokens with these lines more.
fn issuer(name: &str, issuer: &str, set: &std::path::Path, more: &str) -> String {
    format!(
        r#"
        [[identity.jwt]]
        name = "{name}"
        issuer = "{issuer}"
        audience = ["kiln"]
        algorithms = ["ES256"]
        jwks_file = "{}"
        {more}
        "#,
        set.display()
    )
}

fn with(make: impl Fn(&std::path::Path) -> String) -> Launch {
    let launch = idle().user("devel");
    let set = set_file(launch.folder(), &[Key::ec("a").jwk()]);
    let config = make(&set);
    launch.config(&config)
}

#[test]
fn what_could_confuse_two_users_or_two_keys_is_refused_with_the_setting_to_change() {
    let two = |a: &str, b: &str| {
        let (a, b) = (a.to_owned(), b.to_owned());
        move |set: &std::path::Path| issuer("a", "https://a", set, &a) + &issuer("b", "https://b", set, &b)
    };
    for (launch, fault) in [
        (with(|set| issuer("a", "https://a", set, "")), "identity.users_file_prefix nor prefix of identity.jwt \"a\""),
        (with(two("prefix = \"x-\"", "prefix = \"x-\"")), "begin alike"),
        (with(two("prefix = \"x-\"", "prefix = \"x-y-\"")), "begin alike"),
        (with(two("prefix = \"X-\"", "prefix = \"y-\"")), "can't begin a user name"),
        (idle().user("devel").set("KILN_IDENTITY__OPENWHISK__API_HOST", "h"), "identity.openwhisk.prefix"),
        (
            with(|set| {
                issuer("a", "https://a", set, "prefix = \"a-\"") + &issuer("b", "https://a", set, "prefix = \"b-\"")
            }),
            "same issuer",
        ),
        (with(|set| issuer("couchdb", "https://a", set, "prefix = \"a-\"")), "not the one of another provider"),
        (with(|set| issuer("a:b", "https://a", set, "prefix = \"a-\"")), "a name is of"),
        (with(|set| issuer("a", "https://a", set, "prefix = \"a-\"\nkey_file = \"k\"")), "exactly one of"),
        (with(|set| issuer("a", "https://a", set, "prefix = \"a-\"\nca_file = \"c\"")), "go with jwks_url"),
        (with(|set| issuer("a", "https://a", set, "prefix = \"a-\"").replace("ES256", "none")), "is none of"),
        (with(|set| issuer("a", "https://a", set, "prefix = \"a-\"").replace("ES256", "HS256")), "needs key_file"),
        (
            with(|set| {
                issuer("a", "https://a", set, "prefix = \"a-\"").replace("[\"ES256\"]", "[\"ES256\", \"HS256\"]")
            }),
            "can't stand beside",
        ),
        (with(|set| issuer("a", "https://a", set, "prefix = \"a-\"").replace("[\"kiln\"]", "[]")), "audience is empty"),
        (
            with(|set| {
                let file = format!("jwks_file = \"{}\"", set.display());
                issuer("a", "https://a", set, "prefix = \"a-\"").replace(&file, "jwks_url = \"http://a.example/keys\"")
            }),
            "set allow_plain_http = true",
        ),
        (
            idle().set("KILN_IDENTITY__OPENWHISK__API_HOST", "http://w.example").set(PREFIX, "w-").user("devel"),
            "set allow_plain_http = true",
        ),
        (idle().user("devel").set("KILN_IDENTITY__OPERATORS", "[\"devel\"]"), "<provider>:<user>"),
        (idle().user("devel").set("KILN_IDENTITY__OPERATORS", "[\"couchdb:devel\"]"), "no provider of that name"),
        (idle().user("devel").set("KILN_IDENTITY__OPERATOR_ROLES", "[\"admin\"]"), "write <provider>:<role>"),
        (idle().user("devel").set("KILN_IDENTITY__OPERATOR_ROLES", "[\"users-file:admin\"]"), "has a roles_claim"),
    ] {
        let (served, said) = said(&launch, &["serve"]);
        assert!(!served && said.contains(fault), "{fault}: {said}");
    }
}

#[tokio::test]
async fn two_users_of_one_name_are_kept_apart_by_the_prefix_and_are_one_if_they_are_shared() {
    let key = Key::ec("a");
    for (more, owner) in [("prefix = \"ext-\"", "ext-devel"), ("", "devel")] {
        let launch = idle().user("devel");
        let set = set_file(launch.folder(), &[key.jwk()]);
        let launch = launch.config(&issuer("a", "https://issuer.example", &set, more));
        let kiln = launch.set("KILN_IDENTITY__SHARED_NAMES", more.is_empty().to_string()).start().await;
        let client = kiln.anonymous().with_token(&key.bearer(&claims("devel", json!({}))));
        client.start("python", &format!("{owner}:t"), "python", None).await;
        assert_eq!(client.get(BUILDS).await.json()["builds"][0]["owner"], owner);
        let seen = kiln.client("devel").get(BUILDS).await.json()["builds"].as_array().unwrap().len();
        assert_eq!(seen, usize::from(more.is_empty()), "{owner}");
    }
}
