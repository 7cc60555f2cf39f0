//! `start`: its answer, and the order in which it checks.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, kiln::base, registry};
use serde_json::{Value, json};

use super::{
    couchdb::User,
    gateway::{JSON, START, Tenant, idle, ko, post_raw},
};

const KINDS: [&str; 7] = ["python", "nodejs", "php", "java", "go", "ruby", "dotnet"];

#[tokio::test]
async fn an_accepted_build_is_answered_byte_for_byte() {
    let tenant = Tenant::waiting().await;
    let user = &tenant.name;
    let body = json!({ "source": "python:3.13", "target": format!("{user}:t"), "kind": "python", "file": "Zmxhc2sK" });
    let answer = tenant.client.post(START, &body).await;
    let id = tenant.builds().await[0]["id"].as_str().expect("it is queued").to_owned();
    let job = format!("build-{user}-{id}");
    let want = format!(
        "{{\"data\":{{\"id\":\"{id}\",\"job_name\":\"{job}\"}},\"id\":\"{id}\",\"job_name\":\"{job}\",\
         \"message\":\"Build process initiated successfully. Job: {job}\",\"status\":\"ok\"}}\n"
    );
    assert_eq!(answer.parts(), (200, JSON, want.as_str()));
}

#[tokio::test]
async fn checks_come_in_the_real_services_order() {
    let tenant = Tenant::waiting().await;
    let user = &tenant.name;
    let poor = User::with(&[], &[]).await;
    let (anonymous, good) = (tenant.kiln.anonymous(), &tenant.client);
    let (unknown, poor) = (anonymous.with_token("00000000-0000-4000-8000-000000000000:k"), with(&anonymous, &poor));
    let plain = "text/plain";
    let junk = json!(["junk"]);
    // Each row has one fault fewer than the one before.
    let rows: Vec<(&Client, &str, String, u16, &str)> = vec![
        (&anonymous, plain, "{".to_owned(), 401, "Missing authorization header"),
        (&unknown, plain, "{".to_owned(), 401, "Invalid authorization"),
        (&poor, plain, "{".to_owned(), 401, "User environment not found"),
        (good, plain, "{".to_owned(), 415, "Content-Type must be application/json."),
        (good, JSON, "{".to_owned(), 400, "The JSON payload is malformed."),
        (good, JSON, "null".to_owned(), 400, "No JSON payload provided for build."),
        (good, JSON, json!({ "file": junk }).to_string(), 400, "No source provided for build."),
        (good, JSON, json!({ "source": junk, "file": junk }).to_string(), 400, "No target provided for build."),
        (good, JSON, body(&junk, "other:t", None, &junk), 400, "No kind provided for build."),
        (good, JSON, body(&junk, "other:t", Some(&junk), &junk), 400, "Invalid target for the build."),
        (good, JSON, body(&junk, &format!("{user}:t"), Some(&junk), &junk), 400, "Invalid source for the build."),
        (good, JSON, body(&json!("a"), &format!("{user}:t"), Some(&junk), &junk), 400, "Invalid kind for the build."),
        (
            good,
            JSON,
            body(&json!("a"), &format!("{user}:t"), Some(&json!("python")), &junk),
            400,
            "Requirements file must be valid base64-encoded data",
        ),
    ];
    for (client, content_type, body, status, message) in rows {
        let answer = post_raw(client, START, content_type, body.clone()).await;
        assert_eq!(answer.parts(), (status, JSON, ko(message).as_str()), "{body}");
    }
    assert_eq!(tenant.builds().await, Vec::<Value>::new());
}

#[tokio::test]
async fn an_empty_list_is_a_body_without_a_source() {
    let kiln = idle().await;
    let answer = kiln.client("devel").post(START, &json!([])).await;
    assert_eq!(answer.parts(), (400, JSON, ko("No source provided for build.").as_str()));
}

