//! Signing in and out, and what the cookie is.

use std::{fs, time::Duration};

use kiln_conformance_tests::registry;
use tokio::time::{sleep, timeout};

use crate::{
    create, idle, launch, pushed, somebody,
    visitor::{FROM_PAGE, Visitor},
};

#[tokio::test]
async fn who_isnt_signed_in_is_asked_to_and_goes_on_to_what_they_wanted() {
    let kiln = idle().await;
    let visitor = Visitor::of(&kiln);
    for (path, to) in [
        ("/", "/sign-in?to=%2F"),
        ("/?state=failed", "/sign-in?to=%2F%3Fstate%3Dfailed"),
        ("/builds/x", "/sign-in?to=%2Fbuilds%2Fx"),
    ] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, to), "{path}");
        let form = visitor.get(to).await;
        assert_eq!(form.status, 200);
        assert!(form.text.contains(&format!("<input type=\"hidden\" name=\"to\" value=\"{path}\">")), "{}", form.text);
        let answer = visitor.sign_in(kiln.token("devel"), path).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, path));
    }
    let answer = visitor.sign_in(kiln.token("devel"), "//evil.example/builds").await;
    assert_eq!(answer.header("location"), "/");
}

#[tokio::test]
async fn the_cookie_is_for_no_script_and_no_other_site_and_shows_no_token() {
    let kiln = idle().await;
    let visitor = Visitor::of(&kiln);
    let token = kiln.token("devel");
    let answer = visitor.sign_in(token, "/").await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("kiln=") && cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"));
    assert!(token.split(':').all(|half| !cookie.contains(half)));
    for headers in [[("origin", kiln.url.replace("http", "https"))], [("x-forwarded-proto", "https".to_owned())]] {
        let [(name, value)] = &headers;
        let fields = [("token", token), ("to", "/")];
        let answer = visitor.post("/sign-in", &fields, &[FROM_PAGE[0], (name, value)]).await;
        let cookie = answer.header("set-cookie");
        assert!(cookie.starts_with("__Host-kiln=") && cookie.ends_with("; Secure"), "{cookie}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_said_to_be_and_nothing_is_kept() {
    let kiln = idle().await;
    let visitor = Visitor::of(&kiln);
    let odd = "a\u{1}b";
    for (token, status, word) in [
        ("nobody:knows", 401, "That token was refused"),
        ("<script>alert(1)</script>", 401, "That token was refused"),
        ("", 401, "That token was refused"),
        (odd, 400, "That is no token"),
        ("ü", 401, "That token was refused"),
        (&"x".repeat(70_000), 400, "Enter a token"),
    ] {
        let answer = visitor.sign_in(token, "/").await;
        assert_eq!(answer.status, status, "{token:.20}: {}", answer.text);
        assert!(answer.text.contains(word), "{token:.20}: {}", answer.text);
        assert!(!answer.text.contains("<script>alert"), "{}", answer.text);
        assert_eq!(answer.header("set-cookie"), "");
    }
    let answer = visitor.post("/sign-in", &[], &FROM_PAGE).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn each_sees_their_own_builds_and_nobody_elses() {
    let kiln = idle().await;
    let id = create(&kiln.client("devel"), "devel/app:t").await;
    let (devel, other) = (Visitor::signed_in(&kiln, "devel").await, Visitor::signed_in(&kiln, "other").await);
    assert!(devel.get("/").await.text.contains("devel/app:t"));
    assert!(!other.get("/").await.text.contains("devel"));
    for path in [format!("/builds/{id}"), format!("/builds/{id}/log")] {
        assert_eq!(devel.get(&path).await.status, 200, "{path}");
        let answer = other.get(&path).await;
        let nothing = other.get("/builds/00000000-0000-7000-8000-000000000000").await;
        assert_eq!((answer.status.as_u16(), answer.text), (404, nothing.text), "{path}");
    }
    for action in ["cancel", "retry"] {
        let answer = other.post(&format!("/builds/{id}/{action}"), &[], &FROM_PAGE).await;
        assert_eq!(answer.status, 404, "{action}");
    }
    assert_eq!(kiln.client("devel").build(&id).await["state"], "queued");
}

#[tokio::test]
async fn each_sees_and_deletes_their_own_images_and_nobody_elses() {
    let (owner, stranger) = (somebody(), somebody());
    let kiln = launch().user(&owner).user(&stranger).set("KILN_ENGINE__BUILDKIT", crate::NO_ENGINE).start().await;
    let image = format!("{owner}/app:v1");
    pushed(&format!("{owner}/app"), "v1").await;
    let (own, other) = (Visitor::signed_in(&kiln, &owner).await, Visitor::signed_in(&kiln, &stranger).await);
    assert!(own.get("/images").await.text.contains(&format!("href=\"/images/{owner}/app\"")));
    assert!(!other.get("/images").await.text.contains(&owner));
    let nothing = other.get(&format!("/images/{stranger}/none:t")).await;
    for path in [format!("/images/{owner}/app"), format!("/images/{image}")] {
        assert_eq!(own.get(&path).await.status, 200, "{path}");
        let answer = other.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.text), (404, nothing.text.clone()), "{path}");
    }
    let answer = other.post(&format!("/images/{image}"), &[("all_tags", "true")], &FROM_PAGE).await;
    assert_eq!((answer.status.as_u16(), answer.text), (404, nothing.text.clone()));
    assert!(registry::digest(&format!("{owner}/app"), "v1").await.is_some());
    let answer = own.post(&format!("/images/{image}"), &[], &FROM_PAGE).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/images"));
    assert!(registry::digest(&format!("{owner}/app"), "v1").await.is_none());
}

#[tokio::test]
async fn who_signs_out_leaves_no_cookie_behind() {
    let kiln = idle().await;
    let devel = Visitor::signed_in(&kiln, "devel").await;
    let answer = devel.post("/sign-out", &[], &FROM_PAGE).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/sign-in"));
    let gone: Vec<_> = answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap()).collect();
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().all(|cookie| cookie.contains("Max-Age=0")), "{gone:?}");
}

#[tokio::test]
async fn a_session_outlives_the_gateway_and_ends_with_the_token() {
    let kiln = idle().await;
    let devel = Visitor::signed_in(&kiln, "devel").await;
    let (_, launch) = kiln.stop().await;
    let kiln = launch.start().await;
    let mut again = Visitor::of(&kiln);
    again.cookie = devel.cookie;
    assert_eq!(again.get("/").await.status, 200);
    fs::write(kiln.folder().join("users.toml"), "").unwrap();
    let revoked = async {
        while again.get("/").await.status != 303 {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(30), revoked).await.expect("a token that was taken away signs nobody in");
}

#[tokio::test]
async fn a_session_lasts_as_long_as_is_configured_and_the_page_can_be_off() {
    let nowhere = crate::NO_ENGINE;
    let kiln = launch().set("KILN_ENGINE__BUILDKIT", nowhere).set("KILN_PAGE__SESSION", "90s").start().await;
    let answer = Visitor::of(&kiln).sign_in(kiln.token("devel"), "/").await;
    assert!(answer.header("set-cookie").contains("; Max-Age=90;"), "{}", answer.header("set-cookie"));
    let kiln = launch().set("KILN_ENGINE__BUILDKIT", nowhere).set("KILN_PAGE__ENABLED", "false").start().await;
    for path in ["/", "/sign-in", "/builds/x", "/assets/page.css"] {
        assert_eq!(Visitor::of(&kiln).get(path).await.status, 404, "{path}");
    }
}
