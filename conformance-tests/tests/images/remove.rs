//! Images removed: only what was named, and never what a build is about to tag.

use kiln_conformance_tests::{kiln::base, registry};
use reqwest::Method;
use serde_json::json;

use crate::{PATIENCE, assert_problem, delete, gateway, launch, proxy::Proxy, pushed, somebody};

#[tokio::test]
async fn a_tag_alone_on_its_image_goes_with_it() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let repository = format!("{user}/app");
    let digest = pushed(&repository, "t").await;
    let other = pushed(&repository, "other").await;
    let mut kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let answer = delete(&client, &format!("{repository}:t")).await;
    assert_eq!(answer.json(), json!({ "catalog": repository, "digest": digest, "tags": ["t"] }), "{}", answer.text);
    assert_eq!(registry::digest(&repository, "t").await, None);
    assert_eq!(registry::digest(&repository, "other").await, Some(other));
    assert_problem(&delete(&client, &format!("{repository}:t")).await, 404, "it is gone");
    let line = kiln.line(PATIENCE, |line| line["fields"]["what"] == "delete-image").await;
    let fields = &line["fields"];
    assert_eq!((&fields["who"], &fields["outcome"]), (&json!(user), &json!("done")), "{line}");
    assert_eq!((&fields["target"], &fields["from"]), (&json!(format!("{repository}:t")), &json!("127.0.0.1")));
}

#[tokio::test]
async fn a_tag_that_shares_its_image_stays_unless_all_are_to_go() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "a").await;
    for tag in ["b", "c"] {
        registry::tag(&user, "a", tag).await;
    }
    pushed(&user, "other").await;
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let refused = delete(&client, &format!("{user}:a")).await;
    assert_problem(&refused, 409, "shared");
    assert_eq!((&refused.json()["reason"], &refused.json()["tags"]), (&json!("TagsShared"), &json!(["b", "c"])));
    assert!(refused.json()["title"].as_str().unwrap().contains("also tagged b, c"), "{}", refused.text);
    for tag in ["a", "b", "c"] {
        assert_eq!(registry::digest(&user, tag).await.as_ref(), Some(&digest), "{tag}");
    }
    let removed = delete(&client, &format!("{user}:a?all_tags=true")).await;
    assert_eq!(
        removed.json(),
        json!({ "catalog": user, "digest": digest, "tags": ["a", "b", "c"] }),
        "{}",
        removed.text
    );
    for tag in ["a", "b", "c"] {
        assert_eq!(registry::digest(&user, tag).await, None, "{tag}");
    }
    assert!(registry::digest(&user, "other").await.is_some());
}

#[tokio::test]
async fn by_its_digest_an_image_goes_with_its_tags() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "a").await;
    registry::tag(&user, "a", "b").await;
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let removed = delete(&client, &format!("{user}@{digest}")).await;
    assert_eq!(removed.json(), json!({ "catalog": user, "digest": digest, "tags": [] }), "{}", removed.text);
    assert_eq!(registry::digest(&user, "b").await, None);
    assert_problem(&delete(&client, &format!("{user}@{digest}")).await, 404, "it is gone");
}

#[tokio::test]
async fn a_repository_is_no_image_to_be_removed() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "latest").await;
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    proxy.seen();
    for name in [
        user.clone(),
        format!("{user}?all_tags=true"),
        format!("{user}:latest?all_tags=maybe"),
        format!("{user}:latest?x=1"),
    ] {
        assert_problem(&delete(&client, &name).await, 400, &name);
    }
    assert_eq!(proxy.seen(), []);
    assert_eq!(registry::digest(&user, "latest").await, Some(digest));
}

#[tokio::test]
async fn the_image_that_a_build_is_about_to_tag_outlives_the_removal_of_its_twin() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let real = format!("[registries.\"{}\"]\n", kiln_conformance_tests::engine("KILN_TEST_REGISTRY"));
    let kiln = launch(&proxy, &user).config(&real).start().await;
    let client = kiln.client(&user);
    proxy.hold();
    let id = client.start(&base("no-shell"), &format!("{user}:built"), "python", None).await;
    // The engine has pushed its image, and knows nothing of it yet; nor does the ledger.
    let path = proxy.held().await;
    let digest = path.rsplit('/').next().unwrap().to_owned();
    registry::tag(&user, &digest, "twin").await;
    let twin = async {
        let client = kiln.client(&user);
        client.send(client.request(Method::DELETE, &format!("/v1/images/{user}:twin"))).await
    };
    // Kiln itself puts a manifest by its digest, too, which isn't to wait any more.
    let lifted = async {
        proxy.deleted(&digest).await;
        proxy.lift();
    };
    tokio::pin!(twin, lifted);
    let removed = tokio::select! {
        removed = &mut twin => panic!("it went, and came back, at once: {}", removed.text),
        () = lifted => twin.await,
    };
    assert_eq!(removed.json()["tags"], json!(["twin"]), "{}", removed.text);
    assert_eq!(registry::digest(&user, "twin").await, None);
    let build = client.ended(&id).await;
    assert_eq!((&build["state"], &build["digest"]), (&json!("succeeded"), &json!(digest)), "{build}");
    assert_eq!(registry::digest(&user, "built").await.as_ref(), Some(&digest));
}
