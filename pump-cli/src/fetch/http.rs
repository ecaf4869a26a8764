//! Files over HTTP.
//!
//! A request has a limit for connecting and for each silence, and is tried again when it fails before
//! its answer has begun. How much is read is bounded by who asks.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_core::Stream;
use reqwest::{Client, Response, StatusCode, redirect};
use tokio::sync::mpsc;
use tough::{TransportError, TransportErrorKind, TransportStream};
use url::Url;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a server may be silent.
const SILENT_AT_MOST: Duration = Duration::from_secs(30);

/// How often a request is made.
const TRIES: u32 = 3;

/// The pause before the second try; twice as long before the third.
const PAUSE: Duration = Duration::from_millis(500);

/// How many servers a request may be sent on to.
const REDIRECTS: usize = 5;

/// Parts of an answer that wait to be read.
const WAITING_PARTS: usize = 8;

/// Carries files from web servers.
#[derive(Clone, Debug)]
pub(super) struct Web {
    client: Client,
}

impl Web {
    pub(super) fn new() -> anyhow::Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("pump/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENT_AT_MOST)
            .redirect(redirect::Policy::limited(REDIRECTS))
            .build()
            .context("could not set up HTTP")?;
        Ok(Self { client })
    }

    pub(super) async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let mut pause = PAUSE;
        let mut tries = 1;
        let response = loop {
            match self.ask(&url).await {
                Ok(response) => break response,
                Err(error)
                    if tries == TRIES || error.kind() == TransportErrorKind::FileNotFound =>
                {
                    return Err(error);
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
            }
        };
        Ok(Box::pin(Parts { received: receive(response, url) }))
    }

    async fn ask(&self, url: &Url) -> Result<Response, TransportError> {
        let failed = |error| TransportError::new_with_cause(TransportErrorKind::Other, url, error);
        let response = self.client.get(url.clone()).send().await.map_err(failed)?;
        match response.status() {
            // A bucket that may not be listed says 403 where a folder says 404.
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
                Err(TransportError::new(TransportErrorKind::FileNotFound, url))
            }
            _ => response.error_for_status().map_err(failed),
        }
    }
}

/// Reads an answer part by part. The task ends with the answer or when nobody listens any more.
fn receive(mut response: Response, url: Url) -> mpsc::Receiver<Result<Bytes, TransportError>> {
    let (sender, received) = mpsc::channel(WAITING_PARTS);
    tokio::spawn(async move {
        loop {
            let part = match response.chunk().await {
                Ok(Some(part)) => Ok(part),
                Ok(None) => return,
                Err(error) => {
                    Err(TransportError::new_with_cause(TransportErrorKind::Other, &url, error))
                }
            };
            let last = part.is_err();
            if sender.send(part).await.is_err() || last {
                return;
            }
        }
    });
    received
}

/// The parts of an answer. reqwest's own stream is not `Sync`, which tough asks for.
struct Parts {
    received: mpsc::Receiver<Result<Bytes, TransportError>>,
}

impl Stream for Parts {
    type Item = Result<Bytes, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.received.poll_recv(cx)
    }
}
