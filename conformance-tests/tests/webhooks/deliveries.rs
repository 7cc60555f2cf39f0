//! Messages that come, sooner or later, and those that are given up.

use kiln_conformance_tests::kiln::base;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{sleep, timeout},
};

use crate::{
    BUILDS, LOOK_EVERY, PATIENCE, SECRET, body, cancel, create, launch, message,
    receiver::{Received, Receiver},
    webhook,
};

/// A key of the configuration.
const KEY: &str = "whsec_a2V5IG9mIHRoZSBvcGVyYXRvciwgMzIgYnl0ZXMuLi4=";

#[tokio::test]
async fn the_end_of_a_build_is_a_signed_event() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let mut receiver = Receiver::answering(&[]).await;
    let id = create(&devel, &body(&receiver.url)).await;
    cancel(&devel, &id).await;
    let received = receiver.next().await;
    received.verify(SECRET);
    assert_eq!(received.header("content-type"), "application/cloudevents+json; charset=utf-8");
    let event = received.json();
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("dev.kiln.build.cancelled")));
    assert_eq!(event["id"], received.header("webhook-id"));
    assert!(event["source"].as_str().unwrap().starts_with("urn:uuid:"), "{event}");
    assert_eq!(event["subject"], id.as_str());
    assert_eq!(event["data"], devel.build(&id).await);
    let told = message(&devel, &id, |m| m["state"] == "delivered").await;
    assert_eq!((&told["attempts"], &told["status"], &told["next"]), (&json!(1), &json!(204), &Value::Null));
    assert_eq!(told["id"], event["id"]);
    let view = webhook(&devel, &id).await;
    for secret in [SECRET, "of-the-path", "hook"] {
        assert!(!view.json()["receiver"].as_str().unwrap().contains(secret), "{}", view.text);
        assert!(!view.text.contains(SECRET), "{}", view.text);
    }
    assert_eq!(webhook(&kiln.client("other"), &id).await.status, 404);
    assert!(kiln.log().iter().all(|line| !line.to_string().contains("of-the-path")), "a path is in the log");
    assert!(kiln.log().iter().any(|line| line["fields"]["what"] == "webhook" && line["fields"]["outcome"] == "done"));
}

#[tokio::test]
async fn who_wants_to_know_more_is_told_of_each_state_once() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let mut receiver = Receiver::answering(&[]).await;
    let mut asked = body(&receiver.url);
    asked["webhook"]["events"] = json!(["cancelled", "queued", "queued"]);
    let id = create(&devel, &asked).await;
    let types = |received: &Received| (received.json()["type"].clone(), received.json()["data"]["state"].clone());
    assert_eq!(types(&receiver.next().await), (json!("dev.kiln.build.queued"), json!("queued")));
    cancel(&devel, &id).await;
    assert_eq!(types(&receiver.next().await), (json!("dev.kiln.build.cancelled"), json!("cancelled")));
    message(&devel, &id, |m| m["event"] == "cancelled" && m["state"] == "delivered").await;
    assert!(receiver.at_hand().is_none());
}

#[tokio::test]
async fn the_operators_keys_sign_where_a_caller_brings_none() {
    let launch = launch();
    let file = launch.folder().join("webhook-keys");
    std::fs::write(&file, format!("{KEY}\n{SECRET}\n")).unwrap();
    let kiln = launch.set("KILN_WEBHOOKS__SECRET_FILE", file.display().to_string()).start().await;
    let devel = kiln.client("devel");
    let mut receiver = Receiver::answering(&[]).await;
    let mut asked = body(&receiver.url);
    asked["webhook"]["secret"] = Value::Null;
    let id = create(&devel, &asked).await;
    // Read for every message.
    cancel(&devel, &id).await;
    let received = receiver.next().await;
    received.verify(KEY);
    received.verify(SECRET);
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_with_the_same_message() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let mut receiver = Receiver::answering(&[500, 404, 307]).await;
    let id = create(&devel, &body(&receiver.url)).await;
    cancel(&devel, &id).await;
    let first = receiver.next().await;
    for _ in 0..3 {
        let again = receiver.next().await;
        again.verify(SECRET);
        assert_eq!(again.header("webhook-id"), first.header("webhook-id"));
        assert_eq!(again.body, first.body);
    }
    let told = message(&devel, &id, |m| m["state"] == "delivered").await;
    assert_eq!(told["attempts"], 4);
    assert!(receiver.at_hand().is_none());
}

#[tokio::test]
async fn a_receiver_that_isnt_there_yet_is_tried_again() {
    let kiln = launch().set("KILN_WEBHOOKS__ATTEMPTS", "1000").start().await;
    let devel = kiln.client("devel");
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let id = create(&devel, &body(&format!("http://{address}/"))).await;
    cancel(&devel, &id).await;
    let told = message(&devel, &id, |m| m["attempts"].as_u64() >= Some(2)).await;
    assert_eq!((&told["state"], &told["error"]), (&json!("pending"), &json!("it can't be connected to")));
    let mut receiver = Receiver::on(TcpListener::bind(address).await.unwrap(), &[]);
    receiver.next().await.verify(SECRET);
    message(&devel, &id, |m| m["state"] == "delivered").await;
}

