//! Upgrades between real releases: what this project was at other times, and what it is today.
//!
//! A server that an old `pump` has installed is taken, under load, over each later release to that of today,
//! over each one back, and then from the oldest to the newest in one leap and back. Each step is made by the
//! `pump` that is current when it begins, as an administrator would. Nothing may be lost in any of them, and
//! the process that was started first is there at the end.
//!
//! A master of magic 1 knows no way to become another one: it stays what it was while its workers come and go,
//! until somebody stops and starts it. So the walk is made twice, from the oldest release and from the oldest one
//! whose master follows.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pump_test::Api;
use pump_test::load::{Load, Plan};
use serde_json::Value;
use tempfile::TempDir;

use crate::dist::Made;
use crate::past;

/// The magic number since which a master becomes the next one in place.
const FOLLOWS_SINCE: u32 = 2;

/// Requests between two steps.
const BETWEEN: u64 = 1500;

/// How long clients may take for them, and a server to come to rest.
const WITHIN: Duration = Duration::from_secs(180);

/// When clients stop by themselves.
const AT_MOST: Duration = Duration::from_secs(3600);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Of everybody who posts.
const PASSWORD: &str = "correct horse battery";

/// One step and what came of it.
struct Step {
    from: String,
    to: String,
    took: Duration,
    requests: u64,
    failures: u64,
    /// What the master is afterwards.
    master: String,
    /// Why it could not be made, if so.
    refused: Option<String>,
}

/// Goes through them. A table, and every reason that says no.
///
/// # Errors
/// When a release of the past cannot be built, or the first one does not serve.
pub(super) fn run() -> anyhow::Result<(String, Vec<String>)> {
    let releases = past::make(&crate::demo::target().join("past/source"))?;
    let follows = releases.iter().position(|it| it.info.magic >= FOLLOWS_SINCE);
    let mut starts = vec![0];
    starts.extend(follows.filter(|start| *start > 0 && start + 1 < releases.len()));
    let (mut tables, mut reasons) = (String::new(), Vec::new());
    for start in starts {
        let (table, found) = walk(&releases[start..])?;
        tables += &table;
        reasons.extend(found);
    }
    Ok((tables, reasons))
}

/// From the first of these releases to the last and back.
fn walk(releases: &[Made]) -> anyhow::Result<(String, Vec<String>)> {
    let place = Place::install(releases)?;
    let (oldest, newest) = (0, releases.len() - 1);
    let walk = (oldest + 1..=newest).chain((oldest..newest).rev()).chain([newest, oldest]);
    let authors = ["alice", "bob"]
        .map(|name| place.api.sign_in(name, PASSWORD))
        .into_iter()
        .collect::<Result<_, _>>()?;
    let begun = place.status()?;
    let mut plan = Plan::new(place.api.address().clone(), place.api.host());
    (plan.lasts, plan.authors, plan.new_per_second) = (AT_MOST, authors, 100);
    let mut load = Load::start(plan);
    let (mut steps, mut reasons, mut at) = (Vec::new(), Vec::new(), oldest);
    for to in walk {
        more(&load)?;
        let step = place.step(&mut load, &releases[at], &releases[to])?;
        if let Some(why) = &step.refused {
            reasons.push(format!("{} to {}: {why}", step.from, step.to));
            steps.push(step);
            break;
        }
        steps.push(step);
        at = to;
    }
    more(&load)?;
    let report = load.stop();
    for author in report.ledger().authors() {
        let audit = report.ledger().check(Some(author), &place.api.outbox(author)?);
        reasons.extend(
            audit.problems.iter().map(|problem| format!("a note of {author}: {problem:?}")),
        );
    }
    if report.failures() > 0 {
        reasons.push(format!(
            "{} requests failed: {:?}",
            report.failures(),
            report.failures_by_kind()
        ));
    }
    let ended = place.status()?;
    if begun["pid"] != ended["pid"] {
        reasons.push(format!("the master was process {} and is {}", begun["pid"], ended["pid"]));
    }
    Ok((table(&steps, report.requests()), reasons))
}

