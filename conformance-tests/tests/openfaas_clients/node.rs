//! Node.js: npm's tar, whose names begin with `./` or don't, and its fetch.

use kiln_conformance_tests::{Engine, Kiln};
use tokio::process::Command;

use crate::{
    program::{Got, fetched, run, script},
    project::{Package, fails, greets},
    signed,
};

/// Packs and posts.
pub(crate) async fn built(kiln: &Kiln, package: &Package, more: &[&str]) -> Got {
    let mut command = Command::new("node");
    command.arg(script("node/build.js")).arg(package.path()).arg(format!("{}/build", kiln.url));
    // Packages are found from the folder of the script that asks; they lie elsewhere.
    command.arg(kiln.folder().join("payload-secret")).args(more).env("NODE_PATH", fetched("node").join("node_modules"));
    run(&mut command).await.got()
}

#[tokio::test]
async fn packed_plain_or_by_gzip_and_read_whole_or_by_lines_it_is_the_same_image() {
    let kiln = signed(Engine::Buildkitd).start().await;
    for more in [&[][..], &["gzip"], &["stream"], &["gzip", "stream"]] {
        let package = Package::of(&greets());
        let got = built(&kiln, &package, more).await;
        assert_eq!((got.code, got.last()["status"].as_str()), (200, Some("success")), "{more:?}: {got:?}");
        assert_eq!(got.last()["image"], package.image.name());
        assert_eq!(package.image.config().await["config"]["Labels"]["greeting"], "moin", "{more:?}");
    }
}

#[tokio::test]
async fn a_failure_says_why() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let got = built(&kiln, &Package::of(&fails()), &[]).await;
    assert_eq!(got.code, 500);
    assert!(got.last()["status"].as_str().unwrap().contains("exit code 3"), "{got:?}");
}
