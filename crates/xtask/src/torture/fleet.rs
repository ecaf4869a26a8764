//! The fleet against continuous rolls.

use std::time::{Duration, Instant};

use anyhow::ensure;
use pump_control::ExitStatus;
use pump_control::control::Restart;
use pump_test::TestCluster;
use pump_test::census::{self, Census, Tcp};
use pump_test::fleet::{Announced, Class, Clock, Fleet, Seen};
use pump_test::ledger::Ledger;
use pump_test::process::{Memory, Process};
use pump_test::wire::Address;

use super::size::{Size, plan};
use super::{Builds, cluster, say};

/// Workers of the cluster.
pub(super) const WORKERS: usize = 2;

/// How long before a roll it is announced to clients with ill will.
const AHEAD: Duration = Duration::from_millis(80);

/// Shortest and longest pause between two rolls.
const BETWEEN: (u64, u64) = (150, 700);

/// How long clients are watched before the first roll and after the last.
const MARGIN: Duration = Duration::from_secs(2);

/// How long old workers may take to go after a roll before it is called a pile.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// One roll, as it was seen from outside.
pub(super) struct Roll {
    /// From the request to the end that was told.
    pub(super) took: Duration,
    /// From the request to the first answer of the new build.
    pub(super) first: Option<Duration>,
    /// From the end to the end of the last old process.
    pub(super) gone: Option<Duration>,
    /// When it was asked for, and how long after that old workers were asked to leave.
    at: Instant,
    leaving: Vec<Duration>,
    /// Of the master, afterwards.
    pub(super) descriptors: usize,
    pub(super) memory: Memory,
}

/// Requests of ill will, by how near to the moment of a leave they were sent.
#[derive(Default)]
pub(super) struct Aimed {
    pub(super) sent: u64,
    pub(super) within_1: u64,
    pub(super) within_5: u64,
    pub(super) within_50: u64,
}

/// All that was seen.
pub(super) struct Outcome {
    pub(super) lasted: Duration,
    pub(super) seen: Seen,
    pub(super) rolls: Vec<Roll>,
    pub(super) census: Census,
    pub(super) tcp: Tcp,
    /// Whether what the kernel counted is of this server alone.
    pub(super) counted_alone: bool,
    pub(super) aimed: Aimed,
    pub(super) acknowledged: usize,
    pub(super) unseen: usize,
    /// What the ledger found, each as a sentence.
    pub(super) problems: Vec<String>,
    /// Notes of the herald that were acknowledged.
    pub(super) proclaimed: u64,
    /// What the server does not know and so was not asked.
    pub(super) absent: Vec<&'static str>,
    /// Requests that each class was to make.
    pub(super) each: Option<u64>,
}

impl Outcome {
    /// Classes that were to make more requests than they could in the time.
    pub(super) fn short(&self) -> impl Iterator<Item = (Class, u64, u64)> {
        let brisk = self.seen.tallies.iter().filter(|(class, _)| class.is_brisk());
        brisk.filter_map(|(class, tally)| {
            let each = self.each.filter(|each| tally.requests < *each)?;
            Some((*class, tally.requests, each))
        })
    }
}

/// Rolls until the time is over.
pub(super) fn run(
    builds: &Builds,
    size: &Size,
    lasts: Duration,
    rolls: Option<u64>,
) -> anyhow::Result<Outcome> {
    let cluster = cluster(builds, WORKERS as u32)?;
    let Address::Tcp(address) = cluster.address() else { anyhow::bail!("no TCP address") };
    let (mut plan, absent) = plan(&cluster, size)?;
    plan.slow_for = lasts.mul_f64(size.slow_share);
    let clients: usize = plan.clients.values().sum();
    let asking: Vec<Class> = plan.clients.keys().copied().collect();
    let goal = Goal {
        until: Instant::now() + lasts,
        rolls: rolls.unwrap_or(u64::MAX),
        asking,
        each: size.each,
    };
    say(
        "fleet",
        &format!("{clients} clients and {} streams, at most {} s", plan.streams, lasts.as_secs()),
    );
    let before = Tcp::now()?;
    let network = builds.network.clone();
    let fleet = Fleet::start_in(plan, move || network.enter_as_client());
    let begun = Instant::now();
    pause(MARGIN);
    let watching = census::Watching::start(cluster.master().pid, address.port());
    let rolls = roll(&cluster, builds, &fleet, &goal)?;
    pause(MARGIN);
    let census = watching.stop();
    // Before clients close: a server that still writes to one is told so by a reset of our own.
    let tcp = Tcp::now()?.since(before);
    let seen = fleet.stop();
    let lasted = begun.elapsed();
    say("ledger", &format!("{} notes are looked for", seen.posts.len()));
    let ledger = Ledger::new(&seen.posts);
    let (mut acknowledged, mut unseen, mut problems) = (0, 0, Vec::new());
    for author in ledger.authors() {
        let audit = ledger.check(Some(author), &cluster.api().outbox(author)?);
        acknowledged += audit.acknowledged;
        unseen += audit.unseen;
        problems.extend(audit.problems.iter().map(ToString::to_string));
    }
    let of_herald = seen.posts.iter().filter(|post| post.author == "herald");
    let proclaimed = of_herald.filter(|post| post.acknowledged.is_some()).count() as u64;
    let aimed = aimed(&seen, &rolls);
    Ok(Outcome {
        lasted,
        seen,
        rolls,
        census,
        tcp,
        counted_alone: builds.network.missing.is_none(),
        aimed,
        acknowledged,
        unseen,
        problems,
        proclaimed,
        absent,
        each: size.each,
    })
}

