//! Kiln as `deploy/kubernetes` deploys it, in the development cluster, from the image that `make image` makes; gone
//! again whatever happens.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kiln_conformance_tests::{Client, engine, kiln::program};
use tempfile::TempDir;
use uuid::Uuid;

use crate::until;

/// For whatever the cluster has to bring about.
pub(crate) const WITHIN: &str = "--timeout=120s";
/// A folder of manifests, and what the suite lays over it.
pub(crate) struct Manifests {
    /// Below `deploy/kubernetes`.
    pub(crate) folder: &'static str,
    pub(crate) namespace: &'static str,
    /// Kiln's configuration.
    pub(crate) config: &'static str,
    /// Further objects, and a patch of the deployment.
    pub(crate) more: Option<(&'static str, &'static str)>,
    /// Users, each with their environment as TOML.
    pub(crate) users: &'static [(&'static str, &'static str)],
}

/// A deployment, and the folder from which it was applied.
pub(crate) struct Deployment {
    folder: TempDir,
    namespace: &'static str,
    tokens: Vec<String>,
    /// Locked: namespaces have fixed names, and a second checkout may use the same cluster.
    _alone: File,
}

impl Deployment {
    /// Applies a folder of `deploy/kubernetes` with what this cluster needs, and waits for the rollout.
    pub(crate) fn of(manifests: &Manifests) -> Self {
        let alone = File::create(Path::new(&engine("KILN_DEV_BIN")).with_file_name("deployed-cluster.lock")).unwrap();
        alone.lock().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tokens = manifests.users.iter().map(|user| add(*user, &folder.path().join("users.toml"))).collect();
        let deployment = Self { folder, namespace: manifests.namespace, tokens, _alone: alone };
        deployment.remove();
        deployment.write(manifests, &image());
        deployment.apply();
        deployment
    }

    fn write(&self, manifests: &Manifests, image: &str) {
        let registry = registry();
        let (host, port) = registry.rsplit_once(':').unwrap();
        let guarded = guarded_registry();
        let (_, guarded_port) = guarded.rsplit_once(':').unwrap();
        let (name, tag) = image.rsplit_once(':').unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes").join(manifests.folder);
        // kustomize takes no absolute path.
        let path = relative(&fs::canonicalize(root).unwrap(), &fs::canonicalize(self.folder.path()).unwrap());
        let data = self.folder.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::copy("/etc/ssl/certs/ca-certificates.crt", self.folder.path().join("ca.pem")).unwrap();
        let (more, patch) = manifests.more.unwrap_or_default();
        let lists = manifests.more.map_or(["", ""], |_| ["more.yaml", "- path: patch.yaml"]);
        for (file, text) in [
            ("kustomization.yaml", include_str!("kustomization.yaml")),
            ("cluster.yaml", include_str!("cluster.yaml")),
            ("more.yaml", more),
            ("patch.yaml", patch),
            ("kiln.toml", manifests.config),
        ] {
            let text = text.replace("MANIFESTS", &path).replace("NAMESPACE", self.namespace);
            let text = text.replace("MORE", lists[0]).replace("PATCHES", lists[1]);
            let text = text.replace("GUARDED_PORT", guarded_port).replace("GUARDED", &guarded);
            let text =
                text.replace("REGISTRY_HOST", host).replace("REGISTRY_PORT", port).replace("REGISTRY", &registry);
            let text = text.replace("IMAGE_NAME", name).replace("IMAGE_TAG", tag);
            fs::write(self.folder.path().join(file), text.replace("DATA", data.to_str().unwrap())).unwrap();
        }
    }

    fn apply(&self) {
        let folder = self.folder.path().to_str().unwrap();
        kubectl(&["create", "namespace", self.namespace]);
        let users = format!("--from-file={folder}/users.toml");
        self.kubectl(&["create", "secret", "generic", "kiln-users", &users]);
        // The authorities are more than an annotation holds.
        kubectl(&["apply", "--server-side", "--kustomize", folder]);
        self.rolled_out();
        kubectl(&["get", "pods,jobs,services,networkpolicies", "--all-namespaces", "--output=wide"]);
    }

