//! A model behind the completions API of `OpenAI`, which many servers speak: `POST {url}/v1/completions`.

use std::{error::Error, time::Duration};

use anyhow::{Context, anyhow};
use backon::{ExponentialBuilder, Retryable};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};

use super::{
    Ask,
    writer::{Teacher, Writer, Written},
};
use crate::errors::BadInput;

/// Where the key lies, so that it stands in no history of a shell and no list of processes.
const KEY: &str = "PARSIMONY_TEACHER_KEY";

/// Times that a server which is away or overloaded is asked again.
const RETRIES: usize = 6;

/// A server's model.
pub(super) struct Remote {
    http: reqwest::Client,
    url: String,
    model: String,
    key: Option<String>,
    ask: Ask,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    prompt: &'a str,
    max_tokens: u32,
    temperature: f64,
    seed: u64,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    text: String,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Why there is no answer.
enum Failure {
    /// Asking again may help.
    Away(String),
    /// Asking again does not.
    Refused(anyhow::Error),
}

impl Remote {
    /// The model of a server.
    ///
    /// # Errors
    /// For an address that is none.
    pub(super) fn new(url: &str, model: &str, ask: Ask) -> anyhow::Result<Remote> {
        let is_address =
            reqwest::Url::parse(url).is_ok_and(|address| matches!(address.scheme(), "http" | "https"));
        if !is_address {
            return Err(BadInput::error(format!(
                "--url '{url}' is not a server's address; write for example https://host"
            )));
        }
        // a second installation, as in tests, finds the first one and changes nothing
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(300))
            .build()
            .context("the HTTP client cannot be made")?;
        Ok(Remote {
            http,
            url: url.trim_end_matches('/').to_owned(),
            model: model.to_owned(),
            key: std::env::var(KEY).ok().filter(|key| !key.is_empty()),
            ask,
        })
    }

    async fn ask_once(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let away = |e: reqwest::Error| Failure::Away(root_cause(&e));
        let mut post = self
            .http
            .post(format!("{}/v1/completions", self.url))
            .json(request);
        if let Some(key) = &self.key {
            post = post.bearer_auth(key);
        }
        let response = post.send().await.map_err(away)?;
        let status = response.status();
        let body = response.text().await.map_err(away)?;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::Away(format!("it answers {status}: {}", said(&body))));
        }
        if !status.is_success() {
            let message = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
                    "'{}' answers {status}: {}; set {KEY} to a key that it accepts",
                    self.url,
                    said(&body)
                ),
                StatusCode::NOT_FOUND => format!(
                    "'{}' answers {status}: {}; check --url, to which /v1/completions is added, and --model '{}'",
                    self.url,
                    said(&body),
                    self.model
                ),
                _ => format!(
                    "'{}' refuses the request with {status}: {}",
                    self.url,
                    said(&body)
                ),
            };
            return Err(Failure::Refused(BadInput::error(message)));
        }
        serde_json::from_str(&body).map_err(|e| {
            Failure::Refused(anyhow!(
                "'{}' does not answer as the completions API does: {e}",
                self.url
            ))
        })
    }
}

impl Writer for Remote {
    fn teacher(&self) -> Teacher {
        Teacher::Server {
            url: self.url.clone(),
            model: self.model.clone(),
        }
    }

    async fn go_on(&self, prompt: &str, seed: u64) -> anyhow::Result<Written> {
        let request = Request {
            model: &self.model,
            prompt,
            max_tokens: self.ask.tokens,
            temperature: self.ask.temperature,
            seed,
        };
        let waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(30))
            .with_jitter()
            .with_max_times(RETRIES);
        let answer = (|| self.ask_once(&request))
            .retry(waits)
            .when(|failure| matches!(failure, Failure::Away(_)))
            .notify(|failure, wait| {
                if let Failure::Away(reason) = failure {
                    tracing::warn!(%reason, wait_s = wait.as_secs_f64(), "asking again");
                }
            })
            .await;
        let answer = answer.map_err(|failure| match failure {
            Failure::Away(reason) => {
                anyhow!("'{}' gave no answer in {} tries: {reason}", self.url, RETRIES + 1)
            }
            Failure::Refused(error) => error,
        })?;
        let text = answer.choices.into_iter().next().map(|choice| choice.text);
        let text = text.with_context(|| format!("'{}' answers with no choice", self.url))?;
        // a server that does not count leaves 0, which the note shows
        let usage = answer.usage.unwrap_or(Usage {
            prompt_tokens: 0,
            completion_tokens: 0,
        });
        Ok(Written {
            text,
            prompt_tokens: usage.prompt_tokens,
            tokens: usage.completion_tokens,
        })
    }
}

/// The message in an error's body, or its beginning.
fn said(body: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = json.as_ref().and_then(|json| json["error"]["message"].as_str());
    message.unwrap_or(body).chars().take(300).collect()
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
