//! The harness and a real daemon: what a roll, a bad candidate and an end look like from outside.
//!
//! Needs `pumpd` built: see [`pump_test::TestCluster`] for where it is looked for.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Phase, Reply};
use pump_test::fake::{self, Fault};
use pump_test::load::{Failure, Load, Plan, Report};
use pump_test::process::sha256;
use pump_test::{Account, Setup, TestCluster, eventually};

/// A roll's limits, shorter than usual where a test has to wait for them.
const SHORT: &str = "[roll]\nready_seconds = 10\ndrain_seconds = 10\n";

fn loaded(cluster: &TestCluster, authors: &[Account]) -> Load {
    let mut plan = Plan::new(cluster.address(), cluster.api().host());
    plan.lasts = Duration::from_secs(300);
    plan.new_per_second = 400;
    plan.pages = ["/", "/users/alice"].map(str::to_owned).to_vec();
    plan.authors = authors.to_vec();
    let load = Load::start(plan);
    eventually(Duration::from_secs(30), || match load.requests() {
        0..200 => Err(load.requests()),
        _ => Ok(()),
    });
    load
}

/// Nothing failed, and every acknowledged note stands once.
fn assert_unharmed(cluster: &TestCluster, report: &Report) {
    assert_eq!(report.failures(), 0, "{report}\n{}\n{}", report.time_line_text(), cluster.log());
    for author in report.ledger().authors() {
        let outbox = cluster.api().outbox(author).expect("the outbox is public");
        let audit = report.ledger().check(Some(author), &outbox);
        assert_eq!(audit.problems, [], "in the outbox of {author}");
        assert!(audit.acknowledged > 0, "{author} has posted");
    }
}

fn builds(cluster: &TestCluster) -> BTreeSet<String> {
    let workers = cluster.workers();
    workers.iter().map(|worker| worker.build().expect("a worker's program is readable")).collect()
}

fn only(path: &Path) -> BTreeSet<String> {
    BTreeSet::from([sha256(path).expect("a build is readable")])
}

#[test]
fn p1_clients_see_nothing_of_a_roll() {
    let cluster = TestCluster::usual();
    let next = fake::other_build(cluster.program(), cluster.place(), "next").expect("a copy");
    let authors = [cluster.account("alice"), cluster.account("bob")];
    let (master, old) = (cluster.master(), cluster.status());
    assert_eq!(builds(&cluster), only(cluster.program()));

    let load = loaded(&cluster, &authors);
    let rolled = cluster.roll(Some(&next));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}\n{}", cluster.log());
    assert!(!rolled.steps.is_empty(), "a roll tells what it does");
    let rolled_at = load.elapsed();
    let enough = load.requests() + 200;
    eventually(Duration::from_secs(30), || match load.requests() {
        few if few < enough => Err(few),
        _ => Ok(()),
    });
    let report = load.stop();

    assert_unharmed(&cluster, &report);
    assert_eq!(builds(&cluster), only(&next));
    let now = cluster.master();
    assert_eq!((now.pid, now.started), (master.pid, master.started), "the same process");
    assert_eq!(
        now.build().expect("it lives"),
        sha256(&next).expect("it is readable"),
        "as another build"
    );
    let after = report.servers_within(rolled_at..Duration::MAX);
    assert!(after.iter().all(|server| server.generation > old.generation), "{after:?}");
}

#[test]
fn bad_candidates_cost_no_client_anything_and_the_next_good_one_is_rolled() {
    let cluster = TestCluster::start(Setup { more: SHORT.to_owned(), ..Setup::default() });
    let authors = [cluster.account("alice")];
    let load = loaded(&cluster, &authors);
    let cases = [
        (Fault::Exits(7), "no good", ExitStatus::RollFailed),
        (Fault::Hangs, "", ExitStatus::RollFailed),
        (Fault::IgnoresTerm, "", ExitStatus::RollFailed),
        (Fault::MigrateFails, "no room", ExitStatus::Preflight),
        (Fault::NoInfo, "", ExitStatus::Preflight),
        (Fault::Magic(99), "99", ExitStatus::OtherMagic),
    ];
    for (fault, named, exit) in cases {
        let version = "9.9.9";
        let bad = fake::candidate(cluster.program(), cluster.place(), version, fault);
        let rolled = cluster.roll(Some(&bad.expect("a script is written")));
        assert_eq!(rolled.outcome.exit, exit, "{fault:?}: {rolled:?}\n{}", cluster.log());
        let told = format!("{} {}", rolled.outcome.text, rolled.outcome.output.join(" "));
        assert!(told.contains(named), "{fault:?}: {told}");
        assert_eq!(builds(&cluster), only(cluster.program()), "{fault:?}");
    }
    let next = fake::other_build(cluster.program(), cluster.place(), "next").expect("a copy");
    let rolled = cluster.roll(Some(&next));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    assert_unharmed(&cluster, &load.stop());
    assert_eq!(builds(&cluster), only(&next));
}

#[test]
fn an_ended_cluster_leaves_nothing_behind() {
    let mut cluster = TestCluster::usual();
    let everyone: Vec<_> = cluster.workers().into_iter().chain([cluster.master()]).collect();
    assert_eq!(everyone.len(), 3, "{everyone:?}");
    assert!(matches!(cluster.ask(Ask::Status), Reply::Status(_)));
    assert!(matches!(cluster.control().ask_raw(b"what?\n"), Ok(Reply::Error { .. })));
    assert_eq!(cluster.eventually(|status| status.workers.len() == 2).phase, Phase::Running);
    assert_eq!(cluster.end().expect("it ends by itself"), Some(0));
    assert!(everyone.iter().all(|process| !process.lives()));
}

/// Without this, a client that sees nothing could be one that does not look.
#[test]
fn workers_that_close_idle_connections_at_once_are_seen_by_who_uses_them_again() {
    let more = "[roll]\nlinger_seconds = 0\n".to_owned();
    let cluster = TestCluster::start(Setup { more, ..Setup::default() });
    let authors = [cluster.account("alice")];
    let load = loaded(&cluster, &authors);
    // A worker that is told to leave by a signal has nobody to hand its connections to.
    for worker in cluster.workers() {
        worker.signal(Signal::SIGTERM).expect("it lives");
    }
    eventually(Duration::from_secs(30), || match load.failures() {
        few @ 0..4 => Err(few),
        _ => Ok(()),
    });
    let report = load.stop();
    for (class, failure) in report.failures_by_kind().keys() {
        assert!(matches!(failure, Failure::StaleReuse(_)), "{class} {failure}");
    }
}
