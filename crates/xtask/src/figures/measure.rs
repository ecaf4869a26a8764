//! The measuring itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::Restart;
use pump_test::load::{Class, Load, Plan, Report};
use pump_test::process::{Memory, Process};
use pump_test::wire::Address;
use pump_test::{Account, Api, Setup, TestCluster};

/// Starts that are timed.
const STARTS: usize = 11;

/// How long a start may take at all.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How long clients are watched between two rolls.
const BETWEEN: Duration = Duration::from_secs(1);

/// How long clients are watched before the first roll.
const WARM_UP: Duration = Duration::from_secs(3);

/// When clients stop by themselves.
const AT_MOST: Duration = Duration::from_secs(3600);

/// A cluster that nobody asks anything.
pub(super) struct Still {
    pub(super) master: Memory,
    /// The larger one of the workers.
    pub(super) worker: Memory,
    pub(super) ready: Vec<Duration>,
}

impl Still {
    pub(super) fn measure(pumpd: &Path) -> anyhow::Result<Self> {
        let listen = vec!["127.0.0.1:0".to_owned(), "unix:http.sock".to_owned()];
        let setup = Setup { pumpd: Some(pumpd.to_owned()), listen, ..Setup::default() };
        let mut cluster = TestCluster::try_start(setup)?;
        // One request each is still idle, and no worker is measured before its first.
        for _ in 0..8 {
            cluster.api().call("GET", "/", &[], b"")?;
        }
        let master = cluster.master().memory()?;
        let workers = cluster.workers();
        let memory = workers.iter().map(Process::memory).collect::<Result<Vec<_>, _>>()?;
        let worker = memory.into_iter().max_by_key(|memory| memory.rss_kib);
        let worker = worker.context("no worker runs")?;
        cluster.end()?;

        let socket = Address::Unix(cluster.place().join("http.sock"));
        let api = Api::new(socket, "https://social.example");
        let config = cluster.config();
        let mut ready: Vec<Duration> =
            (0..STARTS).map(|_| start(pumpd, &config, &api)).collect::<Result<_, _>>()?;
        ready.sort();
        Ok(Self { master, worker, ready })
    }

    pub(super) fn ready_median(&self) -> Duration {
        self.ready[self.ready.len() / 2]
    }
}

/// Starts the daemon, waits for its first answer and ends it again.
fn start(pumpd: &Path, config: &Path, api: &Api) -> anyhow::Result<Duration> {
    let mut command = Command::new(pumpd);
    command.arg("master").arg("--config").arg(config);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let answered = loop {
        if api.call("GET", "/", &[], b"").is_ok_and(|answer| answer.status == 200) {
            break Ok(begun.elapsed());
        }
        if begun.elapsed() > STARTS_WITHIN || child.try_wait()?.is_some() {
            break Err(anyhow::anyhow!("no answer after {:?}", begun.elapsed()));
        }
        // The daemon needs the processor more than whoever times it.
        std::thread::park_timeout(Duration::from_millis(1));
    };
    end(&mut child)?;
    answered
}

fn end(child: &mut Child) -> anyhow::Result<()> {
    Process::of(child.id())?.signal(Signal::SIGTERM)?;
    child.wait()?;
    Ok(())
}

/// One roll.
pub(super) struct Roll {
    pub(super) took: Duration,
    pub(super) first_answer: Duration,
    /// The longest wait of a new connection within it.
    pub(super) worst: Duration,
    /// Of the master, after it.
    pub(super) descriptors: usize,
    pub(super) memory: Memory,
}

/// Several rolls under one load.
pub(super) struct Rolls {
    pub(super) each: Vec<Roll>,
    pub(super) report: Report,
    pub(super) acknowledged: usize,
    pub(super) problems: usize,
}

/// What is known of a roll before the clients have told what they saw.
struct Rolled {
    begins: Duration,
    ends: Duration,
    generation: u64,
    descriptors: usize,
    memory: Memory,
}

impl Rolls {
    pub(super) fn measure(old: &Path, new: &Path, rolls: usize) -> anyhow::Result<Self> {
        let setup = Setup { pumpd: Some(old.to_owned()), ..Setup::default() };
        let cluster = TestCluster::try_start(setup)?;
        let authors = vec![cluster.account("alice"), cluster.account("bob")];
        let mut load = Load::start(plan(&cluster.api(), authors)?);
        watch(&load, WARM_UP);
        let mut rolled = Vec::new();
        for number in 0..rolls {
            let onto = if number % 2 == 0 { new } else { old };
            let generation = cluster.status().generation;
            let begins = load.mark(format!("roll {} begins", number + 1));
            let ask = Restart { candidate: Some(onto.to_owned()), ..Restart::default() };
            let ended = cluster.control().restart(ask, |_| ())?;
            let ends = load.mark(format!("roll {} ends", number + 1));
            ensure!(ended.outcome.exit == ExitStatus::Done, "roll {number}: {:?}", ended.outcome);
            watch(&load, BETWEEN);
            let master = cluster.master();
            let (descriptors, memory) = (master.descriptors()?, master.memory()?);
            rolled.push(Rolled { begins, ends, generation, descriptors, memory });
        }
        let report = load.stop();
        let (mut acknowledged, mut problems) = (0, 0);
        for author in report.ledger().authors() {
            let outbox = cluster.api().outbox(author)?;
            let audit = report.ledger().check(Some(author), &outbox);
            acknowledged += audit.acknowledged;
            problems += audit.problems.len();
        }
        let each = rolled.iter().map(|rolled| seen(&report, rolled)).collect();
        Ok(Self { each, report, acknowledged, problems })
    }

    pub(super) fn median_roll(&self) -> Duration {
        median(self.each.iter().map(|roll| roll.took).collect())
    }

    pub(super) fn median_first(&self) -> Duration {
        median(self.each.iter().map(|roll| roll.first_answer).collect())
    }

    pub(super) fn worst(&self) -> Duration {
        self.each.iter().map(|roll| roll.worst).max().unwrap_or_default()
    }
}

fn seen(report: &Report, rolled: &Rolled) -> Roll {
    let first = report.first_above(rolled.generation, rolled.begins).unwrap_or(Duration::MAX);
    let within = rolled.begins..rolled.ends;
    Roll {
        took: rolled.ends - rolled.begins,
        first_answer: first - rolled.begins,
        worst: report.quantiles(Some(Class::New), within).unwrap_or_default().worst,
        descriptors: rolled.descriptors,
        memory: rolled.memory,
    }
}

fn plan(api: &Api, authors: Vec<Account>) -> anyhow::Result<Plan> {
    // Long notes, so that a page of them takes a slow reader some seconds.
    for number in 1..=20 {
        api.post(&authors[0], &format!("Long note {number} of a patient printer. ").repeat(100))?;
    }
    let mut plan = Plan::new(api.address().clone(), api.host());
    plan.lasts = AT_MOST;
    plan.pages = ["/", "/@alice", "/users/bob"].map(str::to_owned).to_vec();
    plan.big_page = "/users/alice/outbox?page=true".to_owned();
    plan.read_per_second = 40 * 1024;
    plan.authors = authors;
    Ok(plan)
}

fn watch(load: &Load, lasts: Duration) {
    let until = load.elapsed() + lasts;
    while load.elapsed() < until {
        std::thread::park_timeout(until.saturating_sub(load.elapsed()));
    }
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations.get(durations.len() / 2).copied().unwrap_or_default()
}
