//! A real browser without a window, driven through its own driver.
//!
//! Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver fonts-dejavu-core`).

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use fantoccini::{Client, ClientBuilder, error::CmdError};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::driver::{OwnProtocol, start_driver};

/// How long a page may take to show its data; generous, since tests share a machine with whatever else runs on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs before any script of a page: keeps what goes wrong, refused by the content security policy included.
const WATCH: &str = r"
window.__errs = [];
addEventListener('error', e => __errs.push('error: ' + (e.message || e.target?.src || e.target?.href)), true);
addEventListener('unhandledrejection', e => __errs.push('rejection: ' + (e.reason?.stack || e.reason)));
addEventListener('securitypolicyviolation', e => __errs.push('csp: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));
for (const kind of ['error', 'warn']) {
  const plain = console[kind];
  console[kind] = (...a) => { __errs.push(kind + ': ' + a.map(String).join(' ')); plain.apply(console, a); };
}";

/// What the page is looked at with.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// With touch, and the layout of a phone.
    pub phone: bool,
    /// The system asks for dark pages.
    pub dark: bool,
}

impl Screen {
    /// A desktop's window.
    pub const DESKTOP: Screen = Screen {
        width: 1280,
        height: 900,
        phone: false,
        dark: false,
    };
    /// A small phone.
    pub const PHONE: Screen = Screen {
        width: 360,
        height: 740,
        phone: true,
        dark: false,
    };

    /// The same in the dark.
    pub const fn dark(self) -> Screen {
        Screen { dark: true, ..self }
    }
}

/// A browser of its own profile. Ends with the value.
#[derive(Debug)]
pub struct Browser {
    /// The session, for what has no method here.
    pub client: Client,
    driver: Child,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Panics
    /// If Chromium or its driver is missing or does not start; says what to install.
    pub async fn start() -> Browser {
        let (driver, port) = start_driver().await;
        let profile = tempfile::tempdir().expect("the system has a folder for temporary files");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let capabilities = options.as_object().expect("written as an object above").clone();
        // plain HTTP is all that a driver on this machine needs
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("the driver starts Chromium; install it: apt-get install chromium chromium-driver");
        let browser = Browser {
            client,
            driver,
            _profile: profile,
        };
        browser
            .command(
                "Page.addScriptToEvaluateOnNewDocument",
                json!({ "source": WATCH }),
            )
            .await;
        browser.resize(Screen::DESKTOP).await;
        browser
    }

    /// Looks through another screen from now on.
    pub async fn resize(&self, screen: Screen) {
        let Screen {
            width,
            height,
            phone,
            dark,
        } = screen;
        self.command(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": if phone { 2 } else { 1 }, "mobile": phone }),
        )
        .await;
        let scheme = if dark { "dark" } else { "light" };
        self.command(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        )
        .await;
    }

    /// Opens a page and waits until it shows its data.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the server answers");
        self.ready().await;
    }

    /// Waits until the page shows its data.
    pub async fn ready(&self) {
        self.until("document.body?.dataset.ready === '1'").await;
    }

    /// Waits until an expression holds.
    ///
    /// # Panics
    /// If it does not within two minutes; says what the page has complained of.
    pub async fn until(&self, expression: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            // a page that is just being left has no answer
            if let Ok(value) = self
                .client
                .execute(&format!("return Boolean({expression})"), vec![])
                .await
                && value == json!(true)
            {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                let text = self.js("document.body?.innerText?.slice(0, 600)").await;
                panic!(
                    "'{expression}' never held; the page complains {:?} and shows {text}",
                    self.complaints().await
                );
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }

    /// The value of an expression in the page.
    pub async fn js(&self, expression: &str) -> Value {
        self.client
            .execute(&format!("return {expression}"), vec![])
            .await
            .expect("the expression can be evaluated")
    }

    /// The value of an expression in the page, as text.
    pub async fn text(&self, expression: &str) -> String {
        match self.js(expression).await {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    /// Clicks what the selector finds, with a real pointer, once it has stopped moving.
    pub async fn click(&self, selector: &str) {
        loop {
            self.settle(selector).await;
            match self.find(selector).await.click().await {
                Ok(()) => return,
                // drawn anew between finding and clicking
                Err(error) if error.is_stale_element_reference() => {}
                Err(error) => panic!("'{selector}' cannot be clicked: {error}"),
            }
        }
    }

    /// Waits until something is where it was two frames ago: a pointer aimed at what moves meets something else.
    async fn settle(&self, selector: &str) {
        let wait = "const [selector, done] = arguments;
            let [last, same] = ['', 0];
            const look = () => {
                const box = document.querySelector(selector)?.getBoundingClientRect();
                const now = JSON.stringify(box);
                same = box && now === last ? same + 1 : 0;
                last = now;
                if (same >= 2 || !box) done(); else requestAnimationFrame(look);
            };
            look();";
        self.client
            .execute_async(wait, vec![json!(selector)])
            .await
            .expect("an element comes to rest");
    }

    /// Types into what the selector finds, over what stands there.
    pub async fn fill(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        element.clear().await.expect("an input can be emptied");
        element.send_keys(text).await.expect("an input takes keys");
    }

    /// Chooses the option of that value.
    pub async fn choose(&self, selector: &str, value: &str) {
        self.find(selector)
            .await
            .select_by_value(value)
            .await
            .expect("the option is there");
    }

    /// Sends keys to what the selector finds.
    pub async fn keys(&self, selector: &str, keys: &str) {
        self.find(selector)
            .await
            .send_keys(keys)
            .await
            .expect("what is found takes keys");
    }

    async fn find(&self, selector: &str) -> fantoccini::elements::Element {
        match self.client.find(fantoccini::Locator::Css(selector)).await {
            Ok(element) => element,
            Err(e) => panic!(
                "nothing is found by '{selector}': {e}; the page complains {:?}",
                self.complaints().await
            ),
        }
    }

    /// What has gone wrong in the page: errors, warnings, refusals of the content security policy.
    pub async fn complaints(&self) -> Vec<String> {
        match self.js("window.__errs ?? ['the page was not watched']").await {
            Value::Array(list) => list
                .iter()
                .map(|v| v.as_str().unwrap_or_default().to_owned())
                .collect(),
            other => vec![other.to_string()],
        }
    }

    /// What axe-core finds against WCAG 2.2 AA: rule, help and the elements.
    pub async fn axe(&self) -> Vec<String> {
        self.client
            .execute(&axe_source().await, vec![])
            .await
            .expect("axe-core can be loaded");
        let run = "const done = arguments[0];
            axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }).then(
                r => done(r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.target.join(' ') + ' ' + n.failureSummary).join(' | '))),
                e => done([String(e)]));";
        let found = self
            .client
            .execute_async(run, vec![])
            .await
            .expect("axe-core runs");
        serde_json::from_value(found).expect("a list of texts, as written above")
    }

    /// Whether the page is wider than its window.
    pub async fn overflows(&self) -> bool {
        self.js("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            .await
            == json!(true)
    }

    /// Writes a picture of the whole page to a file.
    pub async fn picture(&self, path: &Path) {
        let height = self.js("Math.ceil(document.documentElement.scrollHeight)").await;
        let width = self.js("document.documentElement.clientWidth").await;
        let shot = self
            .command(
                "Page.captureScreenshot",
                json!({ "captureBeyondViewport": true, "clip": { "x": 0, "y": 0, "width": width, "height": height, "scale": 1 } }),
            )
            .await;
        let data = shot["data"].as_str().expect("a picture comes as base64");
        let bytes = BASE64_STANDARD.decode(data).expect("a picture comes as base64");
        std::fs::write(path, bytes).expect("the folder of pictures can be written");
    }

    /// Sends a command of the browser's own protocol.
    pub async fn command(&self, command: &str, parameters: Value) -> Value {
        let command = OwnProtocol {
            body: json!({ "cmd": command, "params": parameters }).to_string(),
        };
        self.client
            .issue_cmd(command)
            .await
            .expect("the driver passes commands on")
    }

    /// Ends the browser in an orderly way.
    pub async fn close(mut self) -> Result<(), CmdError> {
        self.client.clone().close().await?;
        // an error means that it has ended already
        let _ = self.driver.start_kill();
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // the driver alone would leave its browser behind
        if let Some(id) = self.driver.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// axe-core as the lock file of the page's package names it.
async fn axe_source() -> String {
    let ui = crate::repository().join("web/ui");
    let file = ui.join("node_modules/axe-core/axe.min.js");
    if !file.exists() {
        let status = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&ui)
            .status()
            .await;
        assert!(
            status.is_ok_and(|s| s.success()),
            "axe-core is missing; run npm ci in web/ui"
        );
    }
    std::fs::read_to_string(&file).expect("npm has just installed it")
}
