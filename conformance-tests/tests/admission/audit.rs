//! Audit lines: one for each thing done or refused, all with the same fields, none with a secret.

use serde_json::{Value, json};

use crate::{BUILDS, PATIENCE, idle, start};

fn is_audit(line: &Value, what: &str, who: &str) -> bool {
    line["target"] == "kiln::audit" && line["fields"]["what"] == what && line["fields"]["who"] == who
}

#[tokio::test]
async fn who_did_what_from_where_and_what_came_of_it_is_one_line() {
    let rates = idle().set("KILN_LIMITS__RATES__SUBMIT", "{ per_minute = 1, burst = 2 }");
    let mut kiln = rates.set("KILN_LIMITS__TRUSTED_PROXIES", "[\"127.0.0.1\"]").start().await;
    let devel = kiln.client("devel");
    let id = start(&devel, "devel").await;
    let native = devel.post(BUILDS, &json!({ "source": "nowhere.invalid/base", "target": "devel/app:t" })).await;
    assert_eq!(native.status, 202, "{}", native.text);
    let other = native.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(devel.post(BUILDS, &json!({ "source": "python", "target": "devel:t" })).await.status, 429);
    assert_eq!(devel.post(&format!("/v1/builds/{id}/cancel"), &json!({})).await.status, 202);
    let cleaned = devel.post("/system/api/v1/build/cleanup", &json!({ "max_age_hours": 0 })).await;
    assert_eq!(cleaned.status, 200, "{}", cleaned.text);
    let stranger = kiln.anonymous().with_token("nobody:canary");
    let request = stranger.request(reqwest::Method::GET, BUILDS).header("x-forwarded-for", "2001:db8::7");
    assert_eq!(stranger.send(request).await.status, 401);

    for (what, who, door, outcome, more) in [
        ("accept", "devel", "openserverless", "done", json!({ "build": id, "target": "devel:t", "from": "127.0.0.1" })),
        ("accept", "devel", "native", "done", json!({ "build": other, "target": "devel/app:t" })),
        ("submit", "devel", "native", "refused", json!({ "from": "127.0.0.1" })),
        ("cancel", "devel", "native", "done", json!({ "build": id, "from": "127.0.0.1" })),
        ("delete", "devel", "openserverless", "done", json!({ "from": "127.0.0.1" })),
        ("authenticate", "unknown", "native", "refused", json!({ "from": "2001:db8::7" })),
    ] {
        let line = kiln.line(PATIENCE, |line| is_audit(line, what, who) && line["fields"]["door"] == door).await;
        assert_eq!(line["fields"]["outcome"], outcome, "{line}");
        for (field, value) in more.as_object().unwrap() {
            assert_eq!(line["fields"][field], *value, "{line}");
        }
    }
    let log = kiln.log();
    for (field, _) in log.iter().filter(|l| l["target"] == "kiln::audit").flat_map(|l| l["fields"].as_object().unwrap())
    {
        let fields = ["what", "who", "from", "door", "build", "target", "outcome", "reason"];
        assert!(fields.contains(&field.as_str()), "{field}");
    }
    let token = kiln.token("devel");
    for secret in ["canary", token.split_once(':').unwrap().1] {
        assert!(!log.iter().any(|line| line.to_string().contains(secret)), "the log shows a credential");
    }
}