#[tokio::test]
async fn users_of_the_file_and_of_couchdb_start_alike() {
    let kiln = idle().await;
    let user = User::new().await;
    for (client, name) in [(kiln.client("devel"), "devel"), (with(&kiln.anonymous(), &user), &user.name)] {
        let body = json!({ "source": "python", "target": format!("{name}:t"), "kind": "python" });
        let answer = client.post(START, &body).await.json();
        assert_eq!(answer["job_name"], format!("build-{name}-{}", answer["id"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn the_variables_of_either_side_are_an_environment_for_start() {
    let kiln = idle().await;
    for (env, userenv, status) in [
        (&[("A", "1")][..], &[][..], 200),
        (&[], &[("B", "2")], 200),
        (&[("A", "1")], &[("A", "2")], 200),
        (&[], &[], 401),
    ] {
        let user = User::with(env, userenv).await;
        let body = json!({ "source": "python", "target": format!("{}:t", user.name), "kind": "python" });
        let answer = with(&kiln.anonymous(), &user).post(START, &body).await;
        assert_eq!(answer.status, status, "{env:?} {userenv:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_kind_is_taken_with_a_file_and_any_word_without() {
    let tenant = Tenant::waiting().await;
    for kind in KINDS {
        let answer = send(&tenant, json!({ "kind": kind, "file": "" })).await;
        assert_eq!(answer.0, 200, "{kind}: {}", answer.1);
    }
    assert_eq!(send(&tenant, json!({ "kind": "rust" })).await.0, 200);
    let refused = send(&tenant, json!({ "kind": "rust", "file": "" })).await;
    let kinds = KINDS.join(", ");
    assert_eq!(refused, (400, ko(&format!("Invalid kind for the build. Kinds are {kinds}."))));
    assert_eq!(tenant.builds().await.len(), KINDS.len() + 1);
}

#[tokio::test]
async fn unknown_fields_are_passed_over() {
    let tenant = Tenant::waiting().await;
    assert_eq!(send(&tenant, json!({ "mode": { "a": [1] }, "user": "other" })).await.0, 200);
}

#[tokio::test]
async fn a_target_is_the_users_own_repository_with_at_most_a_tag() {
    let tenant = Tenant::waiting().await;
    let user = &tenant.name;
    let image = |tag: &str| format!("{}/{user}:{tag}", kiln_conformance_tests::engine("KILN_TEST_REGISTRY"));
    for (target, tag) in [(user.clone(), "latest"), (format!("{user}:a_B-1.2"), "a_B-1.2")] {
        assert_eq!(send(&tenant, json!({ "target": target })).await.0, 200, "{target}");
        assert_eq!(tenant.builds().await[0]["image"], image(tag), "{target}");
    }
}

#[tokio::test]
async fn a_file_may_have_line_breaks_in_its_base64_or_be_empty() {
    let tenant = Tenant::waiting().await;
    let lines = BASE64_STANDARD.encode("requests\n".repeat(20));
    let wrapped = format!("{}\r\n{}\n", &lines[..76], &lines[76..]);
    for file in ["", "Zmxhc2sK", wrapped.as_str()] {
        assert_eq!(send(&tenant, json!({ "file": file })).await.0, 200, "{file:?}");
    }
}

#[tokio::test]
async fn without_a_file_the_base_gets_a_new_name_and_with_one_it_is_extended() {
    let tenant = Tenant::building().await;
    let base = base("extendable");
    let plain = tenant.start(&base, "plain", None).await;
    let empty = tenant.start(&base, "empty", Some("")).await;
    let extended = tenant.start(&base, "extended", Some("humanize\n")).await;
    for (id, tag, extender) in
        [(plain, "plain", Value::Null), (empty, "empty", "base".into()), (extended, "extended", "base".into())]
    {
        let build = tenant.client.ended(&id).await;
        assert_eq!(build["state"], "succeeded", "{build}");
        let digest = registry::digest(&tenant.name, tag).await;
        assert_eq!(build["digest"].as_str(), digest.as_deref(), "{tag}");
        assert_eq!(build["extender"].is_null(), extender.is_null(), "{build}");
        let user = &registry::config(&tenant.name, tag).await["config"]["User"];
        assert_eq!(user, "nobody", "{tag}: the base's own user is restored");
    }
    let layers = async |tag: &str| registry::manifest(&tenant.name, tag).await.unwrap().1["layers"].clone();
    let of_base = registry::manifest("bases/extendable", "latest").await.unwrap().1["layers"].clone();
    assert_eq!(layers("plain").await, of_base, "a new name, and nothing else");
    for tag in ["empty", "extended"] {
        assert!(layers(tag).await.as_array().unwrap().len() > of_base.as_array().unwrap().len(), "{tag}");
    }
}

#[tokio::test]
async fn the_answer_comes_while_the_build_is_still_to_be_made() {
    let tenant = Tenant::waiting().await;
    assert_eq!(send(&tenant, json!({})).await.0, 200);
    assert_eq!(tenant.builds().await[0]["state"], "queued");
}

fn body(source: &Value, target: &str, kind: Option<&Value>, file: &Value) -> String {
    let mut body = json!({ "source": source, "target": target, "file": file });
    if let Some(kind) = kind {
        body["kind"] = kind.clone();
    }
    body.to_string()
}

fn with(client: &Client, user: &User) -> Client {
    client.with_token(&user.token)
}

/// Sends a good body with these fields in it, and gives status and text.
async fn send(tenant: &Tenant, fields: Value) -> (u16, String) {
    let mut body = json!({ "source": "python", "target": format!("{}:t", tenant.name), "kind": "python" });
    for (field, value) in fields.as_object().expect("fields") {
        body[field] = value.clone();
    }
    let answer = tenant.client.post(START, &body).await;
    (answer.status.as_u16(), answer.text)
}
