//! The fleet and a real daemon: each class asks, and a server that does wrong is found out.
//!
//! Needs `pumpd` built: see [`pump_test::TestCluster`] for where it is looked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_test::census::{Watching, ready};
use pump_test::fake::{self, Faults};
use pump_test::fleet::{Announced, Class, Fleet, Plan};
use pump_test::ledger::Ledger;
use pump_test::load::Failure;
use pump_test::wire::Address;
use pump_test::{Setup, TestCluster, eventually};

const AT_ONCE: &str = "[roll]\ncanary_seconds = 0\nwatch_seconds = 0\nlinger_seconds = 0\n";

fn cluster(pumpd: Option<std::path::PathBuf>) -> TestCluster {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    TestCluster::start(Setup { pumpd, listen, more: AT_ONCE.to_owned(), ..Setup::default() })
}

fn plan(cluster: &TestCluster, clients: &[(Class, usize)]) -> Plan {
    let api = cluster.api();
    let [author, herald, listener] = ["alice", "herald", "carol"].map(|who| cluster.account(who));
    api.follow(&listener, "herald").expect("she may follow");
    Plan {
        address: cluster.address(),
        unix: Some(Address::Unix(cluster.place().join("run/http.sock"))),
        host: api.host().to_owned(),
        clients: clients.iter().copied().collect(),
        new_per_second: 100,
        think: Duration::from_millis(300),
        post_every: 4,
        each: None,
        pages: vec!["/healthz".to_owned(), "/users/alice".to_owned()],
        page_to_sip: "/users/alice/outbox?page=true".to_owned(),
        big_page: "/users/alice/outbox?page=true".to_owned(),
        slow_for: Duration::from_secs(600),
        upload_bytes: 64 * 1024,
        authors: vec![author],
        streams: 2,
        listeners: vec![listener],
        herald: Some((herald, Duration::from_millis(50))),
        answer_within: Duration::from_secs(30),
        seed: 7,
    }
}

#[test]
fn every_kind_of_client_asks_and_sees_nothing_of_a_roll() {
    let cluster = cluster(None);
    let Address::Tcp(address) = cluster.address() else { panic!("a TCP address") };
    let next = fake::other_build(cluster.program(), cluster.place(), "next").expect("a copy");
    let few = Class::ALL.map(|class| (class, if class == Class::Herald { 1 } else { 3 }));
    let fleet = Fleet::start(plan(&cluster, &few));
    let all_have_asked = || {
        eventually(Duration::from_secs(60), || {
            let asked = Class::ALL.map(|class| (class, fleet.requests(class)));
            if asked.iter().all(|(_, requests)| *requests > 2) {
                Ok(())
            } else {
                Err(Box::new(asked))
            }
        });
    };
    let watching = Watching::start(cluster.master().pid, address.port());
    // Clients with ill will ask when a roll is announced, and once before.
    let mut roll = 0;
    eventually(Duration::from_secs(60), || {
        roll += 1;
        fleet.clock().announce(Announced { roll, at: Instant::now(), leaving: Vec::new() });
        let asked = fleet.requests(Class::Adversary);
        if asked > 9 { Ok(()) } else { Err(asked) }
    });
    all_have_asked();
    fleet.clock().begins();
    let rolled = cluster.roll(Some(&next));
    fleet.clock().ends();
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let before = Class::ALL.map(|class| fleet.requests(class));
    eventually(Duration::from_secs(30), || {
        let asked = [Class::New, Class::Keepalive, Class::Unix].map(|class| fleet.requests(class));
        if asked.iter().sum::<u64>() > before.iter().sum::<u64>() { Ok(()) } else { Err(asked) }
    });
    let census = watching.stop();
    let seen = fleet.stop();
    let failed: BTreeMap<_, _> =
        seen.tallies.iter().map(|(class, tally)| (*class, (tally.failed(), &tally.told))).collect();
    assert!(failed.values().all(|(failed, _)| *failed == 0), "{failed:?}\n{}", cluster.log());
    assert_eq!(census.least_ready, 2, "{census:?}");
    assert!(census.processes >= 4 && census.most_processes >= 3, "{census:?}");
    let streams = &seen.streams;
    assert!(streams.events > 0 && streams.streams == 2, "{streams:?}");
    assert_eq!((streams.missing, streams.repeated, streams.refused), (0, 0, 0), "{streams:?}");
    for author in ["alice", "herald"] {
        let outbox = cluster.api().outbox(author).expect("the outbox is public");
        let audit = Ledger::new(&seen.posts).check(Some(author), &outbox);
        assert_eq!(audit.problems, [], "{author}");
        assert!(audit.acknowledged > 0, "{author}");
    }
    assert_eq!(ready(cluster.master().pid, address.port()).len(), 2);
}

