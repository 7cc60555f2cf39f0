//! The streamed answer, as the SDKs read it: a line at a time, the last one deciding.

use kiln_conformance_tests::{Client, client::Answer, kiln::base, registry};
use serde_json::{Value, json};

use crate::{Archive, KEY, archive, signed, unsigned};

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
