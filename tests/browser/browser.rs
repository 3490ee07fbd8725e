//! One chromium of its own profile, with one chromedriver, for one test.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::daemon::free_port;

/// How long anything on a page may take: several of the script's rounds of five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether pages may run theirs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    On,
    Off,
}

pub struct Browser {
    client: Client,
    driver: Driver,
    _profile: tempfile::TempDir,
}

/// Ends with the test, whatever becomes of it.
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What the console said since it was last asked; chromedriver's own command.
#[derive(Debug)]
struct Console;

impl WebDriverCompatibleCommand for Console {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (axum::http::Method, Option<String>) {
        (axum::http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}

impl Browser {
    /// `None` where there is no browser on this machine, which only a gate does not accept.
    pub async fn start(scripts: Scripts) -> Option<Self> {
        let found = |name: &str| {
            std::env::var_os("PATH")
                .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
        };
        if !(found("chromium") && found("chromedriver")) {
            let says = "NOT TESTED in a browser: install Debian's packages chromium and chromium-driver";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{says}");
            println!("{says}");
            return None;
        }
        let port = free_port();
        let quiet = || Stdio::null();
        let driver = Command::new("chromedriver").arg(format!("--port={port}")).stdout(quiet()).stderr(quiet()).spawn();
        let driver = Driver(driver.expect("chromedriver starts"));
        let profile = tempfile::tempdir().expect("a temporary directory");
        let capabilities = capabilities(&profile.path().display().to_string(), scripts);
        let started = Instant::now();
        loop {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            match builder.capabilities(capabilities.clone()).connect(&format!("http://127.0.0.1:{port}")).await {
                Ok(client) => return Some(Self { client, driver, _profile: profile }),
                Err(error) => assert!(started.elapsed() < PATIENCE, "no browser: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn end(self) {
        self.client.close().await.expect("the browser closes");
        drop(self.driver);
    }

    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    pub async fn url(&self) -> String {
        self.client.current_url().await.expect("an address").to_string()
    }

    pub async fn set_width(&self, width: u32) {
        self.client.set_window_size(width, 900).await.expect("a window");
    }

    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}")).len()
    }

    pub async fn text(&self, css: &str) -> String {
        self.find(css).await.text().await.expect("a text")
    }

    /// What stands in a field.
    pub async fn text_of(&self, css: &str) -> String {
        self.find(css).await.prop("value").await.expect("a field").unwrap_or_default()
    }

    pub async fn click(&self, css: &str) {
        self.find(css).await.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    pub async fn write(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.expect("a field");
        field.send_keys(text).await.expect("a field");
    }

    pub async fn choose(&self, css: &str, label: &str) {
        self.find(css).await.select_by_label(label).await.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression of the page is true.
    pub async fn until(&self, what: &str, expression: &str) {
        let started = Instant::now();
        loop {
            // While a page is left for another there may be nobody to ask.
            let said = self.client.execute(&format!("return Boolean({expression})"), Vec::new()).await;
            if said.is_ok_and(|said| said == true) {
                return;
            }
            let source = if started.elapsed() > PATIENCE { Some(self.client.source().await) } else { None };
            assert!(source.is_none(), "{what} never came:\n{source:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a page with so many of something, without asking the page's scripts.
    pub async fn settle(&self, path: &str, css: &str, count: usize) {
        let started = Instant::now();
        loop {
            let found = self.client.find_all(Locator::Css(css)).await.map_or(0, |found| found.len());
            let at = self.client.current_url().await.expect("an address");
            if at.path() == path && found == count {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{at} has {found} of {css}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the browser complained about: violations of the policy, errors of scripts, files that were missing.
    pub async fn complaints(&self) -> Vec<String> {
        let said = self.client.issue_cmd(Console).await.expect("a console");
        let lines = said.as_array().expect("a list").iter();
        lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    async fn find(&self, css: &str) -> fantoccini::elements::Element {
        self.client.find(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"))
    }
}

fn capabilities(profile: &str, scripts: Scripts) -> Capabilities {
    let fixed = [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
    ];
    let mut arguments: Vec<String> = fixed.iter().map(|word| format!("--{word}")).collect();
    arguments.push(format!("--user-data-dir={profile}"));
    let javascript = if scripts == Scripts::On { 1 } else { 2 };
    let wanted = json!({
        "goog:chromeOptions": {
            "args": arguments, "prefs": { "profile.managed_default_content_settings.javascript": javascript }
        },
        "goog:loggingPrefs": { "browser": "ALL" }
    });
    wanted.as_object().expect("an object").clone()
}
