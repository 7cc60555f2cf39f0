//! `kiln images`: what it prints, and its exit statuses.

use std::process::Stdio;

use kiln_conformance_tests::{Kiln, kiln::program, registry};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

use crate::{PATIENCE, gateway, proxy::Proxy, pushed, somebody};

/// What a verb printed, and its exit status.
async fn run(kiln: &Kiln, user: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(program());
    command.arg("images").args(arguments).env("KILN_URL", &kiln.url).env("KILN_TOKEN", kiln.token(user));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn images_are_listed_shown_copied_and_removed() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "a").await;
    let kiln = gateway(&proxy, &user).await;
    let (image, copy) = (format!("{user}:a"), format!("{user}/x:b"));
    let (status, out, err) = run(&kiln, &user, &["cp", &image, &copy]).await;
    assert_eq!((status, out), (Some(0), format!("{copy} {digest}\n")), "{err}");
    let listed = format!("{user}\n{user}/x\n");
    assert_eq!(run(&kiln, &user, &["ls"]).await, (Some(0), listed, String::new()));
    let (status, out, _) = run(&kiln, &user, &["ls", &user]).await;
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!((status, words[0], words[1]), (Some(0), "a", digest.as_str()), "{out}");
    assert_eq!(words[words.len() - 2..], ["2026-01-31T12:00:00", "linux/amd64"], "{out}");
    let (status, out, _) = run(&kiln, &user, &["get", "--json", &image]).await;
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &shown["digest"]), (Some(0), &json!(digest)));

    registry::tag(&user, "a", "twin").await;
    let (status, out, err) = run(&kiln, &user, &["rm", &image]).await;
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("also tagged twin"), "{err}");
    let (status, out, err) = run(&kiln, &user, &["rm", "--all-tags", &image]).await;
    assert_eq!((status, out), (Some(0), format!("{user}:a {digest}\n{user}:twin {digest}\n")), "{err}");
    assert_eq!(registry::digest(&user, "a").await, None);
}

#[tokio::test]
async fn what_is_not_there_or_no_image_is_said() {
    let (proxy, user) = (Proxy::start().await, somebody());
    pushed(&user, "a").await;
    let kiln = gateway(&proxy, &user).await;
    for (arguments, said) in [
        (&["get", "other:a"][..], "no such image"),
        (&["rm", "other:a"], "no such image"),
        (&["get", &format!("{user}:b")], "no such image"),
        (&["get", &user], "name one image"),
        (&["rm", &user], "name one image"),
        (&["rm", "../builds"], "is no image"),
        (&["cp", &format!("{user}:a"), "other:a"], "no such image"),
    ] {
        let (status, out, err) = run(&kiln, &user, arguments).await;
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    let (status, ..) = run(&kiln, &user, &["ls", "--token", "a:b"]).await;
    assert_eq!(status, Some(77));
}
