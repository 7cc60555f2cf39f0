//! What changes by itself while somebody looks: the list, a build's state, its steps and its log.

use crate::{browser::Browser, create, launch, run};

/// Writes, waits until it is told to go on by nobody, and ends well: long enough to be looked at.
const SPEAKS: &str = "echo first; printf '\\033[32mgreen\\033[0m <b>bold</b>\\n'; sleep 3; echo last";

#[tokio::test]
async fn a_build_that_is_looked_at_shows_its_steps_its_log_and_its_end() {
    let kiln = launch().start().await;
    let client = kiln.client("devel");
    let browser = Browser::signed_in(&kiln, "devel").await;
    let id = run(&client, "devel:live", SPEAKS).await;
    browser.open(&format!("/builds/{id}")).await;
    browser.until("document.getElementById('log').textContent.includes('first')").await;
    browser.until("!!document.querySelector('#steps .running')").await;
    // A mark that a reload would take away.
    assert!(browser.ask::<bool>("window.mark = true").await);
    let shown: String = browser.ask("document.getElementById('log').textContent").await;
    assert!(shown.contains("green <b>bold</b>") && !shown.contains('\u{1b}'), "{shown}");
    browser.until("document.getElementById('now').textContent == 'succeeded'").await;
    browser.until("document.getElementById('log').textContent.includes('last')").await;
    browser.until("!document.querySelector('#steps .running')").await;
    assert!(browser.ask::<bool>("window.mark === true").await, "the page was loaded anew");
    assert!(browser.ask::<bool>("!!document.querySelector('[data-copy^=\"sha256:\"]')").await);
    assert!(browser.ask::<bool>("document.getElementById('following').hidden").await);
    // Whoever comes now sees the same.
    let live: String = browser.ask("document.getElementById('log').textContent.trim()").await;
    let steps: Vec<String> =
        browser.ask("[...document.querySelectorAll('#steps .name, #steps .mark')].map(e => e.textContent)").await;
    browser.open(&format!("/builds/{id}")).await;
    assert_eq!(browser.ask::<String>("document.getElementById('log').textContent.trim()").await, live);
    let anew: Vec<String> =
        browser.ask("[...document.querySelectorAll('#steps .name, #steps .mark')].map(e => e.textContent)").await;
    assert_eq!(anew, steps);
    browser.close().await;
}

#[tokio::test]
async fn the_list_shows_what_is_new_and_keeps_the_focus_where_it_is() {
    let kiln = launch().set("KILN_ENGINE__BUILDKIT", crate::NO_ENGINE).start().await;
    let client = kiln.client("devel");
    let first = create(&client, "devel:first").await;
    let browser = Browser::signed_in(&kiln, "devel").await;
    browser.open("/").await;
    browser.tab_to(&format!("#b-{first}")).await;
    let second = create(&client, "devel:second").await;
    client.post(&format!("/v1/builds/{first}/cancel"), &serde_json::Value::Null).await;
    browser.until(&format!("!!document.getElementById('b-{second}')")).await;
    browser.until("document.querySelectorAll('.state.cancelled').length == 1").await;
    assert_eq!(browser.ask::<String>("document.activeElement.id").await, format!("b-{first}"));
    browser.close().await;
}

#[tokio::test]
async fn who_reads_further_up_is_left_there_until_they_follow_again() {
    let kiln = launch().start().await;
    let script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; sleep 1";
    let id = run(&kiln.client("devel"), "devel:read", script).await;
    let browser = Browser::signed_in(&kiln, "devel").await;
    browser.open(&format!("/builds/{id}")).await;
    let at_end = "(({scrollTop, scrollHeight, clientHeight}) => scrollHeight - scrollTop - clientHeight < 40)(document.getElementById('log'))";
    browser.until("document.getElementById('log').scrollTop > 200").await;
    browser.until(at_end).await;
    // By the keyboard: the log is one of those that have the focus.
    browser.tab_to("#log").await;
    browser.press("Home").await;
    browser.until("document.getElementById('log').scrollTop == 0 && !document.getElementById('follow').checked").await;
    let lines = "document.getElementById('log').textContent.length";
    let before: u64 = browser.ask(lines).await;
    browser.until(&format!("{lines} > {before}")).await;
    assert!(browser.ask::<bool>("document.getElementById('log').scrollTop == 0").await);
    browser.press("End").await;
    browser.until("document.getElementById('follow').checked").await;
    browser.until("document.getElementById('now').textContent == 'succeeded'").await;
    browser.until(at_end).await;
    browser.close().await;
}
