//! What somebody hears who asks whether a person could use the server.

use pump_control::control::{Ask, Reply};
use pump_test::fake::{self, Faults};

use crate::{cluster, pumpd};

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ncanary_seconds = 0\n";

#[test]
fn each_probe_asks_another_worker_and_says_how_it_went() {
    let cluster = cluster(2, QUICK);
    let mut asked: Vec<u64> = Vec::new();
    for _ in 0..4 {
        match cluster.ask(Ask::Probe) {
            Reply::Probed { worker, failure: None, micros } if micros > 0 => asked.push(worker),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asked, [1, 2, 1, 2]);
    // What a build that answers 500 says is why.
    let faults = Faults { errors_percent: 100, ..Faults::default() };
    let bad = fake::faulty(pumpd(), cluster.place(), "bad", &faults).expect("it is made");
    let ended = cluster.roll(Some(&bad));
    let Reply::Probed { failure: Some(why), .. } = cluster.ask(Ask::Probe) else {
        panic!("after {ended:?} it is well")
    };
    assert!(why.contains("500"), "{why}");
    let panics = cluster.status().workers.iter().map(|worker| worker.panics).collect::<Vec<_>>();
    assert!(panics.iter().all(|count| *count == Some(0)), "{panics:?}");
}