/// Without this, a fleet that sees nothing could be one that does not look.
#[test]
fn a_server_that_fails_now_and_then_is_found_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = pump_test::pumpd().expect("the daemon is built");
    let faults = Faults { errors_percent: 10, ..Faults::default() };
    let bad = fake::faulty(&program, folder.path(), "pumpd", &faults).expect("a copy");
    let cluster = cluster(Some(bad));
    // Signing in may meet a 500, too, and nobody needs it here.
    let classes =
        [(Class::New, 4), (Class::Keepalive, 8), (Class::Pipelined, 2), (Class::Http2, 2)];
    let who = pump_test::Account { name: "nobody".to_owned(), bearer: "none".to_owned() };
    let plan = Plan {
        streams: 0,
        herald: None,
        authors: vec![who.clone()],
        listeners: vec![who],
        pages: vec!["/healthz".to_owned()],
        ..bare_plan(&cluster, &classes)
    };
    let fleet = Fleet::start(plan);
    eventually(Duration::from_secs(30), || {
        let failures = fleet.failures();
        if failures > 40 { Ok(()) } else { Err(failures) }
    });
    let seen = fleet.stop();
    for (class, _) in classes {
        let kinds: Vec<String> =
            seen.tallies[&class].failures.keys().map(ToString::to_string).collect();
        assert!(kinds.contains(&"status-500".to_owned()), "{class}: {kinds:?}");
    }
}

#[test]
fn a_server_that_closes_idle_connections_is_found_out() {
    let cluster = cluster(None);
    let plan = plan(&cluster, &[(Class::Keepalive, 16)]);
    let fleet = Fleet::start(Plan { streams: 0, ..plan });
    eventually(Duration::from_secs(30), || match fleet.requests(Class::Keepalive) {
        few @ 0..64 => Err(few),
        _ => Ok(()),
    });
    // A worker that is told to leave by a signal has nobody to hand its connections to.
    for worker in cluster.workers() {
        worker.signal(Signal::SIGTERM).expect("it lives");
    }
    eventually(Duration::from_secs(30), || match fleet.failures() {
        0 => Err(0),
        some => Ok(some),
    });
    let seen = fleet.stop();
    for failure in seen.tallies[&Class::Keepalive].failures.keys() {
        assert!(matches!(failure, Failure::StaleReuse(_)), "{failure}");
    }
}

/// A million of one class are not to wait for a million of another.
#[test]
fn a_class_ends_when_it_has_asked_enough() {
    let cluster = cluster(None);
    let clients = [(Class::Keepalive, 8), (Class::Waiter, 8), (Class::Reader, 4)];
    let plan = Plan {
        pages: vec!["/healthz".to_owned()],
        page_to_sip: "/healthz".to_owned(),
        post_every: u64::MAX,
        each: Some(40),
        ..bare_plan(&cluster, &clients)
    };
    let fleet = Fleet::start(plan);
    eventually(Duration::from_secs(60), || match fleet.is_over() {
        true => Ok(()),
        false => Err(clients.map(|(class, _)| fleet.requests(class))),
    });
    let seen = fleet.stop();
    for (class, count) in clients {
        let asked = seen.tallies[&class].requests;
        // Whoever was within a request at that moment has ended it.
        assert!((40..40 + count as u64).contains(&asked), "{class}: {asked}");
    }
}

fn bare_plan(cluster: &TestCluster, clients: &[(Class, usize)]) -> Plan {
    Plan {
        address: cluster.address(),
        unix: None,
        host: "social.example".to_owned(),
        clients: clients.iter().copied().collect(),
        new_per_second: 100,
        think: Duration::from_millis(100),
        post_every: 4,
        each: None,
        pages: Vec::new(),
        page_to_sip: "/".to_owned(),
        big_page: "/".to_owned(),
        slow_for: Duration::ZERO,
        upload_bytes: 0,
        authors: Vec::new(),
        streams: 0,
        listeners: Vec::new(),
        herald: None,
        answer_within: Duration::from_secs(30),
        seed: 7,
    }
}
