//! Everything that can be done on the page, by somebody who has a keyboard alone, and by somebody without scripts.

use kiln_conformance_tests::registry;

use crate::{browser::Browser, create, launch, pushed, run, somebody};

const LASTS: &str = "echo 'a line'; sleep 120";

#[tokio::test]
async fn builds_are_opened_cancelled_and_built_again_and_one_signs_out_by_keys_alone() {
    let kiln = launch().start().await;
    let client = kiln.client("devel");
    let id = run(&client, "devel:keys", LASTS).await;
    let browser = Browser::signed_in(&kiln, "devel").await;
    // What is first is the way past the navigation.
    browser.open("/").await;
    browser.press("Tab").await;
    assert_eq!(browser.ask::<String>("document.activeElement.textContent").await, "Skip to content");
    browser.press("Enter").await;
    browser.until("document.activeElement.id == 'main'").await;
    browser.tab_to(&format!("#b-{id}")).await;
    browser.press("Enter").await;
    browser.until(&format!("location.pathname == '/builds/{id}' && document.readyState == 'complete'")).await;
    browser.tab_to("#cancel").await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('.state')?.textContent == 'cancelled' && !!document.getElementById('retry')")
        .await;
    assert_eq!(client.build(&id).await["state"], "cancelled");
    browser.tab_to("#retry").await;
    browser.press("Enter").await;
    browser.until(&format!("location.pathname != '/builds/{id}' && !!document.getElementById('cancel')")).await;
    let again: String = browser.ask("location.pathname.split('/')[2]").await;
    assert_ne!(again, id);
    browser.tab_to(".who button").await;
    browser.press("Enter").await;
    browser.until("location.pathname == '/sign-in'").await;
    browser.open("/").await;
    assert_eq!(browser.ask::<String>("location.pathname").await, "/sign-in");
    browser.close().await;
    client.post(&format!("/v1/builds/{again}/cancel"), &serde_json::Value::Null).await;
}

#[tokio::test]
async fn images_are_opened_and_deleted_by_keys_alone_and_other_tags_after_a_question_only() {
    let user = somebody();
    let app = format!("{user}/app");
    pushed(&app, "v1").await;
    pushed(&app, "v2").await;
    registry::tag(&app, "v1", "stable").await;
    let kiln = launch().user(&user).set("KILN_ENGINE__BUILDKIT", crate::NO_ENGINE).start().await;
    let browser = Browser::signed_in(&kiln, &user).await;
    let open = async |selector: &str, path: &str| {
        browser.tab_to(selector).await;
        browser.press("Enter").await;
        browser.until(&format!("location.pathname == '{path}' && document.readyState == 'complete'")).await;
    };
    let delete = async |tag: &str| {
        open(&format!("a[href='/images/{app}:{tag}']"), &format!("/images/{app}:{tag}")).await;
        browser.tab_to("#delete").await;
        browser.press("Enter").await;
        browser.tab_to("#confirm").await;
        browser.press("Enter").await;
    };
    open("nav a[href='/images']", "/images").await;
    open(&format!("a[href='/images/{app}']"), &format!("/images/{app}")).await;
    // The registry can't delete a tag by itself, so it is asked whether the other one may go.
    delete("v1").await;
    browser.until("!!document.getElementById('all')").await;
    assert_eq!(browser.axe().await, Vec::<String>::new());
    assert!(browser.ask::<bool>("document.querySelector('main').innerText.includes('stable')").await);
    assert!(registry::digest(&app, "v1").await.is_some(), "nothing goes unasked");
    open("#all", &format!("/images/{app}")).await;
    let left: String = browser.ask("[...document.querySelectorAll('.images a')].map(a => a.textContent).join()").await;
    assert_eq!(left, "v2");
    assert_eq!((registry::digest(&app, "v1").await, registry::digest(&app, "stable").await), (None, None));
    delete("v2").await;
    browser.until("location.pathname == '/images' && document.readyState == 'complete'").await;
    assert_eq!(registry::digest(&app, "v2").await, None);
    // The registry still names a repository that nothing is left in.
    open(&format!("a[href='/images/{app}']"), &format!("/images/{app}")).await;
    assert!(browser.ask::<bool>("document.body.innerText.includes('No tag is left here')").await);
    // The browser notes that an answer was 409: that is the question.
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|complaint| complaint.contains("409")), "{complaints:?}");
}

#[tokio::test]
async fn a_refused_token_is_told_beside_the_field() {
    let kiln = launch().set("KILN_ENGINE__BUILDKIT", crate::NO_ENGINE).start().await;
    let browser = Browser::of(&kiln).await;
    browser.open("/builds/x").await;
    browser.tab_to("#token").await;
    browser.write("nobody:knows").await;
    browser.press("Enter").await;
    browser.until("!!document.querySelector('[role=alert]')").await;
    assert!(browser.ask::<bool>("document.getElementById('token').getAttribute('aria-invalid') == 'true'").await);
    assert_eq!(browser.axe().await, Vec::<String>::new());
    // What was wanted is kept meanwhile.
    assert_eq!(browser.ask::<String>("document.querySelector('[name=to]').value").await, "/builds/x");
}

#[tokio::test]
async fn without_scripts_the_page_does_the_same_when_it_is_looked_at_anew() {
    let kiln = launch().set("KILN_ENGINE__BUILDKIT", crate::NO_ENGINE).start().await;
    let id = create(&kiln.client("devel"), "devel:t").await;
    let browser = Browser::signed_in(&kiln, "devel").await;
    browser.without_scripts().await;
    browser.open(&format!("/builds/{id}")).await;
    browser.tab_to("#cancel").await;
    browser.press("Enter").await;
    browser.until("document.querySelector('.state')?.textContent == 'cancelled'").await;
    assert!(
        browser.ask::<bool>("document.getElementById('following').hidden").await,
        "what only scripts do isn't shown"
    );
    browser.close().await;
}
