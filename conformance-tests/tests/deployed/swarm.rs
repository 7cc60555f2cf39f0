//! `deploy/swarm`.

use serde_json::Value;

use crate::{Guide, Shell, probes};

/// The layers of Kiln's image in the registry, and whether a second packaging made the same image.
const PUSHED: &str = r#"
docker image inspect --format '{{.Id}}' "kiln:$TAG"
make --silent image push IMAGE=127.0.0.1:5000/kiln >/dev/null
docker image inspect --format '{{.Id}}' "127.0.0.1:5000/kiln:$TAG"
curl --silent --show-error --fail "http://localhost:5000/v2/kiln/manifests/$TAG" \
  --header 'Accept: application/vnd.docker.distribution.manifest.v2+json' | tr -d '\n'
"#;

#[test]
fn the_guide_of_swarm_works_as_it_stands() {
    let shell = Shell::open();
    let guide = Guide::read("deploy/swarm/README.md")
        .with("The services and the daemon", "the base", probes::BASE)
        .with("A test build", "listens", probes::LISTENS)
        .with("listens", "a step looks", probes::step("func_functions docker_gwbridge"))
        .with("a step looks", "pushed", PUSHED)
        .with("What to run", "refused", probes::REFUSED)
        .with("refused", "confined", probes::CONFINED)
        .with("The end of it", "left", probes::LEFT);
    let said = shell.types(&guide);

    let built = &said["A test build"];
    assert!(
        built.starts_with("HTTP/1.1 200 OK") && built.contains("\r\n\r\nregistry.local:5000/foo/bar:latest"),
        "{built}"
    );
    assert!(built.contains("## Made with buildkit\n") && built.contains("\nfoo=bar\n"), "{built}");
    assert_eq!(said["listens"], "127.0.0.1:5000\n127.0.0.1:8088\n");
    assert_eq!(said["a step looks"].lines().last(), Some("registry.local:5000/foo/step:latest"), "{said:#?}");

    let pushed: Vec<_> = said["pushed"].lines().collect();
    assert_eq!(pushed[0], pushed[1], "the same files make the same image");
    let manifest: Value = serde_json::from_str(pushed[2]).unwrap();
    let layers: u64 = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert!((1_000_000..=40_000_000).contains(&layers), "{layers} bytes");

    let pulled = &said["Pulled by another engine"];
    assert!(pulled.contains("Downloaded newer image for registry.local:5000/foo/bar:latest"), "{pulled}");
    let signed = &said["What to run"];
    assert!(signed.contains("HTTP/1.1 200 OK") && signed.contains(r#""status":"success""#), "{signed}");
    assert!(signed.contains("Login Succeeded") && signed.ends_with("127.0.0.1:5000/foo/bar:latest\n"), "{signed}");
    assert_eq!(said["refused"], "401\n401\n");
    assert_eq!(said["confined"], probes::CONFINEMENT);
    assert_eq!(said["left"], "");
}
