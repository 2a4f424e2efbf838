//! The worker's side of the HTTP protocol.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use backon::{ExponentialBuilder, Retryable};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use spaces::protocol::{Finish, Heartbeat, HeartbeatAnswer, LeaseRequest, LeasedTrial, Release, Report};
use tokio::io::AsyncWriteExt;

use crate::errors::BadInput;

/// Between two signs of life while a file is downloaded.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Talks to one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The lease is no longer valid: the trial is another's, or wanted no more.
    #[error("the lease is no longer valid")]
    LeaseLost,
    /// The server is away or overloaded; trying again may help.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server refuses; trying again will not help.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// A client for a server.
    ///
    /// # Errors
    /// For an address that is none.
    pub(crate) fn new(server: &str, token: &str) -> anyhow::Result<Client> {
        let url = reqwest::Url::parse(server)
            .ok()
            .filter(|u| matches!(u.scheme(), "http" | "https"));
        if url.is_none() {
            return Err(BadInput::error(format!(
                "'{server}' is not a server's address; write for example http://host:8080"
            )));
        }
        // a second installation, as in tests, finds the first one and changes nothing
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Client {
            http,
            base: format!("{}/api/v1/worker", server.trim_end_matches('/')),
            token: token.to_owned(),
        })
    }

    /// Asks for a trial; waits for the server for as long as it takes.
    ///
    /// # Errors
    /// Where the server refuses this worker.
    pub(crate) async fn lease(&self, request: &LeaseRequest) -> anyhow::Result<Option<LeasedTrial>> {
        let send = || self.post("lease", request);
        match patiently(send).await {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => Ok(None),
            Ok(response) => Ok(Some(
                response
                    .json()
                    .await
                    .context("the server's answer cannot be read")?,
            )),
            Err(error) => Err(BadInput::error(error.to_string())),
        }
    }

    /// Says that the trial goes on. Not tried again: the next one comes soon.
    pub(crate) async fn heartbeat(
        &self,
        trial: i64,
        heartbeat: &Heartbeat,
    ) -> Result<HeartbeatAnswer, ClientError> {
        read(self.post(&format!("trials/{trial}/heartbeat"), heartbeat).await?).await
    }

    /// Sends values along the way. Not tried again: the caller keeps them.
    pub(crate) async fn report(&self, trial: i64, report: &Report) -> Result<HeartbeatAnswer, ClientError> {
        read(self.post(&format!("trials/{trial}/report"), report).await?).await
    }

    /// Uploads a file of the trial; tried until the server takes or refuses it.
    pub(crate) async fn upload(
        &self,
        trial: i64,
        lease: &str,
        name: &str,
        file: &Path,
    ) -> Result<(), ClientError> {
        let url = format!("{}/trials/{trial}/artifacts/{name}", self.base);
        let send = async || {
            let unreadable =
                |e: std::io::Error| ClientError::Refused(format!("'{}' cannot be read: {e}", file.display()));
            let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
            let length = opened.metadata().await.map_err(unreadable)?.len();
            let request = self
                .http
                .put(&url)
                .query(&[("lease", lease)])
                .header("content-length", length)
                .body(opened);
            self.send(request).await
        };
        patiently(send).await.map(drop)
    }

    /// Downloads a file of the trial; tried until the server gives or refuses it.
    ///
    /// A download may take longer than the lease: it is renewed on the way.
    pub(crate) async fn download(
        &self,
        trial: i64,
        lease: &str,
        name: &str,
        to: &Path,
    ) -> Result<(), ClientError> {
        let path = format!("trials/{trial}/artifacts/{name}");
        patiently(|| self.receive((trial, lease), &path, to))
            .await
            .map(drop)
    }

    /// Downloads a stage's result, should another worker have made it; tried once, because it can be made here as well.
    pub(crate) async fn download_stage(
        &self,
        claim: (i64, &str),
        key: &str,
        to: &Path,
    ) -> Result<bool, ClientError> {
        self.receive(claim, &format!("stages/{key}"), to).await
    }

    /// Writes what the server gives into a file; `false` where it answers that there is nothing.
    async fn receive(&self, (trial, lease): (i64, &str), path: &str, to: &Path) -> Result<bool, ClientError> {
        let unwritable =
            |e: std::io::Error| ClientError::Refused(format!("'{}' cannot be written: {e}", to.display()));
        if let Some(folder) = to.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(unwritable)?;
        }
        let heartbeat = Heartbeat {
            lease: lease.to_owned(),
            progress: None,
        };
        let mut response = self.send(self.http.get(format!("{}/{path}", self.base))).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(false);
        }
        let mut file = tokio::fs::File::create(to).await.map_err(unwritable)?;
        let mut last_beat = Instant::now();
        let broken = |e: reqwest::Error| ClientError::Unreachable(root_cause(&e));
        while let Some(bytes) = response.chunk().await.map_err(broken)? {
            file.write_all(&bytes).await.map_err(unwritable)?;
            if last_beat.elapsed() >= BEAT_EVERY {
                self.heartbeat(trial, &heartbeat).await?;
                last_beat = Instant::now();
            }
        }
        file.flush().await.map_err(unwritable)?;
        Ok(true)
    }

    /// Ends the trial; tried until the server takes or refuses it.
    pub(crate) async fn finish(&self, trial: i64, finish: &Finish) -> Result<(), ClientError> {
        let path = format!("trials/{trial}/finish");
        patiently(|| self.post(&path, finish)).await.map(drop)
    }

    /// Gives the trial back.
    pub(crate) async fn release(&self, trial: i64, lease: &str) -> Result<(), ClientError> {
        self.post(
            &format!("trials/{trial}/release"),
            &Release {
                lease: lease.to_owned(),
            },
        )
        .await
        .map(drop)
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<Response, ClientError> {
        self.send(self.http.post(format!("{}/{path}", self.base)).json(body))
            .await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |e: reqwest::Error| ClientError::Unreachable(root_cause(&e));
        let response = request
            .bearer_auth(&self.token)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let detail = response.json::<serde_json::Value>().await.ok();
        let detail = detail
            .as_ref()
            .and_then(|p| p.get("detail"))
            .and_then(|d| d.as_str());
        let detail = detail.map_or_else(|| format!("the server answers {status}"), str::to_owned);
        Err(match status {
            StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::GONE => ClientError::LeaseLost,
            s if s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS => {
                ClientError::Unreachable(detail)
            }
            _ => ClientError::Refused(detail),
        })
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    response
        .json()
        .await
        .map_err(|e| ClientError::Unreachable(root_cause(&e)))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Tries until the server answers, however long it is away.
async fn patiently<T, F>(send: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times();
    send.retry(waits)
        .when(|e| matches!(e, ClientError::Unreachable(_)))
        .notify(|error, wait| tracing::warn!(%error, wait_s = wait.as_secs_f64(), "trying again"))
        .await
}
