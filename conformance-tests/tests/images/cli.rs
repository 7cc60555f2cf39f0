//! `kiln images`: what it prints, and its exit statuses.

use kiln_conformance_tests::registry;
use serde_json::{Value, json};

use crate::{gateway, proxy::Proxy, pushed, somebody};

#[tokio::test]
async fn images_are_listed_shown_copied_and_removed() {
    let (proxy, user) = (Proxy::start().await, somebody());
    let digest = pushed(&user, "a").await;
    let kiln = gateway(&proxy, &user).await;
    let (image, copy) = (format!("{user}:a"), format!("{user}/x:b"));
    let (status, out, err) = kiln.run(&user, &["images", "cp", &image, &copy]).await;
    assert_eq!((status, out), (Some(0), format!("{copy} {digest}\n")), "{err}");
    let listed = format!("{user}\n{user}/x\n");
    assert_eq!(kiln.run(&user, &["images", "ls"]).await, (Some(0), listed, String::new()));
    let (status, out, _) = kiln.run(&user, &["images", "ls", &user]).await;
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!((status, words[0], words[1]), (Some(0), "a", digest.as_str()), "{out}");
    assert_eq!(words[words.len() - 2..], ["2026-01-31T12:00:00", "linux/amd64"], "{out}");
    let (status, out, _) = kiln.run(&user, &["images", "get", "--json", &image]).await;
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &shown["digest"]), (Some(0), &json!(digest)));

    registry::tag(&user, "a", "twin").await;
    let (status, out, err) = kiln.run(&user, &["images", "rm", &image]).await;
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("also tagged twin"), "{err}");
    let (status, out, err) = kiln.run(&user, &["images", "rm", "--all-tags", &image]).await;
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
        let (status, out, err) = kiln.run(&user, &[&["images"], arguments].concat()).await;
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    let (status, ..) = kiln.run(&user, &["images", "ls", "--token", "a:b"]).await;
    assert_eq!(status, Some(77));
}
