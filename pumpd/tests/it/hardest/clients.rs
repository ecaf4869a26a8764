//! 1 and 12: connections that are used at the worst moment, and ones that never end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::control::Restart;
use pump_test::fleet::{Announced, Class, Fleet, Plan};
use pump_test::ledger::Ledger;
use pump_test::process::sha256;
use pump_test::{TestCluster, eventually};

use super::{QUICK, Tried, pids};

/// A fleet without clients.
fn nobody(cluster: &TestCluster) -> Plan {
    Plan {
        address: cluster.address(),
        unix: None,
        host: cluster.api().host().to_owned(),
        clients: BTreeMap::new(),
        new_per_second: 1,
        think: Duration::ZERO,
        pages: vec!["/healthz".to_owned(), "/nodeinfo/2.0".to_owned()],
        big_page: String::new(),
        post_every: 4,
        each: None,
        page_to_sip: "/".to_owned(),
        slow_for: Duration::ZERO,
        upload_bytes: 0,
        authors: Vec::new(),
        streams: 0,
        listeners: Vec::new(),
        herald: None,
        answer_within: Duration::from_secs(60),
        seed: 1,
    }
}

/// Idle connections that are used within fifty milliseconds of a worker's leave, whole requests and
/// halves of them, GETs and POSTs.
#[test]
fn b01_a_request_at_the_moment_of_a_hand_over_is_answered_whatever_the_millisecond() {
    let tried = Tried::new(QUICK);
    let author = tried.cluster.account("alice");
    let plan = Plan {
        clients: BTreeMap::from([(Class::Adversary, 80)]),
        authors: vec![author],
        ..nobody(&tried.cluster)
    };
    let fleet = Fleet::start(plan);
    let asked = |times: u64| {
        eventually(Duration::from_secs(60), || match fleet.requests(Class::Adversary) {
            asked if asked >= 80 * times => Ok(()),
            asked => Err(asked),
        });
    };
    asked(1);
    let mut leaving = Vec::new();
    for roll in 1..=4 {
        let new = tried.other(&format!("new-{}", roll % 2));
        // They aim at what the last roll showed, and the roll begins at once.
        let at = Instant::now();
        fleet.clock().announce(Announced { roll, at, leaving: leaving.clone() });
        let ask = Restart { candidate: Some(new), ..Default::default() };
        leaving.clear();
        let rolled = tried.cluster.control().restart(ask, |step| {
            if step.ends_with("is ready") {
                leaving.push(at.elapsed());
            }
        });
        let outcome = rolled.expect("the master tells").outcome;
        assert_eq!(outcome.exit, ExitStatus::Done, "{outcome:?}");
        asked(roll + 1);
    }
    let seen = fleet.stop();
    let tally = &seen.tallies[&Class::Adversary];
    assert_eq!((tally.failed(), tally.closed), (0, 0), "{:?}", tally.told);
    let outbox = tried.cluster.api().outbox("alice").expect("the outbox is public");
    let audit = Ledger::new(&seen.posts).check(Some("alice"), &outbox);
    assert_eq!((audit.problems, audit.unseen), (Vec::new(), 0));
    assert!(audit.acknowledged > 0, "somebody has posted");
    tried.good_roll();
}

/// Fifteen rolls of fifty streams; a hundred and thirty-six of a thousand are `cargo xtask torture --long`.
#[test]
fn b12_streams_go_on_over_many_rolls_and_no_process_piles_up() {
    let tried = Tried::new(QUICK);
    let api = tried.cluster.api();
    let [herald, one, two] = ["herald", "one", "two"].map(|who| tried.cluster.account(who));
    for listener in [&one, &two] {
        api.follow(listener, "herald").expect("they may follow");
    }
    let plan = Plan {
        clients: BTreeMap::from([(Class::Herald, 1)]),
        authors: vec![herald.clone()],
        streams: 50,
        listeners: vec![one, two],
        herald: Some((herald, Duration::from_millis(20))),
        ..nobody(&tried.cluster)
    };
    let fleet = Fleet::start(plan);
    let builds = [tried.other("first"), tried.other("second")];
    let wait_for_notes = |more: u64| {
        let before = fleet.requests(Class::Herald);
        eventually(Duration::from_secs(60), || match fleet.requests(Class::Herald) {
            now if now >= before + more => Ok(()),
            now => Err(now),
        });
    };
    wait_for_notes(10);
    let mut most = 0;
    for round in 0..15 {
        fleet.clock().begins();
        let rolled = tried.cluster.roll(Some(&builds[round % 2]));
        fleet.clock().ends();
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{round}: {rolled:?}");
        most = most.max(pids(&tried.cluster.workers()).len());
        wait_for_notes(2);
    }
    let seen = fleet.stop();
    let streams = &seen.streams;
    let bad = (streams.missing, streams.repeated, streams.cut, streams.ended, streams.refused);
    assert_eq!(bad, (0, 0, 0, 0, 0), "{streams:?}");
    assert_eq!(streams.continued, 15 * 50, "every connection outlived every roll: {streams:?}");
    assert!(most <= 4, "{most} workers at the end of a roll");
    let want = sha256(&builds[0]).expect("it is there");
    tried.whole(&want);
    tried.good_roll();
}
