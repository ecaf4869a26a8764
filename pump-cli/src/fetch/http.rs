//! Files over HTTP.
//!
//! A request has a limit for connecting and for each silence; who asks has one for everything. What a
//! server or a line may get over is tried again, after a pause that differs from machine to machine,
//! or the one that the server asks for (`Retry-After`, RFC 9110, section 10.2.3). Proxies are taken
//! from `proxy` in `upgrade.toml`, else from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, authorities from the system, from `SSL_CERT_FILE`
//! and from `ca` in `upgrade.toml`.

use std::time::Duration;

use anyhow::Context as _;
use pump_control::ExitStatus;
use reqwest::header::{HeaderMap, HeaderName, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Certificate, Client, NoProxy, Proxy, Response, StatusCode, redirect};
use tough::{TransportError, TransportErrorKind};
use url::Url;

use crate::report::Failure;
use crate::source::Patience;

/// How often a request is made.
pub(super) const TRIES: u32 = 3;

/// The pause before the second try; twice as long before the third. Half of it is left to chance.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause that a server may ask for. Whoever asks for more is asked another time.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How many servers a request may be sent on to.
const REDIRECTS: usize = 5;

/// Largest file of authorities, in bytes.
const MAX_CA: u64 = 4 * 1024 * 1024;

/// Carries files from web servers.
#[derive(Clone, Debug)]
pub(super) struct Web {
    client: Client,
}

/// From where an answer is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct From {
    /// The first byte.
    pub(super) at: u64,
    /// What it has to be a part of, still (RFC 9110, section 13.1.5).
    pub(super) etag: Option<String>,
}

impl Web {
    pub(super) fn new(patience: &Patience) -> Result<Self, Failure> {
        let mut client = Client::builder()
            .user_agent(concat!("pump/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .read_timeout(patience.silent)
            .redirect(redirect::Policy::custom(led));
        if let Some(file) = &patience.ca {
            let read = || {
                let size = std::fs::metadata(file)?.len();
                anyhow::ensure!(size <= MAX_CA, "it has more than {MAX_CA} bytes");
                let found = Certificate::from_pem_bundle(&std::fs::read(file)?)?;
                anyhow::ensure!(!found.is_empty(), "it holds no certificate");
                Ok(found)
            };
            let found = read().map_err(|error: anyhow::Error| {
                let file = file.display();
                let text =
                    format!("could not read `{file}`, the `ca` of `upgrade.toml`: {error:#}");
                Failure::new(ExitStatus::Configuration, text)
                    .hint(format!("give the certificates of your authorities as PEM in `{file}`"))
            })?;
            client = client.tls_certs_merge(found);
        }
        if let Some(proxy) = &patience.proxy {
            let proxy = Proxy::all(proxy.clone()).context("could not use `proxy`")?;
            client = client.proxy(proxy.no_proxy(NoProxy::from_env()));
        }
        Ok(Self { client: client.build().context("could not set up HTTP")? })
    }

    /// A file, as far as `cap` and a little more.
    pub(super) async fn whole(&self, url: &Url, cap: usize) -> Result<Vec<u8>, TransportError> {
        let mut tries = 1;
        loop {
            let mut response = self.get(url, None).await?;
            let mut bytes = Vec::new();
            let failed = loop {
                match response.chunk().await {
                    Ok(Some(part)) => bytes.extend_from_slice(&part),
                    Ok(None) => return Ok(bytes),
                    Err(error) => break error,
                }
                if bytes.len() > cap {
                    return Ok(bytes);
                }
            };
            if tries == TRIES {
                return Err(other(url, failed));
            }
            pause(tries).await;
            tries += 1;
        }
    }

    /// The head of an answer that is one, after as many tries as it takes or are allowed.
    pub(super) async fn get(
        &self,
        url: &Url,
        from: Option<&From>,
    ) -> Result<Response, TransportError> {
        let mut tries = 1;
        loop {
            let mut request = self.client.get(url.clone());
            if let Some(From { at, etag }) = from {
                request = request.header(RANGE, format!("bytes={at}-"));
                if let Some(etag) = etag {
                    request = request.header(IF_RANGE, etag);
                }
            }
            let (failed, asked) = match request.send().await {
                // A loop of redirects does not end the next time either.
                Err(error) if error.is_redirect() => return Err(other(url, error)),
                Err(error) => (other(url, error), None),
                Ok(response) => match judge(&response) {
                    Verdict::Taken => return Ok(response),
                    Verdict::Missing => {
                        return Err(TransportError::new(TransportErrorKind::FileNotFound, url));
                    }
                    Verdict::Refused => return Err(other(url, said(&response, None))),
                    Verdict::Busy => {
                        let asked = retry_after(&response);
                        (other(url, said(&response, asked)), asked)
                    }
                },
            };
            match asked {
                _ if tries == TRIES => return Err(failed),
                Some(asked) if asked > MAX_PAUSE => return Err(failed),
                Some(asked) => tokio::time::sleep(asked).await,
                None => pause(tries).await,
            }
            tries += 1;
        }
    }
}

/// What an answer means.
enum Verdict {
    Taken,
    Missing,
    Busy,
    Refused,
}

fn judge(response: &Response) -> Verdict {
    match response.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            Verdict::Taken
        }
        // Who limits how often one may ask says 403, too, and then for how long.
        StatusCode::FORBIDDEN if response.headers().contains_key(RETRY_AFTER) => Verdict::Busy,
        // A bucket that may not be listed says 403 where a folder says 404.
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => Verdict::Missing,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Verdict::Busy,
        status if status.is_server_error() => Verdict::Busy,
        _ => Verdict::Refused,
    }
}

fn said(response: &Response, asked: Option<Duration>) -> String {
    let status = response.status();
    match asked {
        Some(asked) => format!("it says {status} and to come again in {} s", asked.as_secs()),
        None => format!("it says {status}"),
    }
}

/// A number of seconds. The form with a date is of no use to a clock that may be wrong.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = header(response.headers(), &RETRY_AFTER)?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(super) fn other<E>(url: &Url, error: E) -> TransportError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    TransportError::new_with_cause(TransportErrorKind::Other, url, error)
}

/// The pause after a try. Half of it is chance, so that those who failed together do not come together.
pub(super) async fn pause(tries: u32) {
    let whole = PAUSE * 2_u32.pow(tries.min(6) - 1);
    // The hasher of a map is seeded anew for each: chance enough to spread machines.
    let chance = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), tries);
    let part = f64::from(u32::try_from(chance % 1000).unwrap_or(0)) / 1000.0;
    tokio::time::sleep(whole.mul_f64(0.5 + part / 2.0)).await;
}

/// Where a server may lead: not from an encrypted address to one that anybody on the way can change.
fn led(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if encrypted && attempt.url().scheme() != "https" {
        return attempt.error("it leads from https:// to http://");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error(format!("it leads on more than {REDIRECTS} times"));
    }
    attempt.follow()
}
