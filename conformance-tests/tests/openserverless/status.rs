//! `status`: a build in the words of a Kubernetes Job, and what Kiln adds.

use kiln_conformance_tests::{client::Answer, kiln::base, registry};
use serde_json::{Value, json};

use super::{
    couchdb::User,
    gateway::{JSON, STATUS, Tenant, idle, ko},
};

#[tokio::test]
async fn a_waiting_build_is_pending_byte_for_byte() {
    let tenant = Tenant::waiting().await;
    let id = tenant.start("python", "t", None).await;
    let user = &tenant.name;
    let own = format!("\"id\":\"{id}\",\"image\":null,\"job_name\":\"build-{user}-{id}\"");
    let want = format!(
        "{{\"active\":0,\"completionTime\":null,\"data\":{{\"active\":0,\"completionTime\":null,\"digest\":null,\
         \"error\":null,\"extender\":null,\"failed\":0,{own},\"phase\":\"Pending\",\"reason\":null,\"startTime\":null,\
         \"succeeded\":0}},\"digest\":null,\"error\":null,\"extender\":null,\"failed\":0,{own},\
         \"message\":\"Build status retrieved successfully.\",\"phase\":\"Pending\",\"reason\":null,\"startTime\":null,\
         \"status\":\"ok\",\"succeeded\":0}}\n"
    );
    assert_eq!(status(&tenant, &id).await.parts(), (200, JSON, want.as_str()));
}

#[tokio::test]
async fn a_succeeded_build_names_times_image_and_digest() {
    let tenant = Tenant::building().await;
    let id = tenant.start(&base("extendable"), "good", Some("humanize\n")).await;
    tenant.client.ended(&id).await;
    let status = status(&tenant, &id).await.json();
    let digest = registry::digest(&tenant.name, "good").await.expect("the image is there");
    let host = kiln_conformance_tests::engine("KILN_TEST_REGISTRY");
    assert_counts(&status, "Succeeded", [0, 1, 0]);
    assert_eq!(status["digest"], digest);
    assert_eq!(status["image"], format!("{host}/{}:good", tenant.name));
    assert_eq!((&status["reason"], &status["error"]), (&Value::Null, &Value::Null));
    let (from, to) = (time(&status["startTime"]), time(&status["completionTime"]));
    assert!(from <= to, "{from} {to}");
}

#[tokio::test]
async fn a_failed_build_says_why_and_has_no_time_of_completion() {
    let tenant = Tenant::building().await;
    let id = tenant.start(&base("extendable"), "bad", Some("fail\n")).await;
    tenant.client.ended(&id).await;
    let failed = status(&tenant, &id).await.json();
    assert_counts(&failed, "Failed", [0, 0, 1]);
    assert_eq!(failed["reason"], "StepFailed", "{failed}");
    assert!(!failed["error"].as_str().expect("a sentence").is_empty());
    assert_eq!(
        (&failed["image"], &failed["digest"], &failed["completionTime"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    time(&failed["startTime"]);
    assert_eq!(registry::digest(&tenant.name, "bad").await, None);
}

#[tokio::test]
async fn a_running_build_is_active_and_a_cancelled_one_failed() {
    let tenant = Tenant::building().await;
    let id = tenant.start_endless().await;
    let running = status(&tenant, &id).await.json();
    assert_counts(&running, "Running", [1, 0, 0]);
    time(&running["startTime"]);
    assert_eq!(running["completionTime"], Value::Null);
    tenant.cancel(&id).await;
    let cancelled = status(&tenant, &id).await.json();
    assert_counts(&cancelled, "Failed", [0, 0, 1]);
    assert_eq!(cancelled["reason"], "CancelledByUser");
}

#[tokio::test]
async fn the_outcome_of_a_build_that_was_taken_with_200_is_in_its_status() {
    let tenant = Tenant::building().await;
    let id = tenant.start("forbidden.example/base", "forbidden", None).await;
    tenant.client.ended(&id).await;
    let status = status(&tenant, &id).await.json();
    assert_eq!((status["phase"].as_str(), status["reason"].as_str()), (Some("Failed"), Some("BaseForbidden")));
}

#[tokio::test]
async fn no_id_and_an_unknown_one_are_told_apart() {
    let kiln = idle().await;
    let devel = kiln.client("devel");
    for query in ["", "?", "?id", "?id=", "?ID=x", "?job=x"] {
        let answer = devel.get(&format!("{STATUS}{query}")).await;
        assert_eq!(answer.parts(), (400, JSON, ko("No id provided for build status.").as_str()), "{query:?}");
    }
    for id in ["x", "00000000-0000-4000-8000-000000000000", "..%2F..%2Fsecrets", "%00", "a%20b", "%FF", "💥"] {
        let answer = devel.get(&format!("{STATUS}?id={id}")).await;
        assert_eq!(answer.parts(), (404, JSON, ko("Build job not found").as_str()), "{id:?}");
    }
}

#[tokio::test]
async fn another_owners_build_is_not_found_by_any_route() {
    let (owner, other) = (Tenant::waiting().await, Tenant::waiting().await);
    let id = owner.start("python", "t", None).await;
    assert_eq!(status(&owner, &id).await.parts().0, 200);
    let answer = status(&other, &id).await;
    assert_eq!(answer.parts(), (404, JSON, ko("Build job not found").as_str()));
    for path in [format!("/v1/builds/{id}"), format!("/v1/builds/{id}/log")] {
        assert_eq!(other.client.get(&path).await.parts().0, 404, "{path}");
    }
    let cancel = other.client.post(&format!("/v1/builds/{id}/cancel"), &json!({})).await;
    assert_eq!(cancel.parts().0, 404);
    assert_eq!(status(&owner, &id).await.json()["phase"], "Pending");
}

#[tokio::test]
async fn status_and_cleanup_ask_for_the_operators_variables_alone() {
    let kiln = idle().await;
    let user = User::with(&[], &[("OWN", "1")]).await;
    let tenant = Tenant::of(kiln, user);
    let id = tenant.start("python", "t", None).await;
    let refused = (401, JSON, ko("User environment not found"));
    let answers = [status(&tenant, &id).await, tenant.client.post(super::gateway::CLEANUP, &json!({})).await];
    for answer in &answers {
        assert_eq!(answer.parts(), (refused.0, refused.1, refused.2.as_str()));
    }
}

async fn status(tenant: &Tenant, id: &str) -> Answer {
    tenant.client.get(&format!("{STATUS}?id={id}")).await
}

fn assert_counts(status: &Value, phase: &str, counts: [u64; 3]) {
    assert_eq!(status["phase"], phase, "{status}");
    assert_eq!(["active", "succeeded", "failed"].map(|field| status[field].as_u64()), counts.map(Some), "{status}");
    for (field, value) in status["data"].as_object().expect("the same under data") {
        assert_eq!(&status[field], value, "{field}");
    }
}

/// A time as Kubernetes writes it, comparable as text.
fn time(value: &Value) -> &str {
    let text = value.as_str().expect("a time");
    let pattern = "dddd-dd-ddTdd:dd:ddZ";
    let fits = |(want, got): (char, char)| if want == 'd' { got.is_ascii_digit() } else { want == got };
    assert!(text.len() == pattern.len() && pattern.chars().zip(text.chars()).all(fits), "{text}");
    text
}
