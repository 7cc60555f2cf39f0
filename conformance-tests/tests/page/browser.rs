//! A real browser, and a user who has no mouse: keys are pressed, and what is on the page is asked of the browser.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use chromiumoxide::{
    BrowserConfig, Page,
    cdp::{
        browser_protocol::{
            emulation::{MediaFeature, SetDeviceMetricsOverrideParams, SetScriptExecutionDisabledParams},
            input::{DispatchKeyEventParams, DispatchKeyEventType, InsertTextParams},
            log::EventEntryAdded,
            page::{CaptureScreenshotFormat, CreateIsolatedWorldParams},
        },
        js_protocol::runtime::{EvaluateParams, EventExceptionThrown},
    },
    keys::get_key_definition,
    page::ScreenshotParams,
};
use futures_util::StreamExt as _;
use kiln_conformance_tests::{Kiln, engine};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const DEBIANS: &str = "/usr/lib/chromium/chromium-headless-shell";
/// How often a page is looked at that changes by itself.
const LOOK_EVERY: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any page has that can be focused before what is looked for.
const TABS: usize = 60;

/// A browser with one page.
pub(crate) struct Browser {
    inner: chromiumoxide::Browser,
    page: Page,
    url: String,
    /// What the browser said against the page: violations of its policy, errors of its script.
    complaints: Arc<Mutex<Vec<String>>>,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) width: i64,
    pub(crate) height: i64,
    pub(crate) dark: bool,
}

