//! What an operator's program is told: a roll in typed events, and a status with figures.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::control::{Ask, Event, Reply, WorkerState};
use pump_test::{eventually, fake};

use crate::client::{REQUEST, answer, connect};
use crate::{cluster, pumpd};

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ncanary_seconds = 0\n";

#[test]
fn a_roll_is_told_in_events_with_the_numbers_a_program_wants() {
    let cluster = cluster(2, QUICK);
    let before = cluster.status();
    let new = fake::other_build(pumpd(), cluster.place(), "new").expect("a copy of the program");
    let rolled = cluster.roll(Some(&new));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    let after = cluster.status();
    assert!(rolled.events.is_sorted_by_key(|(millis, _)| *millis), "{rolled:?}");
    assert_eq!(after.last_roll_number, rolled.roll);
    let (took, last) = (after.last_roll_millis, rolled.events.last());
    assert!(took >= last.map(|(millis, _)| *millis), "{rolled:?}");

    let mut told: [BTreeSet<(u64, u32)>; 4] = Default::default();
    for (_, event) in &rolled.events {
        let (at, who, new) = match event {
            Event::WorkerStarted(who) => (0, who, true),
            Event::WorkerReady(who) => (1, who, true),
            Event::WorkerDraining { who, .. } => (2, who, false),
            Event::WorkerGone(who) => (3, who, false),
            Event::Inspected { candidate, generation, workers, .. } => {
                assert_eq!((*generation, *workers), (2, 2), "{event:?}");
                assert_eq!(candidate, &after.workers_build);
                continue;
            }
            _ => continue,
        };
        let of = if new { &after } else { &before };
        assert_eq!((who.generation, &who.build), (of.generation, &of.workers_build.short()));
        told[at].insert((who.worker, who.pid));
    }
    let named = |status: &pump_control::control::Status| -> BTreeSet<(u64, u32)> {
        status.workers.iter().map(|worker| (worker.worker, worker.pid)).collect()
    };
    assert_eq!(told, [named(&after), named(&after), named(&before), named(&before)], "{rolled:?}");
    assert!(rolled.events.iter().any(|(_, event)| *event == Event::Prepared), "{rolled:?}");
    // The same client hears it before and after the master has become the other build.
    let (from, to) = (before.master, after.workers_build);
    let becomes =
        [Event::ReplacingMaster { from, to }, Event::MasterReplaced { build: after.master }];
    let told: Vec<&Event> = rolled.events.iter().map(|(_, event)| event).collect();
    assert!(told.ends_with(&becomes.iter().collect::<Vec<_>>()), "{rolled:?}");
}

#[test]
fn a_roll_that_goes_back_says_which_worker_was_lost_and_why() {
    let cluster = cluster(2, QUICK);
    let bad = fake::candidate(pumpd(), cluster.place(), "9.9.9", fake::Fault::Exits(3));
    let rolled = cluster.roll(Some(&bad.expect("a candidate")));
    let lost = rolled.events.iter().find_map(|(_, event)| match event {
        Event::WorkerLost { who, failure } => Some((who, failure)),
        _ => None,
    });
    let (who, failure) = lost.unwrap_or_else(|| panic!("{rolled:?}"));
    assert_eq!((who.generation, who.worker), (2, 3), "{rolled:?}");
    assert!(who.pid > 0 && who.build.starts_with("9.9.9+"), "{who:?}");
    assert!(failure.contains("exited with 3"), "{failure}");
    let back = rolled.events.iter().any(|(_, event)| matches!(event, Event::GoingBack { .. }));
    assert!(back, "{rolled:?}");
    let latch = cluster.status().latch.expect("it failed");
    assert!(latch.hint.is_some_and(|hint| hint.contains("--clear-latch")));
    assert!(latch.output.iter().any(|line| line.contains("no good")), "{:?}", latch.output);
}

#[test]
fn the_status_has_each_workers_figures() {
    let cluster = cluster(2, QUICK);
    // It stays open: an idle connection.
    let mut stream = connect(&cluster);
    stream.write_all(REQUEST).expect("it reads");
    answer(&mut stream);
    let status = eventually(Duration::from_secs(60), || {
        let status = cluster.status();
        let idle: u64 = status.workers.iter().filter_map(|it| it.classes).map(|it| it.idle).sum();
        if idle == 1 { Ok(status) } else { Err(Box::new(status)) }
    });
    let asked: u64 = status.workers.iter().filter_map(|worker| worker.requests).sum();
    assert_eq!(asked, 1, "{status:?}");
    for worker in &status.workers {
        assert_eq!(worker.state, WorkerState::Ready);
        assert!(worker.resident.is_some_and(|bytes| bytes > 1024 * 1024), "{worker:?}");
        assert_eq!(worker.connections, worker.classes.map(|open| open.all()), "{worker:?}");
    }
}

#[test]
fn another_data_folder_is_never_rolled_onto() {
    let cluster = cluster(2, QUICK);
    let before = cluster.status();
    let config = std::fs::read_to_string(cluster.config()).expect("ours");
    let other = config.replace("/data\"", "/other\"").replace("workers = 2", "workers = 3");
    assert_ne!(config, other);
    std::fs::create_dir(cluster.place().join("other")).expect("ours");
    std::fs::write(cluster.config(), other).expect("ours");
    let Reply::Reloaded(changed) = cluster.ask(Ask::Reload) else { panic!("it says what changed") };
    assert_eq!(changed.needs_restart, ["data_dir"]);
    assert_eq!(changed.needs_roll, ["workers"]);
    let refused = cluster.roll(None);
    assert_eq!(refused.outcome.exit, ExitStatus::Preflight, "{refused:?}");
    assert!(refused.outcome.text.contains("two databases"), "{refused:?}");
    let after = cluster.status();
    assert_eq!((after.workers.len(), after.generation), (2, before.generation));
    let mut other = std::fs::read_dir(cluster.place().join("other")).expect("ours");
    assert!(other.next().is_none(), "nothing was migrated there");
}
