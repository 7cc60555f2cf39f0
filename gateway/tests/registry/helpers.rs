//! Claims about credential helpers: real programs, found on the path as Docker finds them.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use kiln_gateway::registry::{Host, ProcessRegistry};

/// Set in the process that this test starts anew with a path of its own, since a path is the process's.
const CHILD: &str = "KILN_TEST_HELPERS_FOLDER";

const HELPER: &str = r#"#!/bin/sh
test "$1" = get || exit 9
read -r host
case $host in
    with-password) echo '{"ServerURL":"x","Username":"kiln","Secret":"p:ss"}' ;;
    with-token) echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}' ;;
    https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"h"}' ;;
    with-failure) echo 'canary in the output'; exit 1 ;;
    with-nonsense) echo 'canary in the output' ;;
    *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#;

#[test]
fn credential_helpers_are_asked() {
    let folder = tempfile::tempdir().unwrap();
    let helper = folder.path().join("docker-credential-kiln-test");
    fs::write(&helper, HELPER).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("config.json"), r#"{"credsStore":"kiln-test","auths":{"in-file":{"auth":"YTpi"}}}"#)
        .unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["helpers::in_a_process_of_its_own", "--exact", "--nocapture", "--ignored"])
        .env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()))
        .env(CHILD, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "credential_helpers_are_asked runs it, with a path that has the helper"]
async fn in_a_process_of_its_own() {
    let folder = std::env::var_os(CHILD).unwrap();
    let process = ProcessRegistry { docker_config: Some(folder.into()), ..ProcessRegistry::default() };
    for (host, expected) in [
        ("with-password", "Ok(Some(Credential(kiln:…)))"),
        ("with-token", "Ok(Some(Credential(identity token)))"),
        ("docker.io", "Ok(Some(Credential(hub:…)))"),
        ("in-file", "Ok(Some(Credential(a:…)))"),
        ("with-none", "Ok(None)"),
        ("with-failure", "docker-credential-kiln-test failed for with-failure: exit status: 1"),
        ("with-nonsense", "docker-credential-kiln-test failed for with-nonsense: it printed something else"),
    ] {
        let found = process.credential(&Host::parse(host).unwrap()).await;
        let found = found.map_or_else(|error| error.to_string(), |found| format!("Ok({found:?})"));
        assert_eq!(found, expected, "{host}");
    }
}
