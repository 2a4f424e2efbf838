//! The browser's driver: its process, and the command of its own that the protocol lacks.

use std::process::Stdio;

use fantoccini::wd::WebDriverCompatibleCommand;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Starts a driver on a port of its choice, in a process group of its own.
pub(crate) async fn start_driver() -> (Child, u16) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver is installed: apt-get install chromium chromium-driver fonts-dejavu-core");
    let output = driver.stdout.take().expect("piped above");
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await.expect("the driver's output can be read") {
        let said = line
            .rsplit_once("on port ")
            .map(|(_, rest)| rest.trim_end_matches('.'));
        if line.contains("successfully")
            && let Some(port) = said.and_then(|port| port.parse().ok())
        {
            // a driver whose output nobody reads would stop when the pipe is full
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (driver, port);
        }
    }
    panic!("chromedriver ended before it said its port; run it by hand to see why");
}

/// A command of the browser's own protocol.
#[derive(Debug)]
pub(crate) struct OwnProtocol {
    pub(crate) body: String,
}

impl WebDriverCompatibleCommand for OwnProtocol {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.clone()))
    }
}