    /// Waits until the pod that should serve does.
    pub(crate) fn rolled_out(&self) {
        self.kubectl(&["rollout", "status", "deployment/kiln", WITHIN]);
    }

    /// The user of this number, by way of the Service.
    pub(crate) fn client(&self, user: usize) -> Client {
        let address = self.kubectl(&["get", "service", "kiln", "--output=jsonpath={.spec.clusterIP}"]);
        Client::new(&format!("http://{address}:8080"), Some(&self.tokens[user]))
    }

    /// kubectl in Kiln's namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", self.namespace], arguments].concat())
    }

    /// Waits until no build has left anything.
    pub(crate) async fn nothing_is_left(&self) {
        let all = ["--namespace", "kiln-builds", "get", "jobs,pods,secrets", "--output=name"];
        until("a Job, pod or Secret is left", || async { kubectl(&all).is_empty().then_some(()) }).await;
    }

    fn remove(&self) {
        for namespace in [self.namespace, "kiln-builds"] {
            kubectl(&["delete", "namespace", namespace, "--ignore-not-found", WITHIN]);
        }
        kubectl(&["delete", "persistentvolume", "kiln-test-data", "--ignore-not-found", WITHIN]);
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", run(&["--namespace", self.namespace, "logs", "deployment/kiln", "--tail=50"]).1);
            eprintln!("{}", run(&["get", "pods,events", "--all-namespaces"]).1);
            run(&["delete", "namespace", self.namespace, "kiln-builds", "--ignore-not-found", "--wait=false"]);
        } else {
            self.remove();
        }
    }
}

/// The development registry as the cluster knows it.
pub(crate) fn registry() -> String {
    engine("KILN_TEST_CLUSTER_REGISTRY")
}

/// Packages the kiln beside this test and pushes it; its name for the cluster.
fn image() -> String {
    let repository = format!("kiln-test/kiln:{}", Uuid::new_v4().simple());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/image/build");
    let path = format!("{}:{}", engine("KILN_DEV_BIN"), std::env::var("PATH").unwrap());
    let output = Command::new(script)
        .args([&format!("{}/{repository}", engine("KILN_TEST_REGISTRY")), "push"])
        .env("KILN_PROGRAM", program())
        .env("BUILDKIT_HOST", engine("KILN_TEST_BUILDKIT"))
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("{}/{repository}", registry())
}

/// The registry that wants a password, as the cluster knows it.
pub(crate) fn guarded_registry() -> String {
    let (open, guarded) = (registry(), engine("KILN_TEST_REGISTRY_AUTH"));
    format!("{}:{}", open.rsplit_once(':').unwrap().0, guarded.rsplit_once(':').unwrap().1)
}

fn add((name, environment): (&str, &str), file: &Path) -> String {
    let output = Command::new(program()).args(["user", "add", name, "--file"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The last one in the file.
    writeln!(File::options().append(true).open(file).unwrap(), "env = {environment}").unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The way to `to` from the folder `from`.
fn relative(to: &Path, from: &Path) -> String {
    let up: PathBuf = from.components().skip(1).map(|_| "..").collect();
    up.join(to.strip_prefix("/").unwrap()).display().to_string()
}

/// Runs kubectl, shows what it said, and wants it to succeed.
pub(crate) fn kubectl(arguments: &[&str]) -> String {
    let (success, text) = run(arguments);
    assert!(success, "kubectl {arguments:?}: {text}");
    text.trim().to_owned()
}

/// Runs kubectl; whether it succeeded, and what it wrote.
pub(crate) fn run(arguments: &[&str]) -> (bool, String) {
    let kubectl = Path::new(&engine("KILN_DEV_BIN")).join("kubectl");
    let output = Command::new(kubectl).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, if output.status.success() { Vec::new() } else { output.stderr }].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    println!("$ kubectl {}\n{text}", arguments.join(" "));
    (output.status.success(), text)
}
