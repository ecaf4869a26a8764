//! Forth and back under load, while `pump` and the master are killed at any moment: whoever is killed, no
//! request is lost, and the command or `pump resume` finishes the job.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pump_test::eventually;
use pump_test::load::{Class, Failure, Load, Outcome, Plan};
use pump_test::process::Process;
use serde_json::Value;

use crate::place::Ran;
use crate::real::Served;

/// How often a command is given again before something is wrong.
const TRIES: usize = 8;

/// Whom a round kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Nobody,
    Pump,
    Master,
    Both,
}

#[test]
fn p6_kills_of_pump_and_of_the_master_in_three_upgrades_and_rollbacks_lose_no_request() {
    forth_and_back(3, 100);
}

#[test]
#[ignore = "a long proof: `cargo xtask test --long` runs it"]
fn long_p6_kills_of_pump_and_of_the_master_in_twenty_upgrades_and_rollbacks_lose_no_request() {
    forth_and_back(20, 200);
}

fn forth_and_back(rounds: u64, new_per_second: u32) {
    let served = Served::with("linger_seconds = 5\nwatch_seconds = 0");
    let place = &served.place;
    let old = place.link("current").expect("there is one");
    let new = served.offer_other_build("the next build");
    let (alice, bob) = (served.account("alice"), served.account("bob"));
    let api = served.api();
    let mut plan = Plan::new(api.address().clone(), api.host());
    plan.authors = vec![alice, bob];
    plan.lasts = Duration::from_secs(1800);
    plan.new_per_second = new_per_second;
    let load = Load::start(plan);
    let version = new.version.to_string();
    let forth = ["upgrade", "--zero-downtime", "--to", &version];
    let back = ["rollback", "--zero-downtime"];
    let mut kills: BTreeMap<Victim, u64> = BTreeMap::new();
    let mut again = 0;
    for round in 0..rounds {
        for (words, goal) in [(&forth[..], new.name()), (&back[..], old.clone())] {
            // The same moments for each run of this test; what they meet is another matter.
            let random = mixed(round * 2 + u64::from(goal == old));
            let victims = [Victim::Nobody, Victim::Pump, Victim::Master, Victim::Both];
            let victim = victims[usize::try_from(random % 4).expect("small")];
            *kills.entry(victim).or_default() += 1;
            let mut run = place
                .command(words)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("pump can be run");
            let moment = Duration::from_millis((random >> 8) % 2500);
            wait_at_most(&mut run, moment);
            if matches!(victim, Victim::Master | Victim::Both) {
                kill_master(&served);
            }
            if matches!(victim, Victim::Pump | Victim::Both) {
                let _ = run.kill();
            }
            run.wait().expect("our own child");
            again += finish(&served, words, &goal);
            assert_eq!(place.link("current"), Some(goal.clone()), "round {round}, {victim:?}");
            let status = ready(&served);
            let serves = status["workers_build"]["build"].as_str().expect("text").to_owned();
            assert!(
                goal.ends_with(&serves[..8]),
                "round {round}, {victim:?} after {moment:?}: {goal} is current and {serves} serves\n{}",
                log(&served)
            );
        }
    }
    let report = load.stop();
    let told = format!(
        "{} requests, {} upgrades and rollbacks, kills {kills:?}, {again} commands given again",
        report.requests(),
        2 * rounds
    );
    #[expect(clippy::print_stdout, reason = "who asks for a long proof wants its figures")]
    {
        println!("{told}");
    }
    assert_eq!(report.failures_by_kind(), BTreeMap::new(), "{told}");
    assert!(report.first_answers().len() >= 2, "both builds answered");
    for author in report.ledger().authors() {
        let outbox = api.outbox(author).expect("the outbox can be read");
        let audit = report.ledger().check(Some(author), &outbox);
        assert!(audit.problems.is_empty(), "{author}: {audit:?}");
    }
}

