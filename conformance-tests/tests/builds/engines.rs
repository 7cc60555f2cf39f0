//! The same build on Docker Engines: with the graph driver's store, and with containerd's.

use kiln_conformance_tests::{Engine, Launch};

use crate::{authority::online, image::Image};

#[tokio::test]
async fn a_docker_engine_with_the_graph_driver_extends_and_pushes() {
    extends_on(Engine::Docker).await;
}

#[tokio::test]
async fn a_docker_engine_with_the_containerd_store_extends_and_pushes() {
    extends_on(Engine::DockerContainerd).await;
}

async fn extends_on(engine: Engine) {
    let kiln = online(Launch::on(engine).user("devel")).start().await;
    let client = kiln.client("devel");
    let (base, image) = (Image::base("python"), Image::fresh("devel"));
    let id = client.start(&base.reference(), &image.target(), "python", Some("humanize==4.9.0\n")).await;
    let failing = Image::fresh("devel");
    let failing_id = client.start(&base.reference(), &failing.target(), "python", Some("humanize==999.0\n")).await;
    let build = client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(build["extender"], "built-in recipe python 1");
    assert_eq!(build["digest"].as_str().map(str::to_owned), image.digest().await);
    assert_eq!(image.config().await.0, base.config().await.0);
    base.keep().await;
    let imports = ["env", "-i", "/usr/bin/python3", "-c", "import humanize; print(humanize.__version__)"];
    assert_eq!(image.prints(&imports).await, "4.9.0\n");

    let build = client.ended(&failing_id).await;
    assert_eq!(build["failure"]["reason"], "StepFailed", "{build:#}");
    let tail = build["failure"]["step"]["tail"].to_string();
    assert!(tail.contains("No matching distribution found for humanize==999.0"), "{build:#}");
    assert_eq!(failing.digest().await, None);
}