impl Browser {
    pub(crate) async fn of(kiln: &Kiln) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // Debian's program itself: its script would be ended alone, with a test that fails.
        let program = std::env::var_os("KILN_TEST_CHROMIUM").unwrap_or_else(|| DEBIANS.into());
        assert!(Path::new(&program).is_file(), "a browser: run conformance-tests/browser/fetch");
        // Everybody's sandbox is the test machine's business; the pages are our own.
        let config = BrowserConfig::builder().chrome_executable(program).no_sandbox().user_data_dir(profile.path());
        let config = config.launch_timeout(PATIENCE).request_timeout(PATIENCE).viewport(None);
        let (inner, mut handler) = chromiumoxide::Browser::launch(config.build().unwrap()).await.expect("a browser");
        tokio::spawn(async move { while handler.next().await.is_some() {} });
        let page = inner.new_page("about:blank").await.unwrap();
        let complaints: Arc<Mutex<Vec<String>>> = Arc::default();
        page.enable_log().await.unwrap();
        page.enable_runtime().await.unwrap();
        let (mut entries, said) = (page.event_listener::<EventEntryAdded>().await.unwrap(), Arc::clone(&complaints));
        tokio::spawn(async move {
            while let Some(entry) = entries.next().await {
                said.lock().unwrap().push(format!("{:?}: {}", entry.entry.source, entry.entry.text));
            }
        });
        let (mut thrown, said) =
            (page.event_listener::<EventExceptionThrown>().await.unwrap(), Arc::clone(&complaints));
        tokio::spawn(async move {
            while let Some(thrown) = thrown.next().await {
                said.lock().unwrap().push(format!("{:?}", thrown.exception_details));
            }
        });
        let browser = Self { inner, page, url: kiln.url.clone(), complaints, _profile: profile };
        browser.look(Look { width: 1024, height: 768, dark: false }).await;
        browser
    }

    /// With somebody signed in, by the keyboard.
    pub(crate) async fn signed_in(kiln: &Kiln, user: &str) -> Self {
        let browser = Self::of(kiln).await;
        browser.open("/").await;
        browser.tab_to("#token").await;
        browser.write(kiln.token(user)).await;
        browser.press("Enter").await;
        browser.until("location.pathname == '/' && document.readyState == 'complete'").await;
        browser
    }

    pub(crate) async fn open(&self, path: &str) {
        self.page.goto(format!("{}{path}", self.url)).await.unwrap();
    }

    /// What an expression is on the page.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, expression: &str) -> T {
        self.try_ask(expression).await.unwrap_or_else(|| panic!("{expression} is of another kind"))
    }

    /// `None` while the page is on its way to another, too.
    async fn try_ask<T: DeserializeOwned>(&self, expression: &str) -> Option<T> {
        self.page.evaluate_expression(expression).await.ok()?.into_value().ok()
    }

    /// Until a condition holds on the page.
    pub(crate) async fn until(&self, condition: &str) {
        let holds = async {
            while self.try_ask::<bool>(condition).await != Some(true) {
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(PATIENCE, holds).await.is_err() {
            let text: Option<String> = self.try_ask("location.href + '\\n' + document.body.innerText").await;
            panic!(
                "{condition} didn't come to hold; the page is {}; {:?}",
                text.unwrap_or_default(),
                self.complaints()
            );
        }
    }

    pub(crate) async fn press(&self, key: &str) {
        let key = get_key_definition(key).expect("a key");
        let event = |kind| {
            let event = DispatchKeyEventParams::builder().r#type(kind).key(key.key).code(key.code);
            let event = event.windows_virtual_key_code(key.key_code).native_virtual_key_code(key.key_code);
            key.text.map_or(event.clone(), |text| event.text(text)).build().unwrap()
        };
        self.page.execute(event(DispatchKeyEventType::KeyDown)).await.unwrap();
        self.page.execute(event(DispatchKeyEventType::KeyUp)).await.unwrap();
    }

    pub(crate) async fn write(&self, text: &str) {
        self.page.execute(InsertTextParams::new(text)).await.unwrap();
    }

    /// Goes on by the tab key until what fits the selector has the focus.
    pub(crate) async fn tab_to(&self, selector: &str) {
        for _ in 0..TABS {
            if self.ask(&format!("document.activeElement.matches({selector:?})")).await {
                return;
            }
            self.press("Tab").await;
        }
        panic!("no key leads to {selector}");
    }

    pub(crate) async fn look(&self, look: Look) {
        let Look { width, height, dark } = look;
        let size = SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.page.execute(size).await.unwrap();
        let scheme = MediaFeature::new("prefers-color-scheme", if dark { "dark" } else { "light" });
        let calm = MediaFeature::new("prefers-reduced-motion", "reduce");
        self.page.emulate_media_features(vec![scheme, calm]).await.unwrap();
    }

    /// From the next page on, none runs scripts of its own.
    pub(crate) async fn without_scripts(&self) {
        self.page.execute(SetScriptExecutionDisabledParams::new(true)).await.unwrap();
    }

    /// What axe-core finds wrong with the page. It runs beside the page's own scripts, where their policy doesn't bind it.
    pub(crate) async fn axe(&self) -> Vec<String> {
        let axe = Path::new(&engine("KILN_DEV_BIN")).join("axe-core/axe.min.js");
        let axe = std::fs::read_to_string(axe).expect("axe-core: run conformance-tests/browser/fetch");
        let frame = self.page.mainframe().await.unwrap().unwrap();
        let world = self.page.execute(CreateIsolatedWorldParams::new(frame)).await.unwrap().result.execution_context_id;
        let run = "axe.run(document, { resultTypes: ['violations'] }).then((found) => found.violations.flatMap((rule) => \
            rule.nodes.map((node) => `${rule.id}: ${node.html} ${node.failureSummary}`)))";
        let evaluate = |expression: String| {
            let params = EvaluateParams::builder().expression(expression).context_id(world);
            self.page.execute(params.await_promise(true).return_by_value(true).build().unwrap())
        };
        evaluate(axe).await.unwrap();
        let found = evaluate(run.to_owned()).await.unwrap().result;
        let value: Value = found.result.value.unwrap_or_else(|| panic!("{:?}", found.exception_details));
        serde_json::from_value(value).unwrap()
    }

    pub(crate) async fn picture(&self, path: &Path, whole: bool) {
        let params = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).full_page(whole).build();
        self.page.save_screenshot(params, path).await.unwrap();
    }

    /// Until it says something against the page.
    pub(crate) async fn complains(&self) {
        let said = async {
            while self.complaints().is_empty() {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, said).await.expect("the browser says what it refuses");
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// Ends it; what it said against the page is a failure.
    pub(crate) async fn close(mut self) {
        let complaints = self.complaints();
        self.inner.close().await.unwrap();
        self.inner.wait().await.unwrap();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
