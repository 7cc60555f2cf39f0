//! GNU tar, the compressors, openssl and curl, as the builders' documentation puts them together.

use std::path::Path;

use kiln_conformance_tests::{Engine, Kiln, kiln::base};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    KEY,
    program::{Ended, run},
    project::{Package, fails, greets},
    signed,
};

/// An archive on disk, below its package.
const ARCHIVE: &str = "req.tar";

/// Packs `.` by GNU tar; what lies there under the archive's own name is packed, too.
async fn pack(package: &Package) {
    std::fs::write(package.path().join(ARCHIVE), "what an earlier call left").unwrap();
    sh(package.path(), "tar -cf - . >../$$.tar && mv ../$$.tar req.tar").await;
}

async fn sh(folder: &Path, text: &str) -> String {
    let ended = run(Command::new("sh").args(["-ec", text]).current_dir(folder)).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended.stdout
}

/// Posts the archive, signed by openssl, as a form: nobody tells curl otherwise. `-v` shows what went
/// over the wire, and the last line of the output is the status.
async fn post(kiln: &Kiln, package: &Package, path: &str, more: &[&str]) -> Ended {
    let digest = format!("openssl dgst -sha256 -hmac {KEY} {ARCHIVE}");
    let digest = sh(package.path(), &digest).await;
    let signature = format!("X-Build-Signature: sha256={}", digest.split_whitespace().last().unwrap());
    let mut curl = Command::new("curl");
    curl.args(["-sv", "--noproxy", "*", "--max-time", "200", "-w", "\n%{http_code}", "-H", &signature]);
    curl.args(["--data-binary", &format!("@{ARCHIVE}")]).args(more).arg(format!("{}{path}", kiln.url));
    run(curl.current_dir(package.path())).await
}

/// The status, and the body.
fn answer(ended: &Ended) -> (u16, &str) {
    let (body, status) = ended.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("{ended:?}"));
    (status.parse().unwrap(), body)
}

/// Packs and posts to `/build`; gives the status and the one object.
pub(crate) async fn built(kiln: &Kiln, package: &Package) -> (u16, Value) {
    pack(package).await;
    let ended = post(kiln, package, "/build", &[]).await;
    let (status, body) = answer(&ended);
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {ended:?}")))
}

#[tokio::test]
async fn a_form_of_dots_and_slashes_that_holds_itself_is_built_at_every_path_of_the_real_ones() {
    let kiln = signed(Engine::Buildkitd).start().await;
    for path in ["/build", "/", "/build/", "/build/build"] {
        let package = Package::of(&greets());
        pack(&package).await;
        let names = sh(package.path(), "tar -tf req.tar").await;
        assert!(names.starts_with("./\n") && names.contains("./req.tar\n"), "{names}");
        let ended = post(&kiln, &package, path, &[]).await;
        assert!(ended.stderr.contains("> Content-Type: application/x-www-form-urlencoded"), "{ended:?}");
        assert_eq!(answer(&ended).0, 200, "{path}: {ended:?}");
        assert_eq!(package.image.config().await["config"]["Labels"]["greeting"], "moin", "{path}");
    }
}

/// Older clients post to the very URL they are given, and read an object whatever the status is.
#[tokio::test]
async fn a_failure_at_the_root_is_an_object_too() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let package = Package::of(&fails());
    pack(&package).await;
    let ended = post(&kiln, &package, "/", &[]).await;
    let (status, body) = answer(&ended);
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((status, &body["image"]), (500, &Value::from(package.image.name())), "{body}");
    assert!(body["status"].as_str().unwrap().contains("exit code 3"), "{body}");
}

#[tokio::test]
async fn every_compressors_output_is_taken() {
    let kiln = signed(Engine::Buildkitd).start().await;
    for program in ["gzip", "bzip2", "xz", "zstd -q"] {
        let package = Package::of(&greets());
        pack(&package).await;
        sh(package.path(), &format!("{program} -c req.tar >small && mv small req.tar")).await;
        let ended = post(&kiln, &package, "/build", &[]).await;
        assert_eq!(answer(&ended).0, 200, "{program}: {ended:?}");
        assert!(package.image.digest().await.is_some(), "{program}");
    }
}

#[tokio::test]
async fn a_caller_who_asks_first_is_told_to_go_on_or_spared_the_sending() {
    let kiln = signed(Engine::Buildkitd).set("KILN_OPENFAAS__BODY", "4000000").start().await;
    for (size, status, went_on) in [(2_000_000, 200, true), (8_000_000, 413, false)] {
        let package = Package::of(&greets()).file("noise", &"x".repeat(size));
        pack(&package).await;
        let asks = ["-H", "Expect: 100-continue", "--expect100-timeout", "60", "-o", "answer"];
        let ended =
            post(&kiln, &package, "/build", &[&asks[..], &["-w", "%{size_upload}\n%{http_code}"]].concat()).await;
        let (code, sent) = answer(&ended);
        assert_eq!((code, ended.stderr.contains("< HTTP/1.1 100 Continue")), (status, went_on), "{ended:?}");
        assert_eq!(sent.parse::<usize>().unwrap() > size, went_on, "{ended:?}");
    }
}

#[tokio::test]
async fn lines_come_while_the_build_goes_on_and_a_quiet_one_shows_that_it_lives() {
    let kiln = signed(Engine::Buildkitd).start().await;
    let step = format!("echo begun {}; sleep 17; echo over", uuid::Uuid::new_v4());
    let package = Package::of(&format!("FROM {}\nRUN {step}\n", base("busybox")));
    pack(&package).await;
    let ended = post(&kiln, &package, "/build", &["-N", "-H", "Accept: application/x-ndjson"]).await;
    let (status, body) = answer(&ended);
    assert_eq!(status, 200, "{ended:?}");
    assert!(body.lines().all(|line| !line.is_empty()), "{body}");
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let position = |wanted: &str| {
        // The time comes first, then what the step printed.
        let prints =
            |line: &Value| line["log"][0].as_str().is_some_and(|log| log[20..].trim_start().starts_with(wanted));
        lines.iter().position(prints).unwrap_or_else(|| panic!("no {wanted}: {body}"))
    };
    // A word with nothing else in it, between the two.
    let between = &lines[position("begun ")..position("over")];
    assert!(between.iter().any(|line| line["status"] == "in_progress" && line.get("log").is_none()), "{body}");
    assert_eq!(lines.last().unwrap()["status"], "success");
}
