//! `deploy/compose`, and the image that it runs.

use crate::{Guide, Shell, probes};

/// What the image is made of, and as whom it runs.
const IMAGE: &str = r#"
docker image inspect --format '{{.Config.User}}' "kiln:$TAG"
container=$(docker create "kiln:$TAG")
docker export "$container" | tar --list | grep -v -e '/$' -e '^lib' -e '^dev/' -e '^etc/host' -e '^etc/mtab$' -e '^etc/resolv.conf$' \
    -e '^.dockerenv$' | sed -e 's|^usr/lib.*/||' -e 's|^ld-linux-.*|the loader|' | sort
docker rm --volumes "$container" >/dev/null
"#;

const FILES: [&str; 12] = [
    "etc/group",
    "etc/nsswitch.conf",
    "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt",
    "libc.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "the loader",
    "usr/bin/kiln",
    "usr/share/doc/kiln/LICENSE",
    "usr/share/doc/kiln/ca-certificates",
    "usr/share/doc/kiln/libc6",
];

#[test]
fn the_guide_of_compose_works_as_it_stands() {
    let shell = Shell::open();
    let test_build = Guide::read("deploy/swarm/README.md").section("A test build").commands.clone();
    let guide = Guide::read("deploy/compose/README.md")
        .with("A walk-through without them", "image", IMAGE)
        .with("image", "the base", probes::BASE)
        .with("the base", "a test build", test_build)
        .with("a test build", "listens", probes::LISTENS)
        .with("listens", "a step looks", probes::step("kiln_functions"))
        .with("What to run", "refused", probes::REFUSED)
        .with("refused", "confined", probes::CONFINED)
        .with("Down", "left", probes::LEFT);
    let said = shell.types(&guide);

    let mut image = said["image"].lines();
    assert_eq!(image.next(), Some("1000:1000"));
    assert_eq!(image.collect::<Vec<_>>(), FILES);

    let built = &said["a test build"];
    assert!(
        built.starts_with("HTTP/1.1 200 OK") && built.contains("\r\n\r\nregistry.local:5000/foo/bar:latest"),
        "{built}"
    );
    assert!(built.contains("## Made with buildkit\n") && built.contains("\nfoo=bar\n"), "{built}");
    assert_eq!(said["listens"], "127.0.0.1:5000\n127.0.0.1:8088\n");
    assert_eq!(said["a step looks"].lines().last(), Some("registry.local:5000/foo/step:latest"), "{said:#?}");
    let signed = &said["What to run"];
    assert!(signed.contains("HTTP/1.1 200 OK") && signed.contains(r#""status":"success""#), "{signed}");
    assert_eq!(said["refused"], "401\n401\n");
    assert_eq!(said["confined"], probes::CONFINEMENT);
    assert_eq!(said["left"], "");
}
