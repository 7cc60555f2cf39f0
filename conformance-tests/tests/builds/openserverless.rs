//! The request that OpenServerless's own README shows, word for word.

use kiln_conformance_tests::{Engine, Launch, engine, registry};
use serde_json::json;

use crate::{authority::online, image::Image};

#[tokio::test]
async fn the_request_of_the_readme_gives_an_image_that_imports_its_packages() {
    let mirrored =
        Image { repository: "apache/openserverless-runtime-python".to_owned(), tag: "v3.13-2506091954".to_owned() };
    let mirrored = Image::copy_of(&Image::base("python"), mirrored, |_| {}).await;
    let mirrors = format!("[registries.\"docker.io\"]\nmirrors = [\"{}\"]\n", engine("KILN_TEST_REGISTRY"));
    let kiln = online(Launch::on(Engine::Buildkitd).user("devel").config(&mirrors)).start().await;
    let client = kiln.client("devel");
    let request = json!({
        "source": "apache/openserverless-runtime-python:v3.13-2506091954",
        "target": "devel:python3.12-custom",
        "kind": "python",
        "file": "Z25ld3MKYmVhdXRpZnVsc291cDQ=",
    });
    let answer = client.post("/system/api/v1/build/start", &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let build = client.ended(answer.json()["id"].as_str().unwrap()).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");

    // By digest: another run of this test may have moved the tag since.
    let image = Image { repository: "devel".to_owned(), tag: build["digest"].as_str().unwrap().to_owned() };
    assert!(registry::digest("devel", "python3.12-custom").await.is_some());
    mirrored.keep().await;
    let imports = ["env", "-i", "/usr/bin/python3", "-c", "import gnews, bs4; print('imported')"];
    assert_eq!(image.prints(&imports).await, "imported\n");
}
