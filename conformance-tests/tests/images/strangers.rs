//! Whoever isn't the owner finds nothing, and the registry isn't even asked.

use reqwest::Method;
use serde_json::json;

use crate::{IMAGES, assert_problem, delete, gateway, proxy::Proxy, pushed, somebody};

#[tokio::test]
async fn anothers_image_and_none_are_the_same_answer_and_no_question() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let beside = format!("{user}-bar");
    let digest = pushed(&beside, "t").await;
    pushed(&user, "t").await;
    let kiln = gateway(&proxy, &user).await;
    let client = kiln.client(&user);
    let missing = client.get(&format!("{IMAGES}/{user}:nothing")).await;
    assert_problem(&missing, 404, "none");
    proxy.seen();
    let pin = format!("sha256:{}", "0".repeat(64));
    let others = [
        format!("{beside}:t"),
        format!("{beside}@{digest}"),
        beside.clone(),
        format!("{user}x/app:t"),
        format!("{user}/../{beside}:t"),
        format!("{user}%2F..%2F{beside}:t"),
        format!("{user}%00:t"),
        format!("{user}:t@{pin}"),
        format!("{user}//a:t"),
        format!("{}:t", user.to_uppercase()),
        format!("{user}%ff:t"),
        format!("{user}:t?x").replace('?', "%3F"),
        "bases/python".to_owned(),
        "_catalog".to_owned(),
        "x".repeat(300),
    ];
    for name in &others {
        for method in [Method::GET, Method::DELETE] {
            let answer = client.send(client.request(method.clone(), &format!("{IMAGES}/{name}"))).await;
            assert_eq!((answer.status, &answer.text), (missing.status, &missing.text), "{method} {name}");
        }
        let all = delete(&client, &format!("{name}?all_tags=true")).await;
        assert_eq!(all.text, missing.text, "{name}");
    }
    let mine = format!("{user}:t");
    for (from, to) in [(&others[0], &mine), (&mine, &others[0]), (&others[1], &mine), (&others[0], &others[0])] {
        let answer = client.post(IMAGES, &json!({ "from": from, "to": to })).await;
        assert_eq!((answer.status, &answer.text), (missing.status, &missing.text), "{from} {to}");
    }
    assert_eq!(proxy.seen(), [], "the registry was asked about what isn't the caller's");
    let anonymous = kiln.anonymous();
    for (method, path) in [(Method::GET, ""), (Method::GET, "/x:t"), (Method::DELETE, "/x:t"), (Method::POST, "")] {
        let answer = anonymous.send(anonymous.request(method, &format!("{IMAGES}{path}"))).await;
        assert_problem(&answer, 401, path);
    }
    assert_eq!(kiln_conformance_tests::registry::digest(&beside, "t").await, Some(digest));
    assert_eq!(proxy.seen(), []);
}
