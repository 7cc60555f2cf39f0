//! Somebody who follows a log over server-sent events.

use kiln_conformance_tests::Client;
use reqwest::Method;
use tokio::{task::JoinHandle, time::timeout};

use crate::PATIENCE;

/// A record as it came.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) kind: String,
}

/// A stream that is being read.
#[derive(Debug)]
pub(crate) struct Follower(JoinHandle<Vec<Record>>);

impl Follower {
    /// Follows a build's log behind the record `after`.
    pub(crate) async fn of(client: &Client, id: &str, after: u64) -> Self {
        let request = client.request(Method::GET, &format!("/v1/builds/{id}/log?follow=true"));
        let answer = request.header("last-event-id", after.to_string()).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
        // `text` fails unless the stream ends as HTTP says that one ends.
        Self(tokio::spawn(async move { records(&answer.text().await.expect("a clean end")) }))
    }

    /// What it read, once its stream has ended.
    pub(crate) async fn ended(self) -> Vec<Record> {
        timeout(PATIENCE, self.0).await.expect("the stream ends").expect("it ends cleanly")
    }
}

/// That nothing is missing and nothing came twice.
pub(crate) fn assert_whole(records: &[Record]) {
    let seqs: Vec<u64> = records.iter().map(|record| record.seq).collect();
    let whole: Vec<u64> = (1..).take(seqs.len()).collect();
    assert_eq!(seqs, whole, "{records:?}");
    assert_eq!(records.last().map(|record| record.kind.as_str()), Some("end"), "{records:?}");
    assert_eq!(records.iter().filter(|record| record.kind == "end").count(), 1, "{records:?}");
}

fn records(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    for event in text.split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(seq), Some(kind)) = (field("id: "), field("event: ")) {
            records.push(Record { seq: seq.parse().expect("a number"), kind: kind.to_owned() });
        }
    }
    records
}
