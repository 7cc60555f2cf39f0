//! The streamed answer, as the SDKs read it: a line at a time, the last one deciding.

use kiln_conformance_tests::{Client, client::Answer, kiln::base, registry};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Archive, KEY, USER, archive, signed, unsigned};

/// The longest line, in bytes: a scanner of Go's takes twice as much.
const LONGEST: usize = 32 * 1024;

async fn stream(client: &Client, archive: &Archive) -> (Answer, Vec<Value>) {
    let signature = archive::sha256(archive.bytes(), KEY);
    let request = unsigned(client, archive).header("x-build-signature", signature);
    let answer = client.send(request.header("accept", "application/x-ndjson")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, "application/x-ndjson"),
        "{}",
        answer.text
    );
    assert!(answer.text.ends_with('\n') && answer.text.lines().all(|line| (1..=LONGEST).contains(&line.len())));
    let lines = answer.text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    (answer, lines)
}

#[tokio::test]
async fn a_build_is_followed_line_by_line_and_the_last_line_says_what_became_of_it() {
    let kiln = signed().start().await;
    let client = kiln.anonymous();
    let long = "head -c 100000 /dev/zero | tr '\\0' '<'; echo";
    for (step, status) in [(long.to_owned(), "success"), (format!("{long}; exit 3"), "failed")] {
        let archive = Archive::of(&format!("FROM {}\nRUN {step}\n", base("waiting")));
        let (answer, lines) = stream(&client, &archive).await;
        let (last, before) = lines.split_last().unwrap();
        assert!(before.iter().all(|line| line["status"] == "in_progress"), "{}", answer.text);
        assert_eq!(before[0].get("log"), None);
        assert_eq!((&last["status"], &last["image"]), (&json!(status), &json!(archive.image())), "{last}");
        let failed = last["error"].as_str().is_some_and(|error| error.contains("exit code 3"));
        assert_eq!(failed, status == "failed", "{last}");
        let printed: usize = before
            .iter()
            .flat_map(|line| line["log"].as_array())
            .flatten()
            .map(|text| text.as_str().unwrap().matches('<').count())
            .sum();
        assert!(printed >= 100_000, "{printed}");
        assert_eq!(registry::digest(&archive.repository, &archive.tag).await.is_some(), status == "success");
    }
}

/// What is sent of an answer until it has these words, or until its end.
async fn until(answer: &mut reqwest::Response, words: Option<&str>) -> String {
    let mut text = String::new();
    while !words.is_some_and(|words| text.contains(words)) {
        match answer.chunk().await.expect("no connection is cut") {
            Some(chunk) => text.push_str(&String::from_utf8_lossy(&chunk)),
            None if words.is_none() => return text,
            None => panic!("it ended without {words:?}: {text}"),
        }
    }
    text
}

#[tokio::test]
async fn a_cancel_and_a_stop_end_in_a_last_line_that_says_so() {
    for (stops, error) in [(false, "cancelled"), (true, "stopped")] {
        let kiln = signed().set("KILN_LIMITS__DRAIN", "1s").start().await;
        let client = kiln.anonymous();
        // The step's name has the quotes, its output hasn't.
        let step = format!("RUN echo be''gun {}; sleep 60", Uuid::new_v4());
        let archive = Archive::of(&format!("FROM {}\n{step}\n", base("waiting")));
        let signature = archive::sha256(archive.bytes(), KEY);
        let request = unsigned(&client, &archive).header("x-build-signature", signature);
        let mut answer = request.header("accept", "application/x-ndjson").send().await.unwrap();
        until(&mut answer, Some("begun")).await;
        let rest = if stops {
            let ((status, _), rest) = tokio::join!(kiln.stop(), until(&mut answer, None));
            assert_eq!(status, Some(0));
            rest
        } else {
            let users = kiln.client(USER);
            let id = users.get("/v1/builds").await.json()["builds"][0]["id"].as_str().unwrap().to_owned();
            users.post(&format!("/v1/builds/{id}/cancel"), &json!({})).await;
            until(&mut answer, None).await
        };
        let last: Value = serde_json::from_str(rest.lines().last().unwrap()).expect("an object");
        assert_eq!((&last["status"], &last["image"]), (&json!("failed"), &json!(archive.image())), "{rest}");
        assert!(last["error"].as_str().is_some_and(|text| text.contains(error)), "{last}");
    }
}
