//! `pump-load`: the load client by itself.
//!
//! Asks a server for pages for some seconds, and posts when it is given accounts, then tells what
//! each class of clients saw and holds the outboxes against what was acknowledged. Exits with 0 when
//! nothing failed and 1 otherwise. It is for a server of your own: it posts hundreds of notes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use pump_test::Api;
use pump_test::load::{Load, Mix, Plan};
use pump_test::wire::Address;

/// Ask a server for pages, and see each socket's fate.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where it listens: `IP:PORT` or `unix:PATH`.
    address: Address,
    /// Its public URL, the begin of every id.
    #[arg(long, default_value = "https://social.example")]
    public_url: String,
    /// An account that posts, as `NAME:PASSWORD`. May be given several times.
    #[arg(long, value_name = "NAME:PASSWORD")]
    account: Vec<String>,
    /// How long, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Most requests a second of the clients that connect anew for each.
    #[arg(long, default_value_t = 1400)]
    per_second: u32,
    /// A path to ask for. May be given several times.
    #[arg(long, default_value = "/")]
    page: Vec<String>,
    /// The path that slow readers ask for.
    #[arg(long, default_value = "/")]
    big_page: String,
    /// Clients with a new connection for each request.
    #[arg(long, default_value_t = Mix::USUAL.new)]
    new: usize,
    /// Clients with a long think time.
    #[arg(long, default_value_t = Mix::USUAL.keepalive)]
    keepalive: usize,
    /// Clients with a short think time.
    #[arg(long, default_value_t = Mix::USUAL.brisk)]
    brisk: usize,
    /// Clients that send slowly; only with accounts.
    #[arg(long, default_value_t = Mix::USUAL.slow_upload)]
    slow_upload: usize,
    /// Clients that read slowly.
    #[arg(long, default_value_t = Mix::USUAL.slow_reader)]
    slow_reader: usize,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]
fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok((text, good)) => {
            println!("{text}");
            if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<(String, bool)> {
    let api = Api::new(arguments.address.clone(), arguments.public_url);
    let mut plan = Plan::new(arguments.address, api.host());
    for account in &arguments.account {
        let (name, password) = account.split_once(':').context("an account is NAME:PASSWORD")?;
        plan.authors.push(api.sign_in(name, password)?);
    }
    plan.lasts = Duration::from_secs(arguments.seconds);
    plan.new_per_second = arguments.per_second;
    plan.pages = arguments.page;
    plan.big_page = arguments.big_page;
    plan.mix = Mix {
        new: arguments.new,
        keepalive: arguments.keepalive,
        brisk: arguments.brisk,
        slow_upload: arguments.slow_upload,
        slow_reader: arguments.slow_reader,
    };
    let report = Load::start(plan).finish();
    let mut text = format!("{report}\n{}", report.time_line_text());
    let mut wrong = report.failures();
    for author in report.ledger().authors() {
        let audit = report.ledger().check(Some(author), &api.outbox(author)?);
        text.push_str(&format!(
            "\n  notes of {author}: {} acknowledged, {} wrong",
            audit.acknowledged,
            audit.problems.len()
        ));
        wrong += audit.problems.len();
        for problem in audit.problems.iter().take(20) {
            text.push_str(&format!("\n    {problem}"));
        }
    }
    Ok((text, wrong == 0))
}
