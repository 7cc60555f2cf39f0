//! The list: pages, filters, and what is neither.

use kiln_conformance_tests::Client;
use reqwest::Method;
use serde_json::Value;

use crate::{BUILDS, assert_problem, cancel, create, idle};

/// Every page of a list, as ids.
async fn pages(client: &Client, query: &[(&str, &str)]) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let request = client.request(Method::GET, BUILDS).query(query);
        let request = cursor.iter().fold(request, |request, cursor| request.query(&[("cursor", cursor)]));
        let answer = client.send(request).await;
        assert_eq!(answer.status, 200, "{query:?}: {}", answer.text);
        let page = answer.json();
        let ids = page["builds"].as_array().unwrap().iter().map(|build| build["id"].as_str().unwrap().to_owned());
        pages.push(ids.collect());
        match &page["next"] {
            Value::String(next) => cursor = Some(next.clone()),
            next => {
                assert!(next.is_null());
                return pages;
            }
        }
    }
}

#[tokio::test]
async fn pages_hold_every_build_of_the_caller_once_the_newest_first() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let mut ids = Vec::new();
    for at in 0..7 {
        ids.insert(0, create(&devel, &format!("devel:t{at}")).await);
        create(&kiln.client("other"), "other:t").await;
    }
    assert_eq!(pages(&devel, &[]).await, [ids.clone()]);
    assert_eq!(pages(&devel, &[("limit", "3")]).await, [&ids[..3], &ids[3..6], &ids[6..]]);
    // A page that is just full can't know that it is the last.
    assert_eq!(pages(&devel, &[("limit", "7")]).await, [&ids[..], &[]]);
}

#[tokio::test]
async fn a_filter_lets_through_what_fits_it() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    let first = create(&devel, "devel:one").await;
    let second = create(&devel, "devel/app:one").await;
    cancel(&devel, &first).await;
    let accepted = |id: &str| {
        let (devel, id) = (devel.clone(), id.to_owned());
        async move { devel.build(&id).await["accepted"].as_str().unwrap().to_owned() }
    };
    let between = accepted(&second).await;
    let (first, second) = (first.as_str(), second.as_str());
    for (query, fit) in [
        (&[("state", "cancelled")][..], &[first][..]),
        (&[("state", "queued")], &[second]),
        (&[("state", "queued,cancelled")], &[second, first]),
        (&[("state", "succeeded")], &[]),
        (&[("target", "devel:one")], &[first]),
        (&[("target", "devel/app:one"), ("state", "cancelled")], &[]),
        (&[("since", &between)], &[second]),
        (&[("until", &between)], &[first]),
        (&[("since", "2999-01-01T00:00:00Z")], &[]),
        (&[("owner", "devel"), ("limit", "1"), ("state", "cancelled")], &[first]),
    ] {
        let found = pages(&devel, query).await.concat();
        assert_eq!(found, fit, "{query:?}");
    }
}

#[tokio::test]
async fn what_is_no_filter_and_no_cursor_of_ones_own_is_refused() {
    let kiln = idle().await;
    let (devel, other) = (kiln.client("devel"), kiln.client("other"));
    for client in [&devel, &other] {
        for _ in 0..2 {
            create(client, if std::ptr::eq(client, &devel) { "devel:t" } else { "other:t" }).await;
        }
    }
    let next = async |client: &Client| {
        let page = client.get(&format!("{BUILDS}?limit=1")).await.json();
        page["next"].as_str().unwrap().to_owned()
    };
    let (own, others) = (next(&devel).await, next(&other).await);
    let mut flipped = own.clone().into_bytes();
    flipped[3] = if flipped[3] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "state=done",
        "state=queued,",
        "state=",
        "target=",
        "target=devel:a:b",
        "since=yesterday",
        "until=12",
        "colour=red",
        "cursor=",
        "cursor=1",
        "cursor=%00",
        &format!("cursor={others}"),
        &format!("cursor={flipped}"),
        &format!("cursor={own}{own}"),
        &format!("cursor={}", &own[..own.len() - 2]),
    ] {
        assert_problem(&devel.get(&format!("{BUILDS}?{query}")).await, 400, query);
    }
    assert_problem(&devel.get(&format!("{BUILDS}?owner=other")).await, 404, "another's");
    assert_eq!(devel.get(&format!("{BUILDS}?cursor={own}")).await.status, 200);
}