/// When there were enough rolls.
struct Goal {
    until: Instant,
    rolls: u64,
    asking: Vec<Class>,
    each: Option<u64>,
}

impl Goal {
    fn is_reached(&self, fleet: &Fleet) -> bool {
        let mut brisk = self.asking.iter().filter(|class| class.is_brisk());
        Instant::now() + MARGIN > self.until
            || self.each.is_some_and(|each| brisk.all(|class| fleet.requests(*class) >= each))
    }

    /// For whoever waits: what is far from its end.
    fn told(&self, fleet: &Fleet) -> String {
        let brisk = self.asking.iter().filter(|class| class.is_brisk());
        let least = brisk.min_by_key(|class| fleet.requests(**class));
        least.map_or_else(String::new, |class| {
            format!(", {class} the fewest with {}", fleet.requests(*class))
        })
    }
}

/// Two builds in turn.
fn roll(
    cluster: &TestCluster,
    builds: &Builds,
    fleet: &Fleet,
    goal: &Goal,
) -> anyhow::Result<Vec<Roll>> {
    let clock = fleet.clock();
    let mut rolls: Vec<Roll> = Vec::new();
    let mut told = Instant::now();
    for number in 1..=goal.rolls {
        if goal.is_reached(fleet) {
            break;
        }
        ensure!(!fleet.is_over(), "the fleet ended early");
        let candidate = if number % 2 == 1 { &builds.new } else { &builds.old };
        let leaving = rolls.last().map(|roll| roll.leaving.clone()).unwrap_or_default();
        let at = Instant::now() + AHEAD;
        clock.announce(Announced { roll: number, at, leaving });
        pause(AHEAD);
        rolls.push(one(cluster, candidate, clock, Instant::now())?);
        // Every time another one, and never in step with anything.
        pause(Duration::from_millis(BETWEEN.0 + number * 37 % (BETWEEN.1 - BETWEEN.0)));
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            let requests: u64 = Class::ALL.iter().map(|class| fleet.requests(*class)).sum();
            let failures = fleet.failures();
            let least = goal.told(fleet);
            say("", &format!("{number} rolls, {requests} requests, {failures} failed{least}"));
        }
    }
    Ok(rolls)
}

fn one(
    cluster: &TestCluster,
    candidate: &std::path::Path,
    clock: &Clock,
    at: Instant,
) -> anyhow::Result<Roll> {
    let generation = clock.newest();
    let ask =
        Restart { candidate: Some(candidate.to_owned()), canary: Some(0), ..Restart::default() };
    let mut leaving = Vec::new();
    clock.begins();
    let rolled = cluster.control().restart(ask, |step| {
        // When a worker is ready an old one is asked to leave in the same turn.
        if step.ends_with("is ready") {
            leaving.push(at.elapsed());
        }
    })?;
    clock.ends();
    let ended = Instant::now();
    let outcome = &rolled.outcome;
    ensure!(outcome.exit == ExitStatus::Done, "a roll failed: {outcome:?}\n{}", cluster.log());
    let gone = loop {
        let workers = census::workers(cluster.master().pid).len();
        if workers <= WORKERS {
            break Some(ended.elapsed());
        }
        if ended.elapsed() > GONE_WITHIN {
            break None;
        }
        pause(Duration::from_millis(5));
    };
    let first = clock.first_above(generation).map(|first| first.saturating_duration_since(at));
    let master = cluster.master();
    let (descriptors, memory) = (master.descriptors()?, master.memory()?);
    Ok(Roll { took: ended - at, first, gone, at, leaving, descriptors, memory })
}

fn aimed(seen: &Seen, rolls: &[Roll]) -> Aimed {
    let mut aimed = Aimed::default();
    for sent in &seen.sent {
        let Some(roll) = rolls.get((sent.roll as usize).wrapping_sub(1)) else { continue };
        let distance = |leave: &Duration| {
            let leave = roll.at + *leave;
            leave.max(sent.at) - leave.min(sent.at)
        };
        let Some(nearest) = roll.leaving.iter().map(distance).min() else { continue };
        let within = |millis| u64::from(nearest <= Duration::from_millis(millis));
        aimed.sent += 1;
        aimed.within_1 += within(1);
        aimed.within_5 += within(5);
        aimed.within_50 += within(50);
    }
    aimed
}

/// Lets others work for a while.
pub(super) fn pause(lasts: Duration) {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// The memory of the largest worker.
pub(super) fn workers_memory(cluster: &TestCluster) -> anyhow::Result<Vec<Memory>> {
    Ok(cluster.workers().iter().map(Process::memory).collect::<Result<Vec<_>, _>>()?)
}
