//! Who may send archives, and that nothing is left of those of others.

use kiln_conformance_tests::{Engine, Launch, registry};
use reqwest::Method;
use serde_json::json;

use crate::{Archive, KEY, USER, archive, post, request, signed, spooled, unsigned};

const COPIES: &str = "FROM scratch\nCOPY hello /hello\n";

#[tokio::test]
async fn a_bad_signature_is_refused_and_nothing_is_left() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    let good = Archive::of(COPIES);
    let mismatch = "unexpected failure: invalid message digest or secret";
    for (header, signature, status) in [
        ("x-cloud-signature", archive::sha1(good.bytes(), "another key"), mismatch),
        ("x-cloud-signature", archive::sha1(&good.bytes()[1..], KEY), mismatch),
        ("x-cloud-signature", "sha1=nonsense".to_owned(), mismatch),
        (
            "x-cloud-signature",
            String::new(),
            "unexpected failure: X-Cloud-Signature begins with neither sha1= nor sha256=",
        ),
    ] {
        let answer = client.send(unsigned(&client, &good).header(header, &signature)).await;
        let want = json!({ "log": null, "imageName": "", "status": status });
        assert_eq!((answer.status.as_u16(), answer.json()), (401, want), "{signature}");
        assert_eq!(answer.text, format!(r#"{{"log":null,"imageName":"","status":"{status}"}}"#));
    }
    let answer = client.send(unsigned(&client, &good)).await;
    let missing = "unexpected failure: invalid encodedHash, should have at least 5 characters";
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (401, &json!(missing)));
    // Also of one that isn't an archive, and isn't read before it is proved.
    let answer = client
        .send(unsigned(&client, &Archive::raw(vec![0xff; 64 << 10])).header("x-cloud-signature", "sha1=00"))
        .await;
    assert_eq!(answer.status, 401);

    assert_eq!(spooled(&kiln), 0);
    assert_eq!(kiln.client(USER).get("/v1/builds").await.json()["builds"], json!([]));
    assert_eq!(registry::digest(&good.repository, &good.tag).await, None);
}

#[tokio::test]
async fn the_newer_header_is_answered_in_the_newer_dialect() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    let archive = Archive::of(COPIES);
    let signature = archive::sha256(archive.bytes(), KEY);
    let answer = client.send(unsigned(&client, &archive).header("x-build-signature", signature)).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"), "{}", answer.text);
    assert_eq!((&answer.json()["image"], &answer.json()["status"]), (&json!(archive.image()), &json!("success")));
    assert!(answer.json()["duration"].is_f64(), "{}", answer.text);
    assert_eq!(spooled(&kiln), 0);
}

#[tokio::test]
async fn a_changed_key_counts_at_once() {
    let kiln = signed().start().await;
    std::fs::write(kiln.folder().join("payload-secret"), "another key").unwrap();
    let archive = Archive::of(COPIES);
    assert_eq!(post(&kiln.anonymous(), &archive).await.status, 401);
}

#[tokio::test]
async fn only_where_signatures_are_switched_off_unsigned_archives_are_taken() {
    let launch = Launch::on(Engine::Buildkitd).unset("KILN_IDENTITY__USERS_FILE");
    let kiln = launch.set("disable_hmac", "true").start().await;
    let archive = Archive::of(COPIES);
    let answer = kiln.anonymous().send(unsigned(&kiln.anonymous(), &archive)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["imageName"]),
        (200, &json!(archive.image())),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn without_a_key_there_is_no_door() {
    let kiln = Launch::on(Engine::Buildkitd).user(USER).start().await;
    let client = kiln.anonymous();
    let unknown = client.request(Method::POST, "/nowhere").body("x");
    let unknown = client.send(unknown).await;
    let archive = Archive::raw(b"x".to_vec());
    let answer = client.send(request(&client, &archive)).await;
    assert_eq!((answer.status.as_u16(), answer.parts()), (404, unknown.parts()));
    assert_eq!(client.get("/ready").await.status, 404);
    assert_eq!(
        (client.get("/healthz").await.status.as_u16(), client.get("/healthz").await.text),
        (200, "OK".to_owned())
    );
}
