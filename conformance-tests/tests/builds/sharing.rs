//! Identical requests at Kiln's own door: one build for those under way, and its image for those that come later.

use std::collections::HashSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kiln_conformance_tests::{Client, Engine, Kiln, Launch, client::Answer, kiln::base, registry};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

const BUILDS: &str = "/v1/builds";

async fn gateway() -> Kiln {
    Launch::on(Engine::Buildkitd).user("devel").user("other").start().await
}

/// A tag that nobody else has.
fn tag() -> String {
    format!("t{}", Uuid::new_v4().simple())
}

/// Commands that make a layer of their own.
fn script(commands: &str) -> String {
    format!("{commands} # {}\n", Uuid::new_v4())
}

fn body(script: &str, target: &str) -> Value {
    json!({ "source": base("waiting"), "target": target, "kind": "python", "file": BASE64_STANDARD.encode(script) })
}

async fn post(client: &Client, body: &Value) -> Value {
    let answer = client.post(BUILDS, body).await;
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.json()
}

fn id(build: &Value) -> &str {
    build["id"].as_str().unwrap()
}

/// The build's end, which is a success whose tag stands.
async fn assert_built(client: &Client, id: &str, tag: &str) -> String {
    let build = client.ended(id).await;
    assert_eq!(build["state"], "succeeded", "{build:#}");
    let digest = build["digest"].as_str().unwrap().to_owned();
    assert_eq!(registry::digest(build["owner"].as_str().unwrap(), tag).await.as_ref(), Some(&digest));
    digest
}

