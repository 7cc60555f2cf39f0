//! The overlay beside OpenServerless' operator: its ConfigMap names the registry, its Secrets open it.

use kiln_conformance_tests::Client;
use serde_json::{Value, json};

use crate::{
    base,
    deployment::{Deployment, Manifests, WITHIN, guarded_registry},
    target,
};

const OVERLAY: Manifests = Manifests {
    folder: "openserverless",
    namespace: "nuvolaris",
    config: include_str!("openserverless.toml"),
    more: Some((include_str!("operators.yaml"), include_str!("without_couchdb.yaml"))),
    users: &[
        ("devel", "{}"),
        ("permits", "{ REGISTRY_SECRET = \"permitted\" }"),
        ("guesses", "{ REGISTRY_SECRET = \"unlabelled\" }"),
    ],
};

async fn built(client: &Client, user: &str) -> (String, Value) {
    let (_, name) = target(user);
    let id = client.start(&base("extendable"), &name, "python", None).await;
    let build = client.ended(&id).await;
    (name, build)
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_the_operator_its_config_map_and_secrets_say_where_images_go() {
    let kiln = Deployment::of(&OVERLAY);
    let (name, build) = built(&kiln.client(0), "devel").await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    the_kubelet_pulls_it_with_the_operators_secret(&kiln, &name);
    let (_, build) = built(&kiln.client(1), "permits").await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    let (_, build) = built(&kiln.client(2), "guesses").await;
    assert_eq!(build["failure"]["reason"], "PushDenied", "{build:#}");
    let message = build["failure"]["message"].as_str().unwrap();
    assert!(message.contains("no Secret \"unlabelled\" with the label kiln/registry-secret=true"), "{message}");
    kiln.nothing_is_left().await;
}

fn the_kubelet_pulls_it_with_the_operators_secret(kiln: &Deployment, name: &str) {
    let image = format!("--image={}/{name}", guarded_registry());
    let secrets = json!({ "spec": { "imagePullSecrets": [{ "name": "registry-pull-secret" }] } }).to_string();
    kiln.kubectl(&["run", "pulls", &image, "--restart=Never", "--overrides", &secrets, "--command", "--", "true"]);
    kiln.kubectl(&["wait", "pod/pulls", "--for=jsonpath={.status.phase}=Succeeded", WITHIN]);
}
