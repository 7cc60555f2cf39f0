//! Every client on every engine: what each packed is an image that starts.

use kiln_conformance_tests::{Engine, Kiln};

use crate::{
    curl,
    image::Image,
    node, pipeline,
    program::run,
    project::{Package, Stack, greets},
    python, sdk, signed,
};

#[tokio::test]
async fn on_buildkitd() {
    each_client_builds_on(Engine::Buildkitd).await;
}

#[tokio::test]
async fn on_docker_with_its_graph_driver() {
    each_client_builds_on(Engine::Docker).await;
}

#[tokio::test]
async fn on_docker_with_the_containerd_store() {
    each_client_builds_on(Engine::DockerContainerd).await;
}

async fn each_client_builds_on(engine: Engine) {
    let kiln = signed(engine).start().await;
    let images = [
        by_sdk(&kiln).await,
        by_pipeline(&kiln).await,
        by_python(&kiln).await,
        by_node(&kiln).await,
        by_curl(&kiln).await,
    ];
    for image in images {
        assert_eq!(image.config().await["config"]["Labels"]["greeting"], "moin");
        assert_eq!(image.prints(&["cat", "/hello"]).await, "hello from the context\n");
    }
}

async fn by_sdk(kiln: &Kiln) -> Image {
    let image = Image::new();
    let stack = Stack::of(&image, &greets());
    let ended = run(&mut sdk::publish(kiln, stack.path(), &[])).await;
    assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(0), "success"), "{ended:?}");
    image
}

async fn by_pipeline(kiln: &Kiln) -> Image {
    let package = pipeline::package(&greets());
    let ended = pipeline::shipped(kiln, &package).await;
    assert_eq!((ended.status, ended.outcome().status.as_str()), (Some(0), "success"), "{ended:?}");
    package.image
}

async fn by_python(kiln: &Kiln) -> Image {
    let package = Package::of(&greets());
    let got = python::built(kiln, &package, &kiln.folder().join("payload-secret"), &["stream"]).await;
    assert_eq!((got.code, got.last()["status"].as_str()), (200, Some("success")), "{got:?}");
    package.image
}

async fn by_node(kiln: &Kiln) -> Image {
    let package = Package::of(&greets());
    let got = node::built(kiln, &package, &["gzip"]).await;
    assert_eq!((got.code, got.last()["status"].as_str()), (200, Some("success")), "{got:?}");
    package.image
}

async fn by_curl(kiln: &Kiln) -> Image {
    let package = Package::of(&greets());
    let (status, body) = curl::built(kiln, &package).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("success")), "{body}");
    package.image
}
