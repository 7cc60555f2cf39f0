//! Builds that take another's image, killed between any two steps, and with that other one gone.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, Engine, Launch, kiln::base, registry};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    assert_tagged, in_its_step,
    registry_proxy::{Fate, Moment, RegistryProxy},
    tag,
};

const BUILDS: &str = "/v1/builds";

fn body(script: &str, tag: &str) -> Value {
    let file = BASE64_STANDARD.encode(script);
    json!({ "source": base("waiting"), "target": format!("devel:{tag}"), "kind": "python", "file": file })
}

fn script(commands: &str) -> String {
    format!("{commands} # {}\n", Uuid::new_v4())
}

async fn post(client: &Client, body: &Value) -> String {
    let answer = client.post(BUILDS, body).await;
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// That a build ended once, as a success that follows this one, with its tag.
async fn assert_followed(client: &Client, id: &str, tag: &str, first: &str) {
    let build = client.ended(id).await;
    assert_tagged(&build, "devel", tag).await;
    assert_eq!((&build["follows"], &build["attempt"]), (&json!(first), &json!(0)), "{build:#}");
    let ends = client.log(id).await.into_iter().filter(|(kind, _)| kind == "end").count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn who_waits_for_an_image_does_so_after_a_kill() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let devel = kiln.client("devel");
    let (script, tags) = (script("sleep 3"), [tag(), tag()]);
    let first = post(&devel, &body(&script, &tags[0])).await;
    let second = post(&devel, &body(&script, &tags[1])).await;
    in_its_step(&devel, &first, 1).await;
    let kiln = kiln.kill().await.start().await;
    let devel = kiln.client("devel");
    // Whoever asks meanwhile meets the same builds.
    assert_eq!(post(&devel, &body(&script, &tags[0])).await, first);
    assert_eq!(post(&devel, &body(&script, &tags[1])).await, second);
    assert_tagged(&devel.ended(&first).await, "devel", &tags[0]).await;
    assert_followed(&devel, &second, &tags[1], &first).await;
}

#[tokio::test]
async fn a_tag_that_was_on_its_way_is_put_after_a_kill_though_the_first_build_is_gone() {
    for fate in [Fate::Held, Fate::Unanswered] {
        let proxy = RegistryProxy::start().await;
        let kiln = proxy.launch().start().await;
        let devel = kiln.client("devel");
        let (script, tags) = (script("true"), [tag(), tag()]);
        let first = post(&devel, &body(&script, &tags[0])).await;
        assert_tagged(&devel.ended(&first).await, "devel", &tags[0]).await;
        proxy.rule(Moment::Tag, fate);
        let asked = tokio::spawn({
            let (devel, wanted) = (devel.clone(), body(&script, &tags[1]));
            async move { devel.request(reqwest::Method::POST, BUILDS).json(&wanted).send().await }
        });
        proxy.met(1).await;
        let second = devel.get(BUILDS).await.json()["builds"][0].clone();
        assert_eq!((&second["state"], &second["follows"]), (&json!("pushed"), &json!(first)), "{second:#}");
        let removed = devel.post("/system/api/v1/build/cleanup", &json!({ "max_age_hours": 0 })).await;
        assert_eq!(
            (removed.status.as_u16(), devel.get(&format!("{BUILDS}/{first}")).await.status.as_u16()),
            (200, 404)
        );
        let launch = kiln.kill().await;
        asked.abort();
        proxy.lift();
        let kiln = launch.start().await;
        assert_followed(&kiln.client("devel"), second["id"].as_str().unwrap(), &tags[1], &first).await;
    }
}

#[tokio::test]
async fn a_follower_whose_first_build_is_gone_after_a_kill_is_built_itself() {
    let proxy = RegistryProxy::start().await;
    let kiln = proxy.launch().start().await;
    let devel = kiln.client("devel");
    let (script, tags) = (script("true"), [tag(), tag()]);
    proxy.rule(Moment::Blob, Fate::Held);
    let first = post(&devel, &body(&script, &tags[0])).await;
    let second = post(&devel, &body(&script, &tags[1])).await;
    proxy.met(1).await;
    let launch = kiln.kill().await;
    proxy.lift();
    // What a kill between the end of the one and the other's notice of it leaves, and a cleanup then makes of it.
    let ledger = launch.folder().join("data/ledger.sqlite");
    let forgotten = std::process::Command::new("python3")
        .args([
            "-c",
            "import sqlite3, sys, uuid; db = sqlite3.connect(sys.argv[1]); \
                      db.execute('DELETE FROM builds WHERE id = ?', (uuid.UUID(sys.argv[2]).bytes,)); db.commit()",
        ])
        .arg(ledger)
        .arg(&first)
        .status();
    assert!(forgotten.unwrap().success());
    let kiln = launch.start().await;
    let build = kiln.client("devel").ended(&second).await;
    assert_tagged(&build, "devel", &tags[1]).await;
    assert_eq!((&build["follows"], &build["attempt"]), (&Value::Null, &json!(1)), "{build:#}");
}

#[tokio::test]
async fn identical_requests_that_a_kill_cuts_off_are_one_build_for_all_that_were_answered() {
    const CALLERS: usize = 24;
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let devel = kiln.client("devel");
    let (tag, script) = (tag(), script("sleep 1"));
    let wanted = body(&script, &tag);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let request = devel.request(reqwest::Method::POST, BUILDS).json(&wanted);
        callers.spawn(async move {
            let answer = request.send().await.ok()?.error_for_status().ok()?;
            answer.json::<Value>().await.ok()?["id"].as_str().map(str::to_owned)
        });
    }
    let mut answered = vec![callers.join_next().await.unwrap().unwrap().unwrap()];
    let launch = kiln.kill().await;
    answered.extend(callers.join_all().await.into_iter().flatten());
    answered.dedup();
    assert_eq!(answered.len(), 1, "{answered:?}");
    let kiln = launch.start().await;
    let devel = kiln.client("devel");
    assert_eq!(post(&devel, &wanted).await, answered[0]);
    assert_tagged(&devel.ended(&answered[0]).await, "devel", &tag).await;
    assert_eq!(devel.get(BUILDS).await.json()["builds"].as_array().unwrap().len(), 1);
    assert!(registry::digest("devel", &tag).await.is_some());
}
