//! What `kiln doctor` finds, and what it says to do.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::process::Output;

use kiln_conformance_tests::{Engine, Launch, engine, kiln::base};

fn doctor(launch: &Launch, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = launch.command(&[&["doctor"], arguments].concat()).output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

#[test]
fn a_good_installation_has_nothing_to_complain_of() {
    let (status, said) = doctor(&Launch::on(Engine::Buildkitd).user("devel"), &[]);
    assert_eq!(status, Some(0), "{said}");
    for part in ["configuration", "data_dir", "CA", "engine", "registry", "identity"] {
        assert!(said.contains(&format!("ok    {part}: ")), "{part}: {said}");
    }
}

#[test]
fn each_fault_is_named_with_its_remedy() {
    let nothing = "unix:///nowhere/engine.sock";
    let cases: [(&str, &str, &str); 6] = [
        ("KILN_ENGINE__BUILDKIT", nothing, "FAIL  engine: buildkitd at unix:///nowhere/engine.sock does not answer"),
        ("KILN_DATA_DIR", "/proc/kiln", "FAIL  data_dir: /proc can't be written"),
        ("KILN_STEPS__CA_FILE", "/dev/null", "FAIL  CA: steps.ca_file /dev/null"),
        ("REGISTRY_HOST", "127.0.0.1:1", "FAIL  registry: the registry 127.0.0.1:1 is unavailable"),
        ("KILN_LIMITS__MIN_FREE", "9000000000000000000", "FAIL  data_dir:"),
        ("KILN_ENGINE__BUILDKIT", "tcp://127.0.0.1:1", "FAIL  engine: engine.buildkit tcp://127.0.0.1:1: "),
    ];
    for (variable, value, finding) in cases {
        let (status, said) = doctor(&Launch::on(Engine::Buildkitd).user("devel").set(variable, value), &[]);
        assert_eq!(status, Some(1), "{variable}={value}: {said}");
        assert!(said.contains(finding), "{variable}={value}: {said}");
    }
}

#[test]
fn a_registry_that_wants_a_credential_is_told_from_one_that_is_away() {
    let launch = Launch::on(Engine::Buildkitd).user("devel").set("REGISTRY_HOST", engine("KILN_TEST_REGISTRY_AUTH"));
    let (status, said) = doctor(&launch, &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("wants a credential and none is configured: set REGISTRY_PUSH_SECRET"), "{said}");
    let name = engine("KILN_TEST_REGISTRY_AUTH_USER");
    let pair = format!("{name}:{}", engine("KILN_TEST_REGISTRY_AUTH_PASSWORD"));
    let (status, said) = doctor(&launch.set("REGISTRY_PUSH_SECRET", pair), &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("takes the credential"), "{said}");
}

#[test]
fn an_identity_provider_that_is_away_is_found() {
    let launch = Launch::on(Engine::Buildkitd).set("COUCHDB_SERVICE_HOST", "127.0.0.1");
    let launch = launch.set("COUCHDB_SERVICE_PORT", "1").set("COUCHDB_ADMIN_PASSWORD", "x");
    let (status, said) = doctor(&launch.unset("KILN_IDENTITY__USERS_FILE"), &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("FAIL  identity: ") && said.contains("nobody could call"), "{said}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_a_usage_error() {
    let (status, said) = doctor(&Launch::on(Engine::Buildkitd).config("[engine]\nbuildkid = \"x\"\n"), &[]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("buildkid"), "{said}");
}

#[test]
fn the_canary_tells_what_a_step_reaches() {
    let launch = Launch::on(Engine::Buildkitd).user("devel");
    let image = base("python");
    let (status, said) = doctor(&launch, &["--canary", &image]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("ok    step network: a step reached none of 127.0.0.1:"), "{said}");
    // What steps install from can be reached; named as forbidden, it shows that reaching is seen.
    let (status, said) = doctor(&launch, &["--canary", &image, "--unreachable", "pypi.org:443"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("FAIL  step network: a step reached pypi.org:443"), "{said}");
}
