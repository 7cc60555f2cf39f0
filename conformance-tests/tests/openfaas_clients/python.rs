//! Python: tarfile's PAX with its links and fractions of a second, Requests for the rest.

use std::{fs, path::Path};

use kiln_conformance_tests::{Engine, Kiln, Launch, kiln::base};
use tokio::process::Command;

use crate::{
    program::{Got, run, script},
    project::{Package, fails, greets},
    signed,
};

/// Packs and posts; `secret` is a file, or `-` for none.
pub(crate) async fn built(kiln: &Kiln, package: &Package, secret: &Path, more: &[&str]) -> Got {
    let mut command = Command::new("python3");
    command.arg(script("python/build.py")).arg(package.path()).arg(format!("{}/build", kiln.url)).arg(secret);
    command.args(more).env("PYTHONPATH", crate::program::fetched("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut command).await.got()
}

fn key(kiln: &Kiln) -> std::path::PathBuf {
    kiln.folder().join("payload-secret")
}

#[tokio::test]
async fn links_and_names_arrive_as_they_were() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let deep = format!("deep/{}/{}", "d".repeat(90), "f".repeat(90));
    let checks = [
        "[ \"$(cat hello)\" = \"$(cat twin)\" ]".to_owned(),
        "[ \"$(readlink link)\" = hello ] && [ \"$(readlink away)\" = /usr/bin/env ]".to_owned(),
        "[ -d folder ] && [ \"$(cat 'grüße 日本')\" = moin ]".to_owned(),
        format!("[ \"$(cat {deep})\" = far ]"),
        "[ -x run.sh ] && [ ! -x hello ]".to_owned(),
    ];
    let dockerfile = format!("FROM {}\nCOPY . /c/\nWORKDIR /c\nRUN {}\n", base("busybox"), checks.join(" && "));
    let package = Package::of(&dockerfile).file("grüße 日本", "moin").file(&deep, "far").file("run.sh", "");
    let context = package.path().join("context");
    fs::hard_link(context.join("hello"), context.join("twin")).unwrap();
    std::os::unix::fs::symlink("hello", context.join("link")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/env", context.join("away")).unwrap();
    fs::create_dir(context.join("folder")).unwrap();
    fs::set_permissions(context.join("run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for more in [&[][..], &["stream"]] {
        let got = built(&kiln, &package, &key(&kiln), more).await;
        assert_eq!((got.code, got.last()["status"].as_str()), (200, Some("success")), "{got:?}");
        assert_eq!(got.last()["image"], package.image.name());
    }
    assert!(package.image.digest().await.is_some());
}

#[tokio::test]
async fn a_failure_is_read_from_the_status_or_the_last_line() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let package = Package::of(&fails());
    let whole = built(&kiln, &package, &key(&kiln), &[]).await;
    assert_eq!(whole.code, 500);
    assert!(whole.last()["status"].as_str().unwrap().contains("exit code 3"), "{whole:?}");
    let streamed = built(&kiln, &package, &key(&kiln), &["stream"]).await;
    assert_eq!((streamed.code, streamed.last()["status"].as_str()), (200, Some("failed")), "{streamed:?}");
    assert!(streamed.last()["error"].as_str().unwrap().contains("exit code 3"), "{streamed:?}");
}

#[tokio::test]
async fn who_has_no_key_sends_no_signature_and_builds_where_none_is_asked_for() {
    let package = Package::of(&greets());
    let kiln = signed(Engine::Buildkitd).start().await;
    assert_eq!(built(&kiln, &package, Path::new("-"), &[]).await.code, 401);
    let open =
        Launch::on(Engine::Buildkitd).unset("KILN_IDENTITY__USERS_FILE").set("disable_hmac", "true").start().await;
    let got = built(&open, &package, Path::new("-"), &[]).await;
    assert_eq!((got.code, got.last()["status"].as_str()), (200, Some("success")), "{got:?}");
    assert_eq!(package.image.config().await["config"]["Labels"]["greeting"], "moin");
}