#[tokio::test]
async fn what_no_receiver_takes_is_given_up() {
    let kiln = launch().set("KILN_WEBHOOKS__ATTEMPTS", "2").start().await;
    let devel = kiln.client("devel");
    for (answers, attempts, status, error) in [
        (vec![500; 9], 2, json!(500), "it answered 500"),
        (vec![403; 9], 2, json!(403), "it answered 403"),
        (vec![410; 9], 1, json!(410), "it is gone, as it answered"),
    ] {
        let mut receiver = Receiver::answering(&answers).await;
        let id = create(&devel, &body(&receiver.url)).await;
        cancel(&devel, &id).await;
        let told = message(&devel, &id, |m| m["state"] == "given_up").await;
        let said = (&told["attempts"], &told["status"], told["error"].as_str());
        assert_eq!(said, (&json!(attempts), &status, Some(error)));
        for _ in 0..attempts {
            receiver.next().await;
        }
        assert!(receiver.at_hand().is_none(), "{error}");
    }
    let metrics = reqwest::get(format!("{}/metrics", kiln.admin)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("kiln_webhook_attempts_total{outcome=\"given_up\"} 3"), "{metrics}");
}

#[tokio::test]
async fn an_end_outlives_a_kill_and_is_told_under_the_same_id() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let id = create(&devel, &body(&format!("http://{}/", listener.local_addr().unwrap()))).await;
    cancel(&devel, &id).await;
    // The first attempt arrives, and isn't answered as long as this process lives.
    let (mut unanswered, _) = timeout(PATIENCE, listener.accept()).await.expect("it is tried").unwrap();
    let mut first = String::new();
    while !first.contains("\r\n\r\n") {
        let mut bytes = [0; 4096];
        let read = unanswered.read(&mut bytes).await.unwrap();
        first.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    let kiln = kiln.kill().await.start().await;
    let mut receiver = Receiver::on(listener, &[]);
    let again = receiver.next().await;
    again.verify(SECRET);
    let same = format!("webhook-id: {}\r\n", again.header("webhook-id"));
    assert!(again.header("webhook-id").contains(&id) && first.contains(&same), "{first}");
    message(&kiln.client("devel"), &id, |m| m["state"] == "delivered").await;
}

#[tokio::test]
async fn receivers_that_never_answer_hold_up_nobody_elses_messages() {
    let launch = launch().set("KILN_WEBHOOKS__TIMEOUT", "2s").set("KILN_WEBHOOKS__ATTEMPTS", "2");
    let launch = launch.set("KILN_WEBHOOKS__AT_ONCE", "4").set("KILN_WEBHOOKS__AT_ONCE_PER_OWNER", "3");
    let kiln = launch.start().await;
    let (devel, other) = (kiln.client("devel"), kiln.client("other"));
    // The system takes the connections, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let mut slow = Vec::new();
    for _ in 0..8 {
        let id = create(&devel, &body(&url)).await;
        cancel(&devel, &id).await;
        slow.push(id);
    }
    let mut receiver = Receiver::answering(&[]).await;
    let mut asked = body(&receiver.url);
    asked["target"] = json!("other:t");
    let begun = std::time::Instant::now();
    let id = create(&other, &asked).await;
    cancel(&other, &id).await;
    receiver.next().await.verify(SECRET);
    assert!(begun.elapsed() < std::time::Duration::from_secs(2), "it waited for the others: {:?}", begun.elapsed());
    let told = message(&devel, &slow[0], |m| m["state"] == "given_up").await;
    assert_eq!(told["error"], "it didn't answer in time");
}

#[tokio::test]
async fn a_receiver_that_trickles_its_answer_is_out_of_time() {
    let kiln = launch().set("KILN_WEBHOOKS__TIMEOUT", "500ms").set("KILN_WEBHOOKS__ATTEMPTS", "1").start().await;
    let devel = kiln.client("devel");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let trickle = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An answer before anything was asked would be none.
        stream.read_exact(&mut [0; 4]).await.unwrap();
        // A byte of the head now and then, until the other side has enough of it.
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    });
    let id = create(&devel, &body(&url)).await;
    cancel(&devel, &id).await;
    let told = message(&devel, &id, |m| m["state"] == "given_up").await;
    assert_eq!(told["error"], "it didn't answer in time");
    timeout(PATIENCE, trickle).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn who_wants_to_be_told_shares_no_build_that_tells_another() {
    let kiln = launch().start().await;
    let devel = kiln.client("devel");
    let mut receiver = Receiver::answering(&[]).await;
    let mut asked = body(&receiver.url);
    asked["source"] = base("waiting").into();
    let mut silent = asked.clone();
    silent.as_object_mut().unwrap().remove("webhook");
    let first = create(&devel, &silent).await;
    let shared = devel.post(BUILDS, &silent).await;
    assert_eq!((shared.status.as_u16(), &shared.json()["id"]), (200, &json!(first)), "{}", shared.text);
    let own = create(&devel, &asked).await;
    assert_ne!(own, first);
    cancel(&devel, &own).await;
    assert_eq!(receiver.next().await.json()["subject"], own.as_str());
}
