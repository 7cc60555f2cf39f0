//! Every page as it is seen: by day and by night, on a telephone and on a desk, with eyes and by a screen reader.

use std::path::{Path, PathBuf};

use kiln_conformance_tests::Kiln;

use crate::{
    browser::{Browser, Look},
    create, launch, run,
};

/// Widths of telephones, tablets and desks.
const WIDTHS: [i64; 4] = [320, 768, 1024, 1440];
const WEIGHT: u64 = 100_000;

/// A step that takes its time and says what it does.
const STEP: &str = "echo 'Collecting flask==3.1.2'; echo 'Collecting gunicorn==23.0.0'; sleep 1; \
    echo 'Installing collected packages: flask, gunicorn'; echo 'Successfully installed flask-3.1.2 gunicorn-23.0.0'";
const FAILS: &str = "echo 'Collecting flask==3.99'; \
    echo 'ERROR: No matching distribution found for flask==3.99' >&2; exit 1";
const LASTS: &str =
    "echo 'Collecting torch==2.9.0'; for n in 1 2 3 4 5 6 7 8; do echo \"  downloaded ${n}0 %\"; done; sleep 120";

/// A gateway whose user has a build of each kind, and the path of each.
async fn lively() -> (Kiln, Vec<(&'static str, String)>) {
    let kiln = launch().set("KILN_LIMITS__CONCURRENCY", "2").start().await;
    let client = kiln.client("devel");
    let succeeded = run(&client, "devel/shop-api:v2.4.1", STEP).await;
    client.ended(&succeeded).await;
    let failed = run(&client, "devel/shop-api:v2.5.0-rc.1", FAILS).await;
    client.ended(&failed).await;
    let running = run(&client, "devel/recommendations-training-pipeline:nightly-2026-11-26", LASTS).await;
    client.wait_for(&running, &["running"]).await;
    let queued = run(&client, "devel/thumbnails:v1", LASTS).await;
    let cancelled = create(&client, "devel/mail-worker:latest").await;
    let answer = client.post(&format!("/v1/builds/{cancelled}/cancel"), &serde_json::Value::Null).await;
    assert_eq!(answer.status, 202);
    let path = |id: &str| format!("/builds/{id}");
    let pages = vec![
        ("list", "/".to_owned()),
        ("none-of-these", "/?state=active&cursor=".to_owned()),
        ("succeeded", path(&succeeded)),
        ("failed", path(&failed)),
        ("running", path(&running)),
        ("queued", path(&queued)),
        ("cancelled", path(&cancelled)),
        ("images", "/images".to_owned()),
        ("repository", "/images/devel/shop-api".to_owned()),
        ("image", "/images/devel/shop-api:v2.4.1".to_owned()),
        ("missing", path("x")),
    ];
    (kiln, pages)
}

/// That the page as it is now is fine for everybody.
async fn assert_fine(browser: &Browser, what: &str) {
    for dark in [false, true] {
        for width in WIDTHS {
            browser.look(Look { width, height: 800, dark }).await;
            let widest: i64 = browser.ask("document.documentElement.scrollWidth").await;
            assert!(widest <= width, "{what} at {width}: {widest} wide");
        }
        for width in [WIDTHS[0], WIDTHS[3]] {
            browser.look(Look { width, height: 800, dark }).await;
            let wrong = browser.axe().await;
            assert!(wrong.is_empty(), "{what} at {width}, dark {dark}: {wrong:#?}");
        }
    }
    let weight: u64 = browser
        .ask(
            "performance.getEntries().filter((e) => e.entryType == 'navigation' || /^.assets/.test(new URL(e.name, location).pathname)) \
             .reduce((sum, entry) => sum + (entry.encodedBodySize ?? 0), 0)",
        )
        .await;
    assert!((1..=WEIGHT).contains(&weight), "{what}: {weight} bytes");
}

#[tokio::test]
async fn every_page_is_for_everybody_by_day_and_by_night_and_at_every_width() {
    let (kiln, pages) = lively().await;
    let browser = Browser::of(&kiln).await;
    browser.open("/").await;
    assert_fine(&browser, "sign-in").await;
    browser.close().await;
    let browser = Browser::signed_in(&kiln, "other").await;
    assert_fine(&browser, "empty").await;
    browser.close().await;
    let browser = Browser::signed_in(&kiln, "devel").await;
    for (what, path) in pages.iter().filter(|(what, _)| !["missing", "none-of-these"].contains(what)) {
        browser.open(path).await;
        assert_fine(&browser, what).await;
    }
    browser.close().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_page_is_found() {
    let kiln = launch().set("KILN_ENGINE__BUILDKIT", crate::NO_ENGINE).start().await;
    let browser = Browser::of(&kiln).await;
    browser.open("/").await;
    let spoil = "document.querySelector('label').remove(); document.querySelector('.hint').style.color = '#ccc'; true";
    assert!(browser.ask::<bool>(spoil).await);
    let wrong = browser.axe().await;
    for rule in ["label:", "color-contrast:"] {
        assert!(wrong.iter().any(|found| found.starts_with(rule)), "{rule} {wrong:#?}");
    }
    // Whatever comes from elsewhere, or stands in the page itself, is refused and told of.
    let inject = "document.body.append(Object.assign(document.createElement('style'), { textContent: 'a{}' })); true";
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser.ask::<bool>(inject).await;
    browser.complains().await;
}

/// The pictures of the documentation: `make pictures`.
#[tokio::test]
#[ignore = "makes files"]
async fn pictures_are_made() {
    let folder = PathBuf::from(kiln_conformance_tests::engine("KILN_TEST_PICTURES"));
    let (kiln, pages) = lively().await;
    let browser = Browser::of(&kiln).await;
    browser.open("/").await;
    pictures(&browser, &folder, "sign-in").await;
    browser.close().await;
    let browser = Browser::signed_in(&kiln, "other").await;
    pictures(&browser, &folder, "empty").await;
    browser.close().await;
    let browser = Browser::signed_in(&kiln, "devel").await;
    for (what, path) in &pages {
        browser.open(path).await;
        pictures(&browser, &folder, what).await;
    }
}

async fn pictures(browser: &Browser, folder: &Path, what: &str) {
    for (name, width, height) in [("wide", 1280, 900), ("narrow", 390, 844)] {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            browser.look(Look { width, height, dark }).await;
            browser.picture(&folder.join(format!("{what}-{name}-{scheme}.png")), true).await;
        }
    }
}
