//! The oldest dialect, which is unsigned and plain text, and what needs no dialect.

use kiln_conformance_tests::{Engine, Launch, engine, kiln::base, registry};
use reqwest::Method;
use uuid::Uuid;

use crate::{Archive, archive::tar, signed, unsigned};

/// An archive as the first of-builder's README makes it.
fn oldest(image: &str, dockerfile: &str) -> Archive {
    let config = format!("{{\"Ref\": \"{image}\"}}");
    let files = [("config", config.as_str()), ("context/README.md", "## Made\n"), ("context/Dockerfile", dockerfile)];
    Archive::raw(tar(&files, &[]))
}

#[tokio::test]
async fn an_archive_of_the_oldest_kind_is_answered_in_bare_text() {
    let launch = Launch::on(Engine::Buildkitd).unset("KILN_IDENTITY__USERS_FILE").set("disable_hmac", "true");
    let kiln = launch.start().await;
    let client = kiln.anonymous();
    let tag = Uuid::new_v4().simple().to_string();
    let image = format!("{}/foo/bar:{tag}", engine("KILN_TEST_REGISTRY"));
    let fails = format!("FROM {}\nRUN exit 3\n", base("waiting"));
    for (image, dockerfile, status, text) in [
        (image.as_str(), "FROM scratch\nADD README.md /\nENV foo bar\n", 200, image.as_str()),
        (image.as_str(), fails.as_str(), 500, "exit code 3"),
        ("not a ref!!", "FROM scratch\n", 400, "image reference"),
        ("", "FROM scratch\n", 400, "no target reference to push"),
    ] {
        let answer = client.send(unsigned(&client, &oldest(image, dockerfile))).await;
        let found = (answer.status.as_u16(), answer.header("content-type"));
        assert_eq!(found, (status, "text/plain; charset=utf-8"), "{}", answer.text);
        let said = if status == 200 { answer.text == text } else { answer.text.contains(text) };
        assert!(said && !answer.text.starts_with('{'), "{}", answer.text);
    }
    assert!(registry::digest("foo/bar", &tag).await.is_some());
}

#[tokio::test]
async fn the_real_ones_other_paths_and_methods_are_answered_as_there_or_better() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    for (method, path, status, text) in [
        (Method::GET, "/healthz", 200, "OK"),
        (Method::HEAD, "/healthz", 200, ""),
        (Method::POST, "/healthz", 405, ""),
        (Method::GET, "/build", 405, ""),
        (Method::POST, "/nothing", 404, "not found\n"),
    ] {
        let answer = client.send(client.request(method.clone(), path)).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text), "{method} {path}");
    }
}
