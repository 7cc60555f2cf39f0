//! The client's verbs over builds that are there.

use serde_json::Value;

use crate::{create, idle};

#[tokio::test]
async fn builds_are_listed_cancelled_waited_for_and_tried_again() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:one").await;
    let other = create(&kiln.client("devel"), "devel:two").await;
    let (status, out, _) = kiln.run("devel", &["list"]).await;
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((status, lines.len()), (Some(0), 2), "{out}");
    assert_eq!((lines[0][0], lines[0][1], lines[1][0]), (other.as_str(), "queued", id.as_str()));
    assert!(lines[1][3].ends_with("/devel:one"), "{out}");

    assert_eq!(kiln.run("devel", &["cancel", &id]).await, (Some(0), "cancelled\n".to_owned(), String::new()));
    let (status, _, err) = kiln.run("devel", &["wait", &id]).await;
    assert_eq!((status, err.split(':').next()), (Some(1), Some("cancelled")), "{err}");
    let (status, out, _) = kiln.run("devel", &["list", "--state", "cancelled", "--json"]).await;
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, listed["id"].as_str()), (Some(0), Some(id.as_str())));
    assert_eq!(listed["failure"]["reason"], "CancelledByUser");

    let (status, out, _) = kiln.run("devel", &["retry", "--detach", &id]).await;
    assert_eq!(status, Some(0));
    let (status, said, _) = kiln.run("devel", &["status", "--json", out.trim()]).await;
    let again: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, again["image"].clone()), (Some(75), listed["image"].clone()));
    let (status, out, _) = kiln.run("devel", &["logs", "--json", &id]).await;
    let end: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((status, end["kind"].as_str()), (Some(0), Some("end")));
}

#[tokio::test]
async fn what_is_not_there_or_not_ones_own_is_said() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel:one").await;
    assert_eq!(kiln.run("other", &["list"]).await, (Some(0), String::new(), String::new()));
    for verb in ["wait", "cancel", "retry", "status", "logs"] {
        let (status, out, err) = kiln.run("other", &[verb, &id]).await;
        assert_eq!((status, out.as_str()), (Some(2), ""), "{verb}");
        assert!(err.contains("no such build"), "{verb}: {err}");
    }
    let (status, _, err) = kiln.run("devel", &["list", "--state", "done"]).await;
    assert_eq!(status, Some(2));
    assert!(err.contains("state: no \"done\""), "{err}");
    assert_eq!(kiln.run("devel", &["whoami"]).await, (Some(0), "devel\n".to_owned(), String::new()));
    let (status, ..) = kiln.run("devel", &["whoami", "--token", "a:b"]).await;
    assert_eq!(status, Some(77));
}
