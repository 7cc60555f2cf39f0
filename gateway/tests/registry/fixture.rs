//! Tiny images, pushed over HTTP, and clients that may reach them.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use kiln_auth::{Scope, ScopedTarget, Target, UserName};
use kiln_gateway::registry::{
    Credential, Deadlines, Host, Manner, Network, ProcessRegistry, Push, Registries, RegistryClient,
};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A real registry, with what it wants to see.
pub(crate) struct Real {
    pub(crate) host: Host,
    pub(crate) credential: Option<Credential>,
    pair: Option<(String, String)>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} isn't set: bring the registries up with `deploy/dev/engines up registry registry-auth`, then `eval \"$(deploy/dev/engines env)\"`")
    })
}

impl Real {
    pub(crate) fn open() -> Self {
        Self { host: Host::parse(&variable("KILN_TEST_REGISTRY")).unwrap(), credential: None, pair: None }
    }

    pub(crate) fn closed() -> Self {
        let host = Host::parse(&variable("KILN_TEST_REGISTRY_AUTH")).unwrap();
        let (user, password) = (variable("KILN_TEST_REGISTRY_AUTH_USER"), variable("KILN_TEST_REGISTRY_AUTH_PASSWORD"));
        assert!(password.contains(':'), "the password has a colon, since passwords may");
        let credential = Credential::from_pair(&format!("{user}:{password}"));
        Self { host, credential, pair: Some((user, password)) }
    }

    pub(crate) fn push(&self) -> Push {
        push(&self.host, self.credential.clone())
    }

    async fn put(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match &self.pair {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        request.send().await.unwrap().error_for_status().unwrap()
    }

    pub(crate) async fn put_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let http = http();
        let start = self.put(http.post(format!("http://{}/v2/{repository}/blobs/uploads/", self.host))).await;
        let location = start.headers()["location"].to_str().unwrap().to_owned();
        let joint = if location.contains('?') { '&' } else { '?' };
        let digest = digest_of(bytes);
        self.put(http.put(format!("{location}{joint}digest={digest}")).body(bytes.to_vec())).await;
        json!({"mediaType": CONFIG, "digest": digest, "size": bytes.len()})
    }

    /// Puts a manifest under a tag or its digest; returns its digest.
    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &Value,
    ) -> String {
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = digest_of(&bytes);
        let reference = if reference.is_empty() { &digest } else { reference };
        let url = format!("http://{}/v2/{repository}/manifests/{reference}", self.host);
        self.put(http().put(url).header("content-type", media_type).body(bytes)).await;
        digest
    }

    /// An image of one configuration and no layer.
    pub(crate) async fn put_image(&self, repository: &str, reference: &str, configuration: &Value) -> String {
        let config = self.put_blob(repository, &serde_json::to_vec(configuration).unwrap()).await;
        self.put_manifest(repository, reference, MANIFEST, &image(&config)).await
    }
}

pub(crate) fn image(config: &Value) -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []})
}

pub(crate) fn configuration(platform: &str, user: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    json!({
        "os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"User": user, "WorkingDir": "/action", "Env": ["A=b"], "OnBuild": null, "Labels": {"a": "b"}},
    })
}

/// A repository that no other test has.
pub(crate) fn repository() -> String {
    format!("registry-test/{}", uuid::Uuid::now_v7().simple())
}

pub(crate) fn target(repository: &str, tag: &str) -> ScopedTarget {
    let scope = Scope::unbounded(UserName::parse("tester").unwrap());
    scope.admit(Target::parse(&format!("{repository}:{tag}")).unwrap()).unwrap()
}

pub(crate) fn push(host: &Host, credential: Option<Credential>) -> Push {
    Push { host: host.clone(), manner: Manner { plain_http: true, skip_verify: false }, credential }
}

/// A client that may reach `hosts`; all else on loopback is refused, as an operator has it by default.
pub(crate) fn client(hosts: &[&Host]) -> RegistryClient {
    let mut table = Registries::default();
    hosts.iter().for_each(|host| table.name(host, false));
    client_with(table)
}

pub(crate) fn client_with(table: Registries) -> RegistryClient {
    let deadlines = Deadlines { connect: Duration::from_millis(500), request: Duration::from_millis(500) };
    let network = Network { deadlines, ..Network::default() };
    RegistryClient::new(&ProcessRegistry::default(), table, &network).unwrap()
}

pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
