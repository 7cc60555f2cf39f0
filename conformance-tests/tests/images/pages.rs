//! Lists of repositories and images: one's own, all of them, a page at a time, whatever others have.

use kiln_conformance_tests::{Client, registry};
use serde_json::{Value, json};

use crate::{IMAGES, assert_problem, gateway, proxy::Proxy, pushed, somebody};

/// All pages of this size, and how many there were.
async fn pages(client: &Client, path: &str, field: &str, limit: usize) -> (Vec<Value>, usize) {
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = client.get(&format!("{path}?limit={limit}{cursor}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page = answer.json();
        let items = page[field].as_array().unwrap();
        assert!(items.len() <= limit, "{page}");
        found.extend(items.iter().cloned());
        pages += 1;
        assert!(pages < 100, "the pages have no end: {page}");
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
            None => return (found, pages),
        }
    }
}

#[tokio::test]
async fn repositories_are_the_callers_alone_however_others_are_named() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let own = [String::new(), "/a".into(), "/a-x".into(), "/a/b".into(), "/a.b".into(), "/z".into()];
    let own: Vec<_> = own.map(|path| format!("{user}{path}")).into();
    for repository in &own {
        pushed(repository, "t").await;
    }
    let before = &user[..user.len() - 1];
    for other in [
        format!("{user}-bar"),
        format!("{user}.b/a"),
        format!("{user}0"),
        format!("{user}_/a").replace("_/", "__x/"),
        before.to_owned(),
    ] {
        pushed(&other, "t").await;
    }
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    proxy.seen();
    let (mut all, _) = pages(&client, IMAGES, "catalogs", 100).await;
    let asked = proxy.seen();
    assert_eq!(asked.len(), 2, "the list, and whether there is anything in the user's own: {asked:?}");
    for limit in [1, 2, 3, 6] {
        let (paged, count) = pages(&client, IMAGES, "catalogs", limit).await;
        assert_eq!(paged, all, "by {limit}");
        assert_eq!(count, own.len().div_ceil(limit), "by {limit}");
    }
    let mut expected: Vec<Value> = own.iter().map(|name| json!(name)).collect();
    let by_text = |a: &Value, b: &Value| a.as_str().cmp(&b.as_str());
    all.sort_by(by_text);
    expected.sort_by(by_text);
    assert_eq!(all, expected);
}

#[tokio::test]
async fn what_others_have_costs_no_question_more() {
    let (proxy, user) = (Proxy::start().await, somebody());
    pushed(&format!("{user}/own"), "t").await;
    let layer = registry::upload(&user, b"x".to_vec()).await;
    for n in 0..150 {
        // A repository is listed once a blob is in it.
        registry::mount(&user, &format!("{user}-{n}"), &layer).await;
    }
    let kiln = gateway(&proxy, &user).await;
    proxy.seen();
    let page = kiln.client(&user).get(IMAGES).await.json();
    assert_eq!(page, json!({ "catalogs": [format!("{user}/own")], "complete": true }));
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test]
async fn images_come_in_the_order_of_their_tags_with_digest_and_size() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let mut tags: Vec<String> = ["z", "A", "_x", "a.b", "1"].map(str::to_owned).into();
    let digest = pushed(&user, &tags[0]).await;
    for tag in &tags[1..] {
        registry::tag(&user, "z", tag).await;
    }
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let path = format!("{IMAGES}/{user}");
    let (all, _) = pages(&client, &path, "images", 100).await;
    tags.sort();
    let shown: Vec<_> = all.iter().map(|image| image["tag"].as_str().unwrap().to_owned()).collect();
    assert_eq!(shown, tags);
    for image in &all {
        assert_eq!((&image["digest"], &image["platforms"]), (&json!(digest), &json!(["linux/amd64"])), "{image}");
        assert!(image["size"].as_u64().unwrap() > 0 && image["created"] == "2026-01-31T12:00:00Z", "{image}");
    }
    for limit in [1, 2, 5] {
        assert_eq!(pages(&client, &path, "images", limit).await, (all.clone(), tags.len().div_ceil(limit)));
    }
    assert_problem(&client.get(&format!("{path}/nothing")).await, 404, "no such repository");
}

#[tokio::test]
async fn a_page_that_is_known_asks_for_its_tags_alone() {
    let (proxy, user) = (Proxy::start().await, somebody());
    for tag in ["a", "b"] {
        pushed(&user, tag).await;
    }
    let kiln = gateway(&proxy, &user).await;
    let path = format!("{IMAGES}/{user}");
    let first = kiln.client(&user).get(&path).await.text;
    proxy.seen();
    assert_eq!(kiln.client(&user).get(&path).await.text, first);
    let asked = proxy.seen();
    assert_eq!(asked.len(), 3, "the list, and where each tag is now: {asked:?}");
}

#[tokio::test]
async fn what_a_page_is_asked_for_must_make_sense() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    proxy.seen();
    for (path, query) in [
        ("", "limit=0"),
        ("", "limit=101"),
        ("", "limit=x"),
        ("", "limit=-1"),
        ("", "owner=other"),
        ("", "cursor=other"),
        ("", &format!("cursor={user}-bar")),
        ("", &format!("cursor={user}%2F..%2Fother")),
        ("", &format!("cursor={user}%2F")),
        ("", &format!("cursor={user}:t")),
        ("", "cursor=%0a"),
        ("/own", "cursor=a%2Fb"),
        ("/own", "cursor=a%26last%3Db"),
        ("/own", "limit=101"),
        ("/own", "nothing=1"),
    ] {
        let path = if path.is_empty() { String::new() } else { format!("/{user}{path}") };
        assert_problem(&client.get(&format!("{IMAGES}{path}?{query}")).await, 400, &format!("{path} {query}"));
    }
    assert_eq!(proxy.seen(), []);
}