#[tokio::test]
async fn identical_requests_under_way_are_one_build_and_later_ones_are_answered_with_it() {
    let (kiln, tag) = (gateway().await, tag());
    let devel = kiln.client("devel");
    let wanted = body(&script("sleep 2"), &format!("devel:{tag}"));
    let posts = (0..30).map(|_| {
        let (devel, wanted) = (devel.clone(), wanted.clone());
        async move { devel.post(BUILDS, &wanted).await }
    });
    let answers: Vec<Answer> = posts.collect::<JoinSet<_>>().join_all().await;
    let ids: HashSet<String> = answers.iter().map(|answer| id(&answer.json()).to_owned()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    let first = ids.into_iter().next().unwrap();
    assert_built(&devel, &first, &tag).await;
    let again = devel.post(BUILDS, &wanted).await;
    assert_eq!((again.status.as_u16(), id(&again.json())), (200, &*first), "{}", again.text);
    assert_eq!(again.json()["state"], "succeeded");
    // What editors change on their own changes nothing.
    let mut windows = wanted.clone();
    let file = BASE64_STANDARD.decode(wanted["file"].as_str().unwrap()).unwrap();
    windows["file"] = BASE64_STANDARD.encode(String::from_utf8(file).unwrap().replace('\n', "\r\n")).into();
    assert_eq!(id(&post(&devel, &windows).await), first);
    let list = devel.get(BUILDS).await.json();
    assert_eq!(list["builds"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn another_target_of_the_same_takes_the_image_before_and_after_its_end() {
    let kiln = gateway().await;
    let devel = kiln.client("devel");
    let (script, tags) = (script("sleep 2"), [tag(), tag(), tag()]);
    let targets = tags.each_ref().map(|tag| body(&script, &format!("devel:{tag}")));
    let first = post(&devel, &targets[0]).await;
    let second = post(&devel, &targets[1]).await;
    assert_eq!(second["follows"], first["id"], "{second:#}");
    // One of the follower's own target shares the follower.
    assert_eq!(post(&devel, &targets[1]).await["id"], second["id"]);
    let digest = assert_built(&devel, id(&first), &tags[0]).await;
    assert_eq!(assert_built(&devel, id(&second), &tags[1]).await, digest);
    assert_eq!(second["attempt"], 0);
    let third = devel.post(BUILDS, &targets[2]).await;
    assert_eq!((third.status.as_u16(), &third.json()["state"]), (200, &json!("succeeded")), "{}", third.text);
    assert_eq!(assert_built(&devel, id(&third.json()), &tags[2]).await, digest);
    assert!(!devel.log(id(&third.json())).await.iter().any(|(kind, _)| kind == "attempt"));
}

#[tokio::test]
async fn a_tag_that_another_build_has_moved_comes_back_to_what_is_asked_for() {
    let (kiln, tag) = (gateway().await, tag());
    let devel = kiln.client("devel");
    let [one, other] = [(); 2].map(|()| body(&script("true"), &format!("devel:{tag}")));
    let first = post(&devel, &one).await;
    let digest = assert_built(&devel, id(&first), &tag).await;
    let moved = post(&devel, &other).await;
    assert_ne!(assert_built(&devel, id(&moved), &tag).await, digest);
    let back = post(&devel, &one).await;
    assert_eq!((&back["state"], &back["follows"]), (&json!("succeeded"), &first["id"]), "{back:#}");
    assert_eq!(assert_built(&devel, id(&back), &tag).await, digest);
    // It is the last of its target, and so the answer.
    assert_eq!(post(&devel, &one).await["id"], back["id"]);
}

#[tokio::test]
async fn nobody_elses_build_is_shared_and_no_other_is_for_another_file_kind_or_size() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").user("other");
    let kiln = kiln.config("[sizes.classes.standard]\n[sizes.classes.large]\n").start().await;
    let (devel, script) = (kiln.client("devel"), script("true"));
    let wanted = body(&script, &format!("devel:{}", tag()));
    let mut others = vec![wanted.clone(), wanted.clone(), wanted.clone()];
    others[0]["file"] = BASE64_STANDARD.encode(format!("{script}true\n")).into();
    others[1]["size"] = "large".into();
    others[2]["kind"] = "nodejs".into();
    let mut seen: HashSet<String> = HashSet::from([id(&post(&devel, &wanted).await).to_owned()]);
    for other in &others {
        let build = post(&devel, other).await;
        assert!(seen.insert(id(&build).to_owned()) && build["follows"].is_null(), "{build:#}");
    }
    let theirs = post(&kiln.client("other"), &body(&script, &format!("other:{}", tag()))).await;
    assert!(seen.insert(id(&theirs).to_owned()) && theirs["follows"].is_null(), "{theirs:#}");
    assert_eq!(kiln.client("other").ended(id(&theirs)).await["state"], "succeeded");
}

#[tokio::test]
async fn who_asks_for_a_fresh_one_or_comes_too_late_has_every_step_run_again() {
    for (fresh, age) in [(true, "24h"), (false, "0s")] {
        let launch = Launch::on(Engine::Buildkitd).user("devel").set("KILN_LIMITS__IMAGE_AGE", age);
        let (kiln, tag) = (launch.start().await, tag());
        let devel = kiln.client("devel");
        let mut wanted = body(&script("date +%N"), &format!("devel:{tag}"));
        let first = post(&devel, &wanted).await;
        assert_built(&devel, id(&first), &tag).await;
        wanted["fresh"] = fresh.into();
        let second = post(&devel, &wanted).await;
        assert!(second["id"] != first["id"] && second["follows"].is_null(), "{second:#}");
        assert_built(&devel, id(&second), &tag).await;
        let ran =
            devel.log(id(&second)).await.iter().any(|(kind, text)| kind == "stdout" && text.contains("extend: done"));
        assert!(ran, "fresh {fresh}, {age}: nothing ran");
    }
}

#[tokio::test]
async fn an_image_that_is_gone_is_built_again() {
    let (kiln, tags) = (gateway().await, [tag(), tag()]);
    let devel = kiln.client("devel");
    let script = script("true");
    let wanted = body(&script, &format!("devel:{}", tags[0]));
    let first = post(&devel, &wanted).await;
    let digest = assert_built(&devel, id(&first), &tags[0]).await;
    registry::delete("devel", &digest).await;
    let again = post(&devel, &wanted).await;
    assert_ne!(again["id"], first["id"]);
    assert_built(&devel, id(&again), &tags[0]).await;
    assert_eq!(devel.build(id(&again)).await["attempt"], 1);
    // Another target takes the new one, not the one that is gone.
    let other = post(&devel, &body(&script, &format!("devel:{}", tags[1]))).await;
    assert_eq!(other["follows"], again["id"], "{other:#}");
    assert_built(&devel, id(&other), &tags[1]).await;
}

#[tokio::test]
async fn a_build_of_ones_own_key_is_ones_own_and_takes_the_image_too() {
    let (kiln, tag) = (gateway().await, tag());
    let devel = kiln.client("devel");
    let wanted = body(&script("sleep 2"), &format!("devel:{tag}"));
    let first = post(&devel, &wanted).await;
    let keyed = || devel.send(devel.request(Method::POST, BUILDS).json(&wanted).header("idempotency-key", "one"));
    let own = keyed().await.json();
    assert_eq!(own["follows"], first["id"], "{own:#}");
    assert_eq!(keyed().await.json()["id"], own["id"]);
    let digest = assert_built(&devel, id(&first), &tag).await;
    assert_eq!(assert_built(&devel, id(&own), &tag).await, digest);
    assert_eq!(keyed().await.json()["id"], own["id"]);
}

#[tokio::test]
async fn a_failure_by_what_was_asked_for_is_the_followers_too_and_nothing_later_is_answered_with_it() {
    let kiln = gateway().await;
    let (devel, script) = (kiln.client("devel"), script("sleep 2; exit 3"));
    let [one, other] = [tag(), tag()].map(|tag| body(&script, &format!("devel:{tag}")));
    let first = post(&devel, &one).await;
    let second = post(&devel, &other).await;
    assert_eq!(second["follows"], first["id"]);
    let [first, second] = [devel.ended(id(&first)).await, devel.ended(id(&second)).await];
    assert_eq!(first["failure"]["reason"], "StepFailed", "{first:#}");
    assert_eq!(
        (&second["state"], &second["failure"], &second["attempt"]),
        (&json!("failed"), &first["failure"], &json!(0))
    );
    let again = post(&devel, &one).await;
    assert!(again["id"] != first["id"] && again["follows"].is_null(), "{again:#}");
}

#[tokio::test]
async fn a_cancel_ends_one_build_and_those_that_waited_for_its_image_go_on() {
    let kiln = gateway().await;
    let (devel, script) = (kiln.client("devel"), script("sleep 2"));
    let tags = [tag(), tag(), tag()];
    let targets = tags.each_ref().map(|tag| body(&script, &format!("devel:{tag}")));
    let mut builds = Vec::new();
    for target in &targets {
        builds.push(id(&post(&devel, target).await).to_owned());
    }
    for cancelled in [&builds[1], &builds[0]] {
        let answer = devel.post(&format!("{BUILDS}/{cancelled}/cancel"), &Value::Null).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(devel.ended(cancelled).await["state"], "cancelled");
    }
    let last = devel.ended(&builds[2]).await;
    assert_eq!((&last["state"], &last["attempt"], &last["follows"]), (&json!("succeeded"), &json!(1), &Value::Null));
    // Who asks for what was cancelled isn't answered with that, but has its image now.
    let again = post(&devel, &targets[0]).await;
    assert!(again["id"] != *builds[0] && again["state"] == "succeeded", "{again:#}");
}
