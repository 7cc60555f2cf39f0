//! `cleanup`: whose builds go, which, and how an age may be written.

use serde_json::{Value, json};

use super::{
    couchdb::User,
    gateway::{CLEANUP, JSON, STATUS, Tenant, ko, post_raw},
};

#[tokio::test]
async fn an_age_may_come_in_every_form_that_the_real_service_takes() {
    let tenant = Tenant::waiting().await;
    let id = tenant.start("python", "t", None).await;
    tenant.cancel(&id).await;
    // Older than the age: nothing is.
    for age in [json!(24), json!("24"), json!(1.9), json!(true), json!(" 24 "), json!("1"), json!(1e3)] {
        assert_eq!(cleanup(&tenant, json!({ "max_age_hours": age })).await, 0, "{age}");
    }
    assert_eq!(cleanup(&tenant, json!({})).await, 0, "a day unless said otherwise");
    assert_eq!(cleanup(&tenant, json!({ "max_age": -1 })).await, 0, "other fields don't matter");
    // An age in the future: everything that is finished is older.
    for age in [json!(-1), json!("-1"), json!(-1.9), json!(" -2 ")] {
        let id = tenant.start("python", "t", None).await;
        tenant.cancel(&id).await;
        assert!(cleanup(&tenant, json!({ "max_age_hours": age })).await > 0, "{age}");
        assert_eq!(tenant.builds().await, Vec::<Value>::new(), "{age}");
    }
}

#[tokio::test]
async fn the_answer_counts_what_went_byte_for_byte() {
    let tenant = Tenant::waiting().await;
    for count in [0, 2] {
        for _ in 0..count {
            let id = tenant.start("python", "t", None).await;
            tenant.cancel(&id).await;
        }
        let answer = tenant.client.post(CLEANUP, &json!({ "max_age_hours": -1 })).await;
        let want = format!("{{\"message\":\"Cleaned up {count} jobs successfully.\",\"status\":\"ok\"}}\n");
        assert_eq!(answer.parts(), (200, JSON, want.as_str()));
    }
}

#[tokio::test]
async fn a_body_or_an_age_that_says_nothing_removes_nothing() {
    let tenant = Tenant::waiting().await;
    let id = tenant.start("python", "t", None).await;
    tenant.cancel(&id).await;
    let (malformed, object, invalid) =
        ("The JSON payload is malformed.", "The JSON payload must be an object.", "Invalid max_age_hours for cleanup.");
    for (body, message) in [
        ("null", "No JSON payload provided for cleanup."),
        ("", malformed),
        ("{", malformed),
        ("[]", object),
        ("-1", object),
        ("\"-1\"", object),
        (r#"{"max_age_hours":null}"#, invalid),
        (r#"{"max_age_hours":"abc"}"#, invalid),
        (r#"{"max_age_hours":"-1.5"}"#, invalid),
        (r#"{"max_age_hours":""}"#, invalid),
        (r#"{"max_age_hours":[-1]}"#, invalid),
        (r#"{"max_age_hours":{}}"#, invalid),
        (r#"{"max_age_hours":-99999999999999999999}"#, invalid),
        (r#"{"max_age_hours":-9223372036854775808}"#, invalid),
        (r#"{"max_age_hours":1e300}"#, invalid),
        (r#"{"max_age_hours":1e999}"#, malformed),
    ] {
        let answer = post_raw(&tenant.client, CLEANUP, JSON, body).await;
        assert_eq!(answer.parts(), (400, JSON, ko(message).as_str()), "{body}");
    }
    let typeless = tenant.client.send(tenant.client.request(reqwest::Method::POST, CLEANUP)).await;
    assert_eq!(typeless.parts(), (415, JSON, ko("Content-Type must be application/json.").as_str()));
    assert_eq!(tenant.builds().await.len(), 1);
}

#[tokio::test]
async fn failed_and_succeeded_builds_go_and_running_ones_stay() {
    let tenant = Tenant::building().await;
    let base = kiln_conformance_tests::kiln::base("extendable");
    let good = tenant.start(&base, "good", None).await;
    let bad = tenant.start("forbidden.example/base", "bad", None).await;
    for id in [&good, &bad] {
        tenant.client.ended(id).await;
    }
    let running = tenant.start_endless().await;
    assert_eq!(cleanup(&tenant, json!({ "max_age_hours": -1 })).await, 2);
    for id in [good, bad] {
        let gone = tenant.client.get(&format!("{STATUS}?id={id}")).await;
        assert_eq!(gone.parts(), (404, JSON, ko("Build job not found").as_str()));
        assert_eq!(tenant.client.get(&format!("/v1/builds/{id}/log")).await.parts().0, 404, "its log goes with it");
    }
    assert_eq!(tenant.client.build(&running).await["state"], "running");
    tenant.cancel(&running).await;
    assert!(
        kiln_conformance_tests::registry::digest(&tenant.name, "good").await.is_some(),
        "images are nobody's to clean up here"
    );
}

#[tokio::test]
async fn nobody_elses_builds_go_however_their_names_are_made() {
    let tenant = Tenant::waiting().await;
    // Both jobs' names contain `build-<user>-`, by which the real service finds its own.
    let longer = Tenant::of(tenant.kiln.clone(), User::named(&format!("{}-b", tenant.name)).await);
    let nested = Tenant::of(tenant.kiln.clone(), User::named(&format!("a-build-{}", tenant.name)).await);
    for tenant in [&tenant, &longer, &nested] {
        let id = tenant.start("python", "t", None).await;
        tenant.cancel(&id).await;
    }
    assert_eq!(cleanup(&tenant, json!({ "max_age_hours": -1 })).await, 1);
    assert_eq!((longer.builds().await.len(), nested.builds().await.len()), (1, 1));
}

/// Cleans up and gives the number in the answer.
async fn cleanup(tenant: &Tenant, body: Value) -> usize {
    let answer = tenant.client.post(CLEANUP, &body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    let message = answer.json()["message"].as_str().expect("a message").to_owned();
    message.split(' ').find_map(|word| word.parse().ok()).expect("a number")
}
