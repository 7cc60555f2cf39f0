//! Receivers that there may not be.

use kiln_conformance_tests::client::Answer;
use serde_json::{Value, json};

use crate::{BUILDS, SECRET, body, cancel, create, launch, message, receiver::Receiver};

#[tokio::test]
async fn a_bad_webhook_is_a_400_that_names_what_is_wrong() {
    let kiln = launch().unset("KILN_WEBHOOKS__ALLOW_NETWORKS").unset("KILN_WEBHOOKS__PLAIN_HTTP").start().await;
    let devel = kiln.client("devel");
    let url = |url: &str| json!({ "url": url, "secret": SECRET });
    let fine = "https://hooks.example/";
    for (webhook, named) in [
        (url("hooks.example"), "webhook.url"),
        (url("http://hooks.example/"), "webhooks.plain_http"),
        (url("https://user:pass@hooks.example/"), "webhook.url"),
        (url("ftp://hooks.example/"), "webhook.url"),
        (url("https://127.0.0.1/"), "webhooks.allow_networks"),
        (url("https://2130706433/"), "webhooks.allow_networks"),
        (url("https://localhost:8443/"), "webhooks.allow_networks"),
        (url("https://169.254.169.254/latest/meta-data/"), "webhooks.allow_networks"),
        (url("https://[::ffff:10.0.0.1]/"), "webhooks.allow_networks"),
        (url("https://[fd00::1]/"), "webhooks.allow_networks"),
        (url("https://0.0.0.0/"), "webhooks.allow_networks"),
        (url("https://100.100.100.200/"), "webhooks.allow_networks"),
        (json!({ "url": fine }), "webhook.secret"),
        (json!({ "url": fine, "secret": "short" }), "webhook.secret"),
        (json!({ "url": fine, "secret": SECRET, "events": [] }), "webhook.events"),
        (json!({ "url": fine, "secret": SECRET, "events": ["pushed"] }), "webhook.events"),
    ] {
        let request = json!({ "source": "python", "target": "devel:t", "webhook": webhook });
        let answer = devel.post(BUILDS, &request).await;
        let said = (answer.status.as_u16(), answer.json()["title"].as_str().unwrap_or_default().contains(named));
        assert_eq!(said, (400, true), "{webhook}: {}", answer.text);
        assert!(!answer.text.contains(SECRET), "{}", answer.text);
    }
    let refused = |answer: &Answer| answer.status.is_client_error();
    let odd = json!({ "source": "python", "target": "devel:t", "webhook": { "url": fine, "other": 1 } });
    assert!(refused(&devel.post(BUILDS, &odd).await));
    assert_eq!(devel.get(BUILDS).await.json()["builds"], json!([]), "something was accepted");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_found_out_when_it_is_sent_to() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let mut receiver = Receiver::answering(&[]).await;
    let id = create(&devel, &body(&receiver.url.replace("127.0.0.1", "localhost"))).await;
    // The operator has thought better of it, and the build was accepted before.
    let kiln = kiln.kill().await.set("KILN_WEBHOOKS__ALLOW_NETWORKS", "[]").start().await;
    let devel = kiln.client("devel");
    cancel(&devel, &id).await;
    let told = message(&devel, &id, |m| m["state"] == "given_up").await;
    let said = (&told["attempts"], &told["status"], &told["error"]);
    assert_eq!(said, (&json!(1), &Value::Null, &json!("its address isn't public")));
    assert!(receiver.at_hand().is_none());
}

#[tokio::test]
async fn a_build_without_a_webhook_has_none_to_look_at() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let id = create(&devel, &json!({ "source": "python", "target": "devel:t" })).await;
    assert_eq!(crate::webhook(&devel, &id).await.status, 404);
}

#[tokio::test]
async fn one_key_for_two_webhooks_is_two_requests() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let post = async |url: &str| {
        let request = devel.request(reqwest::Method::POST, BUILDS).header("idempotency-key", "k").json(&body(url));
        devel.send(request).await.status.as_u16()
    };
    assert_eq!(post("http://127.0.0.1:1/a").await, 202);
    assert_eq!(post("http://127.0.0.1:1/a").await, 200);
    assert_eq!(post("http://127.0.0.1:1/b").await, 422);
}