/// The end of the server's log.
fn log(served: &Served) -> String {
    let text = std::fs::read_to_string(served.place.path("var/log/pump/pumpd.log"));
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// A number that looks random and is always the same for the same seed.
fn mixed(seed: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    hasher.finish()
}

/// `pump resume`, and where that was not enough the same command. How often something was said again.
fn finish(served: &Served, words: &[&str], goal: &str) -> u64 {
    let place = &served.place;
    let mut said: Vec<Ran> = Vec::new();
    for _ in 0..TRIES {
        let resumed = place.pump(&["resume"]);
        // Between two masters nobody can be asked.
        let well = resumed.code == Some(0);
        said.push(resumed);
        if !well {
            continue;
        }
        if place.link("current").as_deref() == Some(goal) {
            return said.len() as u64 - 1;
        }
        said.push(place.pump(words));
    }
    panic!("it was not finished: {said:#?}");
}

/// Kills the master that there is, if there is one at the moment.
fn kill_master(served: &Served) {
    let ran = served.place.pump(&["status", "--json"]);
    let Some(Ok(status)) = ran.out.lines().next().map(serde_json::from_str::<Value>) else {
        return;
    };
    let pid = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    if let Some(master) = pid.and_then(|pid| Process::of(pid).ok()) {
        // It may have died since.
        let _ = master.signal(Signal::SIGKILL);
    }
}

/// The status of a server that is at rest.
fn ready(served: &Served) -> Value {
    eventually(Duration::from_secs(60), || {
        let ran = served.place.pump(&["status", "--json"]);
        match ran.code {
            Some(0) if ran.json()["phase"] == "running" => Ok(ran.json()),
            _ => Err(ran),
        }
    })
}

fn wait_at_most(child: &mut Child, limit: Duration) {
    let until = Instant::now() + limit;
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// How long a client thinks at most between two requests on one connection, and then some.
const THINKS: Duration = Duration::from_secs(10);

#[test]
fn p5_kills_of_workers_in_an_upgrade_and_a_rollback_cost_only_what_was_in_flight_there() {
    kills_of_workers(1, 100);
}

#[test]
#[ignore = "a long proof: `cargo xtask test --long` runs it"]
fn long_p5_kills_of_workers_in_twenty_upgrades_and_rollbacks_cost_only_what_was_in_flight_there() {
    kills_of_workers(20, 200);
}

/// In each upgrade and each rollback one worker is killed that leaves, or would.
fn kills_of_workers(rounds: u64, new_per_second: u32) {
    let served = Served::with("linger_seconds = 2\nwatch_seconds = 0");
    let place = &served.place;
    let old = place.link("current").expect("there is one");
    let new = served.offer_other_build("the next build");
    let authors = vec![served.account("alice"), served.account("bob")];
    let api = served.api();
    let mut plan = Plan::new(api.address().clone(), api.host());
    (plan.authors, plan.new_per_second) = (authors, new_per_second);
    plan.lasts = Duration::from_secs(1800);
    let clients = plan.mix.new
        + plan.mix.keepalive
        + plan.mix.brisk
        + plan.mix.slow_upload
        + plan.mix.slow_reader;
    let mut load = Load::start(plan);
    let version = new.version.to_string();
    let mut kills = Vec::new();
    for round in 0..rounds {
        for (words, from, goal) in [
            (&["upgrade", "--zero-downtime", "--to", &version][..], &old, new.name()),
            (&["rollback", "--zero-downtime"][..], &new.name(), old.clone()),
        ] {
            let random = mixed(1000 + round * 2 + u64::from(goal == old));
            let mut run = place
                .command(words)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("pump can be run");
            wait_at_most(&mut run, Duration::from_millis(random % 1500));
            if let Some(worker) = worker_of(&served, from) {
                let begun = load.mark("kill");
                // It may have left since.
                let _ = worker.signal(Signal::SIGKILL);
                // Until it is gone its sockets are open, and take what nobody will answer.
                eventually(Duration::from_secs(60), || {
                    if worker.lives() { Err(&worker) } else { Ok(()) }
                });
                kills.push((begun, load.elapsed()));
            }
            run.wait().expect("our own child");
            finish(&served, words, &goal);
            ready(&served);
        }
    }
    let report = load.stop();
    let told = format!(
        "{} requests, {} workers killed in {} upgrades and rollbacks, {} requests failed: {:?}",
        report.requests(),
        kills.len(),
        2 * rounds,
        report.failures(),
        report.failures_by_kind(),
    );
    #[expect(clippy::print_stdout, reason = "who asks for a long proof wants its figures")]
    {
        println!("{told}");
    }
    assert!(!kills.is_empty() && report.failures() <= kills.len() * clients, "{told}");
    for record in &report.records {
        let Outcome::Failed(failure) = record.outcome else { continue };
        // In flight when it was killed, or the next on a connection that it had. Who sends a request in parts counts
        // from the last one, and finds out with the next.
        let in_parts = matches!(record.class, Class::Brisk | Class::SlowUpload);
        let late = match failure {
            Failure::StaleReuse(_) => THINKS,
            _ if in_parts => THINKS,
            _ => Duration::ZERO,
        };
        let caused = failure != Failure::Refused
            && kills
                .iter()
                .any(|(begun, ended)| record.asked <= *ended + late && record.ended >= *begun);
        assert!(caused, "{record:?} is no kill's doing, of {kills:?}; {told}");
    }
    for author in report.ledger().authors() {
        let outbox = api.outbox(author).expect("the outbox can be read");
        let audit = report.ledger().check(Some(author), &outbox);
        assert!(audit.problems.is_empty(), "{author}: {audit:?}; {told}");
    }
}

/// A worker of a release, if one is left.
fn worker_of(served: &Served, release: &str) -> Option<Process> {
    let ran = served.place.pump(&["status", "--json"]);
    let status: Value = serde_json::from_str(ran.out.lines().next()?).ok()?;
    let workers = status["workers"].as_array()?;
    let of = |it: &&Value| {
        let build = it["build"]["build"].as_str().unwrap_or_default();
        build.get(..8).is_some_and(|build| release.ends_with(build))
    };
    let pid = workers.iter().find(of)?["pid"].as_u64()?;
    Process::of(u32::try_from(pid).ok()?).ok()
}
