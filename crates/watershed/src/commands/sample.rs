//! `watershed sample`: ticks that are made up, printed a line each, or posted to a server.

use std::time::Duration;

use kernel::{Clock, Error, Result, SystemClock, codes};
use market::samples::{Mode, Samples};
use reqwest::{Client, Url};
use serde_json::Value;

use super::remote::key_to;
use crate::cli::{Sample, SampleMode};
use crate::config::Config;
use crate::{jwks, terminal};

const LINES_AT_ONCE: u64 = 1_000;
const PATH: &str = "/api/v1/market/ticks";
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn run(asked: Sample, config: Config) -> Result<()> {
    let mode = match asked.mode {
        SampleMode::Batch => Mode::Batch,
        SampleMode::Historical => Mode::Historical,
        SampleMode::HighVolume => Mode::HighVolume,
        SampleMode::Malformed => Mode::Malformed,
        SampleMode::Late => Mode::Late,
        SampleMode::Continuous => Mode::Continuous,
    };
    let clock = SystemClock::new();
    let mut samples = Samples::new(mode, asked.seed, asked.start.as_microsecond());
    let receiver = asked.post.as_deref().map(|address| Receiver::new(address, &config)).transpose()?;
    let mut left = asked.count.or_else(|| mode.count());
    let mut sum = Sum::default();
    while left != Some(0) {
        let most = if mode == Mode::Continuous {
            u64::from(asked.rate.div_ceil(10)).min(LINES_AT_ONCE)
        } else {
            LINES_AT_ONCE
        };
        let count = left.map_or(most, |left| left.min(most));
        let lines: Vec<String> = (0..count).map(|_| samples.message(clock.now().as_microsecond())).collect();
        match &receiver {
            Some(receiver) => receiver.post(lines.join("\n"), &mut sum).await?,
            // Whoever read has read enough.
            None if !terminal::say_lines(&lines) => return Ok(()),
            None => {}
        }
        left = left.map(|left| left - count);
        if mode == Mode::Continuous && left != Some(0) {
            tokio::time::sleep(Duration::from_secs_f64(count as f64 / f64::from(asked.rate))).await;
        }
    }
    if receiver.is_some() {
        terminal::say(format!(
            "{} stored, {} known already, {} refused",
            sum.stored, sum.duplicates, sum.refused
        ));
    }
    Ok(())
}

/// What a server made of what it was sent.
#[derive(Default)]
struct Sum {
    stored: u64,
    duplicates: u64,
    refused: u64,
}

/// A server that takes ticks.
struct Receiver {
    client: Client,
    url: Url,
    key: String,
}

impl Receiver {
    fn new(address: &str, config: &Config) -> Result<Self> {
        let wrong = |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field("--post");
        let url = Url::parse(address).and_then(|base| base.join(PATH));
        let url = url.map_err(|cause| {
            wrong(format!("`{address}` is no address such as http://localhost:8080: {cause}"))
        })?;
        let key = key_to(&format!("post to {address}"), config)?;
        Ok(Self { client: jwks::client(TIMEOUT)?, url, key })
    }

    async fn post(&self, lines: String, sum: &mut Sum) -> Result<()> {
        let request = self.client.post(self.url.clone()).header("x-api-key", &self.key);
        let request = request.header("content-type", "application/x-ndjson").body(lines);
        let away = |cause| {
            Error::new(codes::UNAVAILABLE, format!("{} does not answer", self.url)).with_source(cause)
        };
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let text = answer.text().await.map_err(away)?;
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        if !status.is_success() {
            let why =
                told["detail"].as_str().or_else(|| told["title"].as_str()).unwrap_or("without a reason");
            return Err(Error::new(
                codes::UNAVAILABLE,
                format!("{} answers {}: {why}", self.url, status.as_u16()),
            ));
        }
        let count = |name: &str| told[name].as_u64().unwrap_or(0);
        sum.stored += count("stored");
        sum.duplicates += count("duplicates");
        sum.refused += count("refused");
        Ok(())
    }
}
