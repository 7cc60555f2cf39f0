//! What is signed and yet can't be built: said before an engine is asked.

use reqwest::Method;
use serde_json::json;

use crate::{Archive, USER, archive::tar, post, request, signed};

const CONFIG: &str = "com.openfaas.docker.config";
const DOCKERFILE: (&str, &str) = ("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");

#[tokio::test]
async fn a_bad_archive_or_configuration_is_a_400_that_says_what_is_wrong() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    for (body, status, text) in [
        (b"no tar at all".to_vec(), 400, "tar"),
        (Vec::new(), 400, "com.openfaas.docker.config"),
        (tar(&[DOCKERFILE], &[]), 400, "com.openfaas.docker.config"),
        (tar(&[(CONFIG, ""), DOCKERFILE], &[]), 400, "unexpected end of JSON input"),
        (tar(&[(CONFIG, "{}"), DOCKERFILE], &[]), 400, "no target reference to push"),
        (tar(&[(CONFIG, r#"{"ref":"not a ref!!"}"#), DOCKERFILE], &[]), 400, "image reference"),
        (tar(&[(CONFIG, r#"{"ref":"elsewhere.example/a:1"}"#), DOCKERFILE], &[]), 403, "openfaas.registries"),
        (tar(&[(CONFIG, r#"{"ref":"a"}"#)], &[]), 400, "context"),
        (tar(&[(CONFIG, r#"{"ref":"a"}"#), ("context/x", "")], &[]), 400, "Dockerfile"),
        (tar(&[(CONFIG, &here(r#""buildArgs":{"BUILDKIT_SYNTAX":"x"}"#)), DOCKERFILE], &[]), 400, "BUILDKIT_SYNTAX"),
        (tar(&[(CONFIG, &here(r#""platforms":["windows"]"#)), DOCKERFILE], &[]), 400, "platform"),
        (tar(&[(CONFIG, &here(r#""skipPush":"yes""#)), DOCKERFILE], &[]), 400, "expected a boolean"),
    ] {
        let answer = post(&client, &Archive::raw(body)).await;
        let said = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status.as_u16(), status, "{text}: {}", answer.text);
        assert!(said.starts_with("unexpected failure: ") && said.contains(text), "{text}: {said}");
    }
    assert_eq!(kiln.client(USER).get("/v1/builds").await.json()["builds"], json!([]));
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_a_413() {
    let kiln = signed().set("KILN_OPENFAAS__BODY", "100000").start().await;
    let client = kiln.anonymous();
    let large = Archive::raw(vec![0; 200_000]);
    assert_eq!(post(&client, &large).await.status, 413);
}

#[tokio::test]
async fn every_path_of_the_real_ones_is_the_same_door() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    for path in ["/", "/build", "/build/", "/build/build"] {
        let answer = client.send(client.request(Method::POST, path).body("x")).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(client.send(client.request(Method::PUT, path)).await.status, 405, "{path}");
    }
    assert_eq!(client.get("/ready").await.status, 200);
    let signed = request(&client, &Archive::raw(b"x".to_vec()));
    assert_eq!(client.send(signed).await.status, 400);
}

/// A configuration whose image is fine.
fn here(more: &str) -> String {
    format!(r#"{{"ref":"{}/functions/x:1",{more}}}"#, kiln_conformance_tests::engine("KILN_TEST_REGISTRY"))
}