/// Waits until clients have made some more requests.
fn more(load: &Load) -> anyhow::Result<()> {
    let (wanted, until) = (load.requests() + BETWEEN, Instant::now() + WITHIN);
    while load.requests() < wanted {
        ensure!(Instant::now() < until, "the clients make no requests");
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

fn table(steps: &[Step], requests: usize) -> String {
    let mut text = String::from(
        "| from | to | the master then | seconds | requests meanwhile | failed |\n|---|---|---|--:|--:|--:|\n",
    );
    for step in steps {
        let failed = match &step.refused {
            None => step.failures.to_string(),
            Some(_) => "not made".to_owned(),
        };
        let (from, to, seconds) = (&step.from, &step.to, step.took.as_secs_f64());
        let (master, requests) = (&step.master, step.requests);
        let _ =
            writeln!(text, "| {from} | {to} | {master} | {seconds:.1} | {requests} | {failed} |");
    }
    let _ = writeln!(text, "\n{requests} requests in all.");
    text
}

/// A private place whose server is stopped at the end.
struct Place {
    folder: TempDir,
    source: PathBuf,
    trust_root: PathBuf,
    /// Whether the master becomes what its workers are.
    follows: bool,
    api: Api,
}

impl Place {
    /// Installed and started by the oldest `pump`.
    fn install(releases: &[Made]) -> anyhow::Result<Self> {
        let oldest = releases.first().context("there is a release")?;
        let folder = tempfile::Builder::new().prefix("pump-past-").tempdir()?;
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let public = format!("http://{listen}");
        let place = Self {
            source: oldest.source.clone(),
            trust_root: oldest.trust_root.clone(),
            follows: oldest.info.magic >= FOLLOWS_SINCE,
            api: Api::new(listen.parse().context("an address")?, public.clone()),
            folder,
        };
        fs::create_dir(place.root())?;
        // Its own `pump` installs it: unpacked by hand, as `install.sh` does.
        let unpacked = place.folder.path().join("unpacked");
        fs::create_dir(&unpacked)?;
        let tar =
            Command::new("tar").arg("-C").arg(&unpacked).arg("-xf").arg(&oldest.bundle).status()?;
        ensure!(tar.success(), "the oldest bundle cannot be unpacked");
        let mut install = place.command(&unpacked.join("bin/pump"));
        install.args(["install", "--yes", "--domain", "social.example", "--site-name", "Pump"]);
        install.args(["--public-url", &public, "--listen", &listen, "--auto-upgrade=no"]);
        install.arg("--source").arg(&place.source).arg("--trust-root").arg(&place.trust_root);
        succeed(install.arg("--from").arg(&oldest.bundle))?;
        for name in ["alice", "bob"] {
            let mut account = place.command(&place.pump());
            account.args(["account", "create", name, "--password-stdin"]).stdin(Stdio::piped());
            let mut child = account.spawn()?;
            writeln!(child.stdin.take().context("a piped stdin")?, "{PASSWORD}")?;
            let ended = child.wait_with_output()?;
            ensure!(ended.status.success(), "an account was not made: {}", said(&ended));
        }
        // One that runs already says so.
        succeed(place.command(&place.pump()).arg("start"))?;
        Ok(place)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The `pump` of the release that is current.
    fn pump(&self) -> PathBuf {
        self.root().join("opt/pump/current/bin/pump")
    }

    fn command(&self, pump: &Path) -> Command {
        let mut command = Command::new(pump);
        command.arg("--root").arg(self.root()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// One upgrade by the `pump` that is current.
    fn step(&self, load: &mut Load, from: &Made, to: &Made) -> anyhow::Result<Step> {
        let version = to.info.version.to_string();
        load.mark(format!("{} to {version}", from.info.version));
        let (requests, failures, began) = (load.requests(), load.failures(), Instant::now());
        let mut upgrade = self.command(&self.pump());
        upgrade.args(["upgrade", "--zero-downtime", "--yes", "--to", &version]);
        upgrade.arg("--source").arg(&self.source).arg("--trust-root").arg(&self.trust_root);
        let help = self.command(&self.pump()).args(["upgrade", "--help"]).output()?;
        if String::from_utf8_lossy(&help.stdout).contains("--bake") {
            upgrade.args(["--bake", "3"]);
        }
        let ran = upgrade.output()?;
        let refused = match ran.status.success() {
            true => self.all_are(to).err().map(|error| format!("{error:#}")),
            false => Some(said(&ran)),
        };
        Ok(Step {
            from: from.info.version.to_string(),
            to: version,
            took: began.elapsed(),
            requests: load.requests() - requests,
            failures: load.failures() - failures,
            master: self.status()?["master"]["version"].as_str().unwrap_or("?").to_owned(),
            refused,
        })
    }

    /// Waits until every worker is of a release, and the master where it follows, and nothing moves.
    fn all_are(&self, release: &Made) -> anyhow::Result<()> {
        let until = Instant::now() + WITHIN;
        let build = release.info.build.to_string();
        loop {
            let status = self.status()?;
            let workers = status["workers"].as_array().cloned().unwrap_or_default();
            let new = workers.iter().all(|it| it["build"]["build"] == build.as_str());
            let master = !self.follows || status["master"]["build"] == build.as_str();
            if new && master && status["roll"].is_null() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "not all of it is {}: {status}", release.info.name());
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn status(&self) -> anyhow::Result<Value> {
        let ran = self.command(&self.pump()).args(["status", "--json"]).output()?;
        let text = String::from_utf8_lossy(&ran.stdout);
        let line = text.lines().next().unwrap_or_default();
        serde_json::from_str(line).with_context(|| format!("`pump status`: {}", said(&ran)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Where it does not run this says so and changes nothing.
        let _ = self.command(&self.pump()).arg("stop").output();
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", said(&output));
    Ok(())
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    let lines: Vec<&str> = text.lines().rev().take(6).collect();
    format!("{}: {}", output.status, lines.into_iter().rev().collect::<Vec<_>>().join(" / "))
}
