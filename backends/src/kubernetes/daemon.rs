//! A build's daemon: its `buildkitd.toml`.

use super::config::{DAEMON_FOLDER, Profile, Snapshotter};

/// Where it listens.
pub(super) const PORT: u16 = 1234;
/// Where it keeps layers: a folder of the pod, gone with it.
pub(super) const ROOT: &str = "/var/lib/kiln-buildkit";
/// Its configuration.
pub(super) const CONFIG: &str = "buildkitd.toml";
/// Its certificate, its key, and the authority that signed what Kiln shows.
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const AUTHORITY: &str = "ca.pem";

/// Writes the configuration. `kept` bounds what a daemon that isn't the last on its volume leaves there, bytes. Nothing
/// in it is a caller's.
pub(super) fn config(profile: Profile, snapshotter: Snapshotter, kept: Option<u64>, registries: &str) -> String {
    // An ordinary user's daemon can give its steps neither a /proc of their own, where the pod's is masked, nor a network.
    let (no_process_sandbox, network) = match profile {
        Profile::Userns => (false, "bridge"),
        Profile::Rootless => (true, "host"),
    };
    let collected = match kept {
        // One build, and everything goes with it.
        None => "gc = false".to_owned(),
        Some(bytes) => format!("gc = true\n[[worker.oci.gcpolicy]]\n  all = true\n  maxUsedSpace = {bytes}"),
    };
    format!(
        r#"root = "{ROOT}"
# Builds may ask for nothing beyond the sandbox.
insecure-entitlements = []

[grpc]
  address = ["tcp://0.0.0.0:{PORT}"]
[grpc.tls]
  cert = "{DAEMON_FOLDER}/{CERTIFICATE}"
  key = "{DAEMON_FOLDER}/{KEY}"
  ca = "{DAEMON_FOLDER}/{AUTHORITY}"

[history]
  maxEntries = 0

[cdi]
  disabled = true

[worker.containerd]
  enabled = false

[worker.oci]
  enabled = true
  snapshotter = "{}"
  noProcessSandbox = {no_process_sandbox}
  networkMode = "{network}"
  {collected}

{registries}"#,
        snapshotter.name()
    )
}
