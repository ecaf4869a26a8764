//! How large a fleet is, and what has to be there before it starts: its accounts, and pages that are worth
//! reading slowly.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use pump_test::fleet::{Class, Plan, speaks_http2};
use pump_test::wire::Address;
use pump_test::{Account, TestCluster};

use super::say;

/// Requests of each class in a long run: none that fails among so many means that, with 95 %, no more than
/// three in a million do.
const EACH: u64 = 1_000_000;

/// Cheap ones mostly: the roll is what is tried, not the templates.
const PAGES: [&str; 8] = [
    "/healthz",
    "/users/printer",
    "/nodeinfo/2.0",
    "/healthz",
    "/",
    "/healthz",
    "/.well-known/webfinger?resource=acct:printer@social.example",
    "/users/printer/followers",
];

/// How large a fleet is.
pub(super) struct Size {
    clients: &'static [(Class, usize)],
    /// Only clients of the class of this name, ten times as many.
    pub(super) only: Option<String>,
    new_per_second: u32,
    /// The share of the time in which there are large uploads and very slow readers.
    pub(super) slow_share: f64,
    think: Duration,
    /// Of so many requests of a connection that is kept, one posts.
    post_every: u64,
    /// Requests that each class is to make.
    pub(super) each: Option<u64>,
    /// The pause between two notes for all streams.
    heralded_every: Duration,
    pub(super) streams: usize,
    listeners: usize,
    authors: usize,
}

impl Size {
    /// For `cargo xtask test`.
    pub(super) const SHORT: Self = Self {
        clients: &[
            (Class::New, 8),
            (Class::Keepalive, 400),
            (Class::Adversary, 100),
            (Class::Pipelined, 10),
            (Class::Http2, 6),
            (Class::Upload, 10),
            (Class::LargeUpload, 8),
            (Class::Reader, 20),
            (Class::LargeReader, 6),
            (Class::Waiter, 300),
            (Class::Unix, 10),
            (Class::Herald, 1),
        ],
        only: None,
        new_per_second: 700,
        slow_share: 0.4,
        think: Duration::from_secs(1),
        post_every: 4,
        each: None,
        heralded_every: Duration::from_millis(50),
        streams: 100,
        listeners: 8,
        authors: 4,
    };

    /// As other servers were measured: the times that are promised are of this one.
    pub(super) const USUAL: Self = Self {
        clients: &[
            (Class::New, 8),
            (Class::Keepalive, 32),
            (Class::Http2, 2),
            (Class::LargeUpload, 4),
            (Class::LargeReader, 4),
            (Class::Herald, 1),
        ],
        only: None,
        new_per_second: 600,
        slow_share: 1.0,
        think: Duration::from_secs(3),
        post_every: 4,
        each: None,
        heralded_every: Duration::from_millis(50),
        streams: 4,
        listeners: 2,
        authors: 2,
    };

    /// For a million requests of each class in less than an hour. What costs the processor much and is no
    /// request of a class comes seldom.
    pub(super) const LONG: Self = Self {
        clients: &[
            (Class::New, 16),
            (Class::Keepalive, 600),
            (Class::Adversary, 1000),
            (Class::Pipelined, 16),
            (Class::Http2, 16),
            (Class::Upload, 200),
            (Class::LargeUpload, 8),
            (Class::Reader, 240),
            (Class::LargeReader, 6),
            (Class::Waiter, 1000),
            (Class::Unix, 40),
            (Class::Herald, 1),
        ],
        only: None,
        new_per_second: 1000,
        slow_share: 0.05,
        think: Duration::from_secs(1),
        post_every: 8,
        each: Some(EACH),
        heralded_every: Duration::from_millis(500),
        streams: 1000,
        listeners: 40,
        authors: 32,
    };
}

/// Makes what a fleet of this size needs on a cluster: how its clients are to be, and what the server does
/// not know and so is not asked.
///
/// # Errors
/// When the cluster does not do as it is asked.
pub(super) fn plan(
    cluster: &TestCluster,
    size: &Size,
) -> anyhow::Result<(Plan, Vec<&'static str>)> {
    say("people", &format!("{} accounts", size.authors + size.listeners + 1));
    let api = cluster.api();
    let named = |prefix: &str, count: usize| -> Vec<Account> {
        (0..count).map(|number| cluster.account(&format!("{prefix}{number}"))).collect()
    };
    let authors = named("author", size.authors);
    let herald = cluster.account("herald");
    // Long notes, so that a page of them is large.
    for (name, length) in [("printer", 4800), ("scribe", 1900)] {
        let account = cluster.account(name);
        for number in 0..40 {
            let text = format!("Long note {number} of a patient {name}. ").repeat(120);
            api.post(&account, &text[..length.min(text.len())])?;
        }
    }
    let mut absent = Vec::new();
    let mut clients: BTreeMap<Class, usize> = size.clients.iter().copied().collect();
    if let Some(only) = &size.only {
        clients.retain(|class, _| class.to_string().starts_with(only));
        clients.values_mut().for_each(|count| *count *= 10);
    }
    if !speaks_http2(&cluster.address())? {
        clients.remove(&Class::Http2);
        absent.push("HTTP/2 with prior knowledge");
    }
    let health = api.call("GET", "/api/v1/streaming/health", &[], b"")?;
    let mut streams = size.streams;
    let mut listeners = Vec::new();
    if health.status == 200 && streams > 0 {
        listeners = named("listener", size.listeners);
        for listener in &listeners {
            api.follow(listener, "herald")?;
        }
    } else {
        streams = 0;
        clients.remove(&Class::Herald);
        if size.streams > 0 {
            absent.push("event streams");
        }
    }
    let unix = cluster.place().join("run/http.sock");
    ensure!(unix.exists(), "the unix socket is missing");
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let plan = Plan {
        address: cluster.address(),
        unix: Some(Address::Unix(unix)),
        host: api.host().to_owned(),
        clients,
        new_per_second: size.new_per_second,
        think: size.think,
        post_every: size.post_every,
        each: size.each,
        slow_for: Duration::ZERO,
        pages: PAGES.map(str::to_owned).to_vec(),
        page_to_sip: "/users/scribe/outbox?page=true".to_owned(),
        big_page: "/users/printer/outbox?page=true&limit=40".to_owned(),
        upload_bytes: 1024 * 1024,
        authors,
        streams,
        listeners,
        herald: Some((herald, size.heralded_every)),
        answer_within: Duration::from_secs(15),
        seed: seed as u64,
    };
    let big = api.call("GET", &plan.big_page, &[], b"").context("the large page")?;
    ensure!(big.status == 200, "the large page is answered with {}", big.status);
    Ok((plan, absent))
}
