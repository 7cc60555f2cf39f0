//! What each crate must not know, pinned: the layout is the architecture.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::{fs, path::Path};

/// A crate, and the dependencies that would make it know what isn't its business.
const MUST_NOT_KNOW: [(&str, &[&str]); 3] = [
    // Credentials and scopes, not engines or routes.
    ("auth", &["kiln-backends", "kiln-gateway", "bollard", "bollard-buildkit-proto", "tonic", "kube", "axum"]),
    // Engines, not doors, callers' credentials or the server's side of HTTP.
    ("backends", &["kiln-gateway", "axum", "tower-http", "sqlx", "clap"]),
    // Doors, ledger and queue, not how any one engine works.
    ("gateway", &["bollard", "bollard-buildkit-proto", "tonic", "prost", "kube", "k8s-openapi"]),
];

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    for (name, forbidden) in MUST_NOT_KNOW {
        let dependencies = dependencies(name);
        for dependency in forbidden {
            assert!(!dependencies.iter().any(|d| d == dependency), "{name} depends on {dependency}");
        }
    }
}

#[test]
fn backends_know_scopes_and_no_credentials() {
    let manifest = manifest("backends");
    let auth = &manifest["dependencies"]["kiln-auth"];
    assert_eq!(auth.get("features"), None, "backends take kiln-auth's names and scopes only");
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let workspace: toml::Table = workspace.parse().unwrap();
    let auth = &workspace["workspace"]["dependencies"]["kiln-auth"];
    assert_eq!(auth["default-features"].as_bool(), Some(false), "the providers are opted into");
}

fn dependencies(name: &str) -> Vec<String> {
    let manifest = manifest(name);
    let table = manifest["dependencies"].as_table().unwrap();
    assert!(!table.is_empty(), "{name} has no dependencies: the wrong file was read");
    table.keys().cloned().collect()
}

fn manifest(name: &str) -> toml::Table {
    fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap().parse().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
