//! The request that OpenServerless's own README shows, word for word.

use kiln_conformance_tests::{Engine, Launch, engine, kiln::base, registry};
use serde_json::json;

use crate::{authority::online, image::Image};

#[tokio::test]
async fn the_request_of_the_readme_gives_an_image_that_imports_its_packages() {
    let mirrored =
        Image { repository: "apache/openserverless-runtime-python".to_owned(), tag: "v3.13-2506091954".to_owned() };
    let mirrored = Image::copy_of(&Image::base("python"), mirrored, |_| {}).await;
    let registry = engine("KILN_TEST_REGISTRY");
    // Images are pushed to the mirror as well, so what of it is everybody's must be said.
    let mirrors = format!(
        "[[bases.shared]]\npattern = \"{registry}/apache/*\"\n[registries.\"docker.io\"]\nmirrors = [\"{registry}\"]\n"
    );
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

#[tokio::test]
async fn a_mirror_that_images_are_pushed_to_opens_nobody_elses() {
    let mirrors = format!("[registries.\"docker.io\"]\nmirrors = [\"{}\"]\n", engine("KILN_TEST_REGISTRY"));
    let kiln = online(Launch::on(Engine::Buildkitd).user("foo").user("foo-bar").config(&mirrors)).start().await;
    let (foo, other) = (kiln.client("foo"), kiln.client("foo-bar"));
    let request = json!({ "source": base("python"), "target": "foo/private:v1" });
    let id = foo.post("/v1/builds", &request).await.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(foo.ended(&id).await["state"], "succeeded");
    for source in ["foo/private:v1", "docker.io/foo/private:v1", "index.docker.io/foo/private:v1"] {
        let id = other.start(source, "foo-bar:stolen", "python", None).await;
        let build = other.ended(&id).await;
        assert_eq!(build["failure"]["reason"], "BaseForbidden", "{source}: {build:#}");
    }
    assert_eq!(registry::digest("foo-bar", "stolen").await, None);
}
