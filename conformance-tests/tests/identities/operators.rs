//! Operators look after what others build, at the native door alone, and every time it is written down.

use std::time::Duration;

use kiln_conformance_tests::{Client, Kiln};
use serde_json::{Value, json};

use super::{
    BUILDS, idle,
    issuer::{ISSUER, Key, claims, set_file},
    parts,
};

/// A gateway with two users, of whom one is an operator, and an issuer whose role `kiln-operator` counts.
async fn gateway() -> (Kiln, Key) {
    let key = Key::ec("a");
    let launch = idle().user("devel").user("root");
    let set = set_file(launch.folder(), &[key.jwk()]);
    let launch = launch.config(&format!(
        r#"
        [identity]
        operators = ["users-file:root"]
        operator_roles = ["issuer:kiln-operator"]
        [[identity.jwt]]
        name = "issuer"
        issuer = "{ISSUER}"
        audience = ["kiln"]
        algorithms = ["ES256"]
        jwks_file = "{}"
        roles_claim = "/realm_access/roles"
        prefix = "jwt-"
        "#,
        set.display()
    ));
    (launch.start().await, key)
}

fn with_roles(kiln: &Kiln, key: &Key, roles: &[&str]) -> Client {
    let claims = claims("ops", json!({ "realm_access": { "roles": roles } }));
    kiln.anonymous().with_token(&key.bearer(&claims))
}

async fn noted(kiln: &mut Kiln, what: &str, who: &str, build: Option<&str>) -> Value {
    let line = kiln.line(Duration::from_secs(10), |line| {
        let fields = &line["fields"];
        line["target"] == "kiln::audit"
            && fields["what"] == what
            && fields["who"] == who
            && build.is_none_or(|build| fields["build"] == build)
    });
    line.await["fields"].clone()
}

#[tokio::test]
async fn operators_read_and_cancel_what_others_build_and_each_time_is_noted() {
    let (mut kiln, key) = gateway().await;
    let id = kiln.client("devel").start("python", "devel:t", "python", None).await;
    for (client, who) in
        [(kiln.client("root"), "root"), (with_roles(&kiln, &key, &["other", "kiln-operator"]), "jwt-ops")]
    {
        let build = client.get(&format!("{BUILDS}/{id}")).await;
        assert_eq!((build.status.as_u16(), &build.json()["owner"]), (200, &json!("devel")), "{who}");
        let log = client.get(&format!("{BUILDS}/{id}/log")).await;
        assert_eq!((log.status.as_u16(), log.header("content-type")), (200, "text/event-stream"), "{who}");
        let listed = client.get(&format!("{BUILDS}?owner=devel")).await.json();
        assert_eq!(listed["builds"][0]["id"], id.as_str(), "{who}");
        assert_eq!(client.get(BUILDS).await.json(), json!({ "builds": [] }), "their own");
        for what in ["read", "log", "list"] {
            let line = noted(&mut kiln, what, who, (what != "list").then_some(&id)).await;
            let rest = (&line["whose"], &line["from"], &line["outcome"]);
            assert_eq!(rest, (&json!("devel"), &json!("127.0.0.1"), &json!("done")), "{line}");
        }
    }
    let cancelled = kiln.client("root").post(&format!("{BUILDS}/{id}/cancel"), &json!({})).await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["state"]), (202, &json!("cancelled")));
    let line = noted(&mut kiln, "cancel", "root", Some(&id)).await;
    assert_eq!((&line["whose"], &line["outcome"]), (&json!("devel"), &json!("done")), "{line}");
    let ended = kiln.client("devel").build(&id).await;
    assert!(ended["failure"].to_string().contains("an operator cancelled the build"), "{ended}");
}

#[tokio::test]
async fn without_the_role_anothers_build_is_none() {
    let (kiln, key) = gateway().await;
    let id = kiln.client("root").start("python", "root:t", "python", None).await;
    let nobodys = uuid::Uuid::now_v7().to_string();
    for client in [kiln.client("devel"), with_roles(&kiln, &key, &[]), with_roles(&kiln, &key, &["Kiln-Operator"])] {
        for path in ["", "/log"] {
            let answer = client.get(&format!("{BUILDS}/{id}{path}")).await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text);
            assert_eq!(parts(&answer), parts(&client.get(&format!("{BUILDS}/{nobodys}{path}")).await));
        }
        assert_eq!(client.post(&format!("{BUILDS}/{id}/cancel"), &json!({})).await.status, 404);
        let owners = ["root", "nobody"].map(|owner| format!("{BUILDS}?owner={owner}"));
        let [theirs, nobodys] = [client.get(&owners[0]).await, client.get(&owners[1]).await];
        assert_eq!((theirs.status.as_u16(), parts(&theirs)), (404, parts(&nobodys)));
    }
    let own = kiln.client("devel").get(&format!("{BUILDS}?owner=devel")).await;
    assert_eq!(own.json(), json!({ "builds": [] }));
    assert_eq!(kiln.client("root").build(&id).await["state"], "queued");
    let looked = |line: &Value| line["target"] == "kiln::audit" && line["fields"]["whose"].is_string();
    assert!(!kiln.log().iter().any(looked), "{:?}", kiln.log());
}

#[tokio::test]
async fn at_the_openserverless_door_an_operator_is_a_user_like_others() {
    let (kiln, _) = gateway().await;
    let id = kiln.client("devel").start("python", "devel:t", "python", None).await;
    let root = kiln.client("root");
    let status = root.get(&format!("/system/api/v1/build/status?id={id}")).await;
    assert_eq!(status.status, 404, "{}", status.text);
    let cleanup = root.post("/system/api/v1/build/cleanup", &json!({ "max_age_hours": 0 })).await;
    assert!(cleanup.text.contains("Cleaned up 0 jobs"), "{}", cleanup.text);
    let body = json!({ "source": "python", "target": "devel:t", "kind": "python" });
    assert_eq!(root.post("/system/api/v1/build/start", &body).await.status, 400);
}
