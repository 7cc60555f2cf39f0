//! `capabilities`, `ensure` and `GET build/<id>`: the same content is the same build.

use kiln_conformance_tests::{client::Answer, registry};
use serde_json::{Value, json};

use super::gateway::{ENSURE, JSON, PULL_HOST, Tenant, idle, ko};

#[tokio::test]
async fn capabilities_are_the_catalogue_byte_for_byte() {
    let kiln = idle().await;
    let answer = kiln.client("devel").get("/system/api/v1/build/capabilities").await;
    let builders = "\"builders\":[{\"id\":\"go:1.26\",\"kind\":\"go\"},{\"id\":\"python:3.13\",\"kind\":\"python\"}]";
    let want = format!(
        "{{{builders},\"data\":{{{builders}}},\"message\":\"Builder capabilities retrieved\",\"status\":\"ok\"}}\n"
    );
    assert_eq!(answer.parts(), (200, JSON, want.as_str()));
}

#[tokio::test]
async fn equal_content_is_one_build_and_the_answer_stays_the_same() {
    let tenant = Tenant::waiting().await;
    let first = ensure(&tenant, "python:3.13", "Zmxhc2sK").await;
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(first.parts(), (202, JSON, described(&tenant, &id, "Build queued", "queued").as_str()));
    // Another spelling of the same bytes.
    for file in ["Zmxhc2sK", "Zmxh\nc2sK"] {
        let again = ensure(&tenant, "python:3.13", file).await;
        assert_eq!(again.parts(), (202, JSON, described(&tenant, &id, "Build queued", "queued").as_str()));
    }
    assert_eq!(
        get(&tenant, &id).await.parts(),
        (202, JSON, described(&tenant, &id, "Build queued", "queued").as_str())
    );
    let builds = tenant.builds().await;
    assert_eq!(builds.len(), 1);
    let image = builds[0]["image"].as_str().expect("an image");
    assert!(image.ends_with(&format!("/{}:python-{}", tenant.name, &id[..20])), "{image}");
}

#[tokio::test]
async fn another_file_or_builder_is_another_build() {
    let tenant = Tenant::waiting().await;
    let mut ids = Vec::new();
    for (builder, file) in [("python:3.13", "Zmxhc2sK"), ("python:3.13", "Zmxhc2s="), ("go:1.26", "Zmxhc2sK")] {
        ids.push(ensure(&tenant, builder, file).await.json()["id"].as_str().expect("an id").to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), tenant.builds().await.len()), (3, 3));
}

#[tokio::test]
async fn another_owners_build_of_the_same_content_is_not_found() {
    let (owner, other) = (Tenant::waiting().await, Tenant::waiting().await);
    let id = ensure(&owner, "python:3.13", "Zmxhc2sK").await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(get(&other, &id).await.parts(), (404, JSON, ko("Build not found").as_str()));
    assert_eq!(ensure(&other, "python:3.13", "Zmxhc2sK").await.json()["id"], id, "ids say what, not whose");
    assert_eq!((owner.builds().await.len(), other.builds().await.len()), (1, 1));
    let own = get(&other, &id).await;
    assert_eq!(own.parts(), (202, JSON, described(&other, &id, "Build queued", "queued").as_str()));
}

#[tokio::test]
async fn a_failed_build_is_a_conflict_until_a_retry_is_asked_for() {
    let tenant = Tenant::waiting().await;
    let id = ensure(&tenant, "python:3.13", "Zmxhc2sK").await.json()["id"].as_str().unwrap().to_owned();
    let first = tenant.builds().await[0]["id"].as_str().unwrap().to_owned();
    tenant.cancel(&first).await;
    let conflict = ko(&format!("Build failed: CancelledByUser: {} cancelled the build", tenant.name));
    for answer in [ensure(&tenant, "python:3.13", "Zmxhc2sK").await, get(&tenant, &id).await] {
        assert_eq!(answer.parts(), (409, JSON, conflict.as_str()));
    }
    for retry in [json!(false), json!(null)] {
        let answer = retry_with(&tenant, retry).await;
        assert_eq!(answer.parts(), (409, JSON, conflict.as_str()));
    }
    let again = retry_with(&tenant, json!(true)).await;
    assert_eq!(again.parts(), (202, JSON, described(&tenant, &id, "Build queued", "queued").as_str()));
    assert_eq!(retry_with(&tenant, json!(true)).await.parts().0, 202, "one that waits isn't begun anew");
    assert_eq!(tenant.builds().await.len(), 2);
}

#[tokio::test]
async fn a_built_one_is_named_as_the_nodes_pull_it() {
    let tenant = Tenant::building().await;
    let id = ensure(&tenant, "python:3.13", "aHVtYW5pemUK").await.json()["id"].as_str().unwrap().to_owned();
    let build = tenant.builds().await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(tenant.client.ended(&build).await["state"], "succeeded");
    let tag = format!("python-{}", &id[..20]);
    for answer in [ensure(&tenant, "python:3.13", "aHVtYW5pemUK").await, get(&tenant, &id).await] {
        let json = answer.json();
        assert_eq!((answer.parts().0, json["state"].as_str()), (200, Some("succeeded")), "{json}");
        assert_eq!(json["image"], format!("{PULL_HOST}/{}:{tag}", tenant.name));
    }
    assert!(registry::digest(&tenant.name, &tag).await.is_some());
    assert_eq!(tenant.builds().await.len(), 1);
}

#[tokio::test]
async fn an_id_is_64_lower_case_hexadecimal_digits() {
    let tenant = Tenant::waiting().await;
    for id in ["x", &"a".repeat(63), &"a".repeat(65), &"A".repeat(64), &"g".repeat(64), "..%2Fstatus", "%00"] {
        assert_eq!(get(&tenant, id).await.parts(), (400, JSON, ko("Invalid build id").as_str()), "{id}");
    }
    assert_eq!(get(&tenant, &"a".repeat(64)).await.parts(), (404, JSON, ko("Build not found").as_str()));
}

async fn ensure(tenant: &Tenant, builder: &str, file: &str) -> Answer {
    tenant.client.post(ENSURE, &json!({ "builder": builder, "file": file })).await
}

async fn retry_with(tenant: &Tenant, retry: Value) -> Answer {
    let body = json!({ "builder": "python:3.13", "file": "Zmxhc2sK", "retry": retry });
    tenant.client.post(ENSURE, &body).await
}

async fn get(tenant: &Tenant, id: &str) -> Answer {
    tenant.client.get(&format!("/system/api/v1/build/{id}")).await
}

/// The answer for a build without an image.
fn described(tenant: &Tenant, id: &str, message: &str, state: &str) -> String {
    let job = format!("build-{}-{}", tenant.name, &id[..20]);
    let own = format!("\"id\":\"{id}\",\"image\":null,\"job_name\":\"{job}\"");
    format!(
        "{{\"data\":{{{own},\"state\":\"{state}\"}},{own},\"message\":\"{message}\",\"state\":\"{state}\",\"status\":\"ok\"}}\n"
    )
}
