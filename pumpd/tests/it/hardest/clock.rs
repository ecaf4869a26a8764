//! 15: the time of day jumps, by years and back. Nothing that the cluster decides hangs on it.
//!
//! With libfaketime, which stands between the programs and the clock that is set and leaves the one alone
//! that only goes forward. Where it is not installed (`apt install libfaketime`), this says so and passes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_test::{Setup, TestCluster};

use super::{QUICK, Tried};
use crate::client::{REQUEST, answer, connect};
use crate::pumpd;
use crate::streams::Reader;

/// A library that is loaded before all others.
fn library() -> Option<&'static str> {
    let all = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"];
    let found = all.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        super::skipped("libfaketime is not installed");
    }
    found
}

/// What a file's clock says, as a program that is told to believe it sees it.
fn year(program: &Path) -> u64 {
    let text = fs::read_to_string(program).expect("ours");
    let script =
        text.replace(&format!("exec -a \"$0\" '{}' \"$@\"", pumpd().display()), "date +%Y");
    let told = Command::new("bash").args(["-c", &script]).output().expect("it runs");
    String::from_utf8_lossy(&told.stdout).trim().parse().expect("a year")
}

#[test]
fn b15_a_clock_that_jumps_by_ten_years_and_back_changes_nothing() {
    let Some(library) = library() else { return };
    let builds = tempfile::tempdir().expect("a folder");
    let (program, clock) = (builds.path().join("pumpd-timed"), builds.path().join("clock"));
    // Written beside and renamed, for it is read all the while.
    let jump = |by: &str| {
        let beside = clock.with_extension("new");
        fs::write(&beside, by).and_then(|()| fs::rename(&beside, &clock)).expect("ours");
    };
    jump("+0");
    let text = format!(
        "export LD_PRELOAD='{library}' FAKETIME_TIMESTAMP_FILE='{}' FAKETIME_NO_CACHE=1 \
         FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_RESET=1\nexec -a \"$0\" '{}' \"$@\"",
        clock.display(),
        pumpd().display()
    );
    crate::script(&program, &text);
    let now = year(&program);
    jump("+3650d");
    assert!(year(&program) > now + 8, "the library does what it is here for");
    jump("+0");

    let more = format!("{QUICK}linger_seconds = 300\n").replace("linger_seconds = 0\n", "");
    let setup = Setup { pumpd: Some(program), more, ..Setup::default() };
    let tried = Tried { cluster: TestCluster::start(setup), builds };
    let api = tried.cluster.api();
    let alice = tried.cluster.account("alice");
    let mut stream = Reader::open(connect(&tried.cluster), &alice, "");
    let mut kept = connect(&tried.cluster);
    // A token lasts for a year of the time of day, so who was signed in is so after all but the
    // longest, and after that one when it is over.
    let jumps = ["+20d", "+0", "-3650d", "+20d", "+0", "+3650d", "+0"];
    for (round, by) in jumps.into_iter().enumerate() {
        // In the middle of a roll, whenever that is: at its begin, while it surges, at its end.
        let control = tried.cluster.control();
        let rolling = std::thread::spawn(move || {
            control.restart(pump_control::control::Restart::default(), |_| ())
        });
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(40 * round as u64) {
            std::thread::yield_now();
        }
        jump(by);
        let rolled = rolling.join().expect("no panic").expect("the master tells");
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{by}: {rolled:?}");
        let status = tried.cluster.status();
        assert!(status.last_roll_millis < Some(60_000), "{by}: {status:?}");
        assert!(status.up_seconds < 600, "{by}: {status:?}");
        assert!(status.workers.iter().all(|worker| worker.age_seconds < 600), "{by}: {status:?}");
        std::io::Write::write_all(&mut kept, REQUEST).expect("open");
        assert!(answer(&mut kept).starts_with("http/1.1 200"));
        if by == "+3650d" {
            continue;
        }
        let text = format!("at {by}, in round {round}");
        api.post(&alice, &text).expect("the token is still good");
        if round < 5 {
            assert_eq!(stream.note(), text, "the stream goes on");
        }
    }
    let feed: Vec<String> =
        api.outbox("alice").expect("public").into_iter().map(|note| note.content).collect();
    assert_eq!(feed.len(), 6, "{feed:?}");
    assert!(feed[0].contains("round 6"), "the newest is the one that came last: {feed:?}");
    drop((stream, kept));
    tried.cluster.roll(None);
}
