//! The seven kinds: each extends its base, and what was asked for is what a program finds.

use kiln_conformance_tests::{Client, Engine, Launch};
use serde::Deserialize;
use serde_json::Value;

use crate::{authority::Authority, image::Image};

/// An entry of `conformance-tests/bases/kinds.json`.
#[derive(Debug, Deserialize)]
struct Case {
    kind: String,
    base: String,
    file: Option<String>,
    want: Option<String>,
    command: Option<Vec<String>>,
    failing_file: String,
    failing_text: String,
    failing_status: i32,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../bases/kinds.json")).unwrap()
}

macro_rules! claims {
    ($($claim:ident: $base:literal,)*) => {
        $(#[tokio::test] async fn $claim() { holds_for($base).await })*

        #[test]
        fn every_entry_of_the_table_has_its_claim() {
            let bases: Vec<String> = cases().into_iter().map(|case| case.base).collect();
            assert_eq!(bases, [$($base),*]);
        }
    };
}

claims! {
    python_imports_the_pinned_version: "python",
    nodejs_requires_the_pinned_version_and_the_bases_own_module: "nodejs",
    php_loads_the_pinned_version: "php",
    php_of_the_older_runtimes_loads_the_pinned_version: "php-phpaction",
    java_compiles_and_starts_with_the_pinned_version: "java",
    go_compiles_offline_with_the_pinned_version: "go",
    ruby_requires_the_pinned_version: "ruby",
    dotnet_is_refused_with_what_to_do_instead: "dotnet",
}

/// One build that succeeds and one that doesn't, side by side; an entry without a file has only the second.
async fn holds_for(base: &str) {
    let case = cases().into_iter().find(|case| case.base == base).unwrap();
    let authority = Authority::new();
    let kiln = authority.trusted_by(Launch::on(Engine::Buildkitd).user("devel")).start().await;
    let client = kiln.client("devel");
    tokio::join!(succeeds(&client, &case, &authority), fails(&client, &case));
}

async fn succeeds(client: &Client, case: &Case, authority: &Authority) {
    let (Some(file), Some(want), Some(command)) = (&case.file, &case.want, &case.command) else { return };
    let (base, image) = (Image::base(&case.base), Image::fresh("devel"));
    let id = client.start(&base.reference(), &image.target(), &case.kind, Some(file)).await;
    let build = client.ended(&id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    assert_eq!(build["extender"], format!("built-in recipe {} 1", case.kind));
    assert_eq!(build["digest"].as_str().map(str::to_owned), image.digest().await, "the tag is what was built");

    base.keep().await;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(image.prints(&command).await, *want, "{command:?}");
    // User, working directory, environment, entry point: all that a started program sees.
    let ((config, whole), (of_base, _)) = (image.config().await, base.config().await);
    assert_eq!(config, of_base, "the configuration is the base's, verbatim");
    let sent: Vec<&str> = file.lines().filter(|line| line.len() > 8).collect();
    let history = whole["history"].to_string();
    assert!(!sent.iter().any(|line| history.contains(line)), "the file stands in the history: {history}");
    nothing_of_kilns_is_in(&image, &base, &whole, authority).await;
}

/// Neither mount points, scripts, trust store nor the CA itself: not in a layer, not in the configuration.
pub(crate) async fn nothing_of_kilns_is_in(image: &Image, base: &Image, config: &Value, authority: &Authority) {
    let added = image.added_to(base).await;
    assert!(!added.is_empty(), "the step added a layer");
    let mut traces = authority.traces().to_vec();
    // A part of every mount point's name, and what begins the scripts' own words.
    traces.extend([".kiln", "kiln: "].map(|name| (name, name.as_bytes().to_vec())));
    for (number, tar) in added.iter().enumerate() {
        for (what, trace) in &traces {
            assert!(!contains(tar, trace), "{what} is in added layer {number} of {image:?}");
        }
    }
    let config = config.to_string();
    for (what, trace) in authority.traces() {
        assert!(!contains(config.as_bytes(), &trace), "{what} is in the configuration of {image:?}");
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    // Most bytes aren't the first one: looking for that alone is what makes tens of megabytes fast.
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == part[0]) {
        if rest[at..].starts_with(part) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

async fn fails(client: &Client, case: &Case) {
    let (base, image) = (Image::base(&case.base), Image::fresh("devel"));
    let id = client.start(&base.reference(), &image.target(), &case.kind, Some(&case.failing_file)).await;
    let build = client.ended(&id).await;
    let failure = &build["failure"];
    let reason = if case.kind == "dotnet" { "BaseUnsupported" } else { "StepFailed" };
    assert_eq!((&build["state"], &failure["reason"]), (&"failed".into(), &reason.into()), "{build:#}");
    assert_eq!(failure["step"]["exit_code"], case.failing_status, "{build:#}");
    let tail: Vec<&str> = failure["step"]["tail"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(tail.iter().any(|line| line.contains(&case.failing_text)), "{build:#}");
    let status = client.get(&format!("/system/api/v1/build/status?id={id}")).await.json();
    assert_eq!((&status["phase"], &status["reason"]), (&"Failed".into(), &reason.into()), "{status:#}");
    assert_eq!(status["error"], failure["message"], "{status:#}");
    assert!(!failure["message"].as_str().unwrap().contains("kiln:"), "a sentence for people: {failure:#}");
    assert_eq!(image.digest().await, None, "a failed build moves no tag");
}
