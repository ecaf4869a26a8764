//! P5: a master that is killed, where somebody keeps what belongs to it.

use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Phase, Restart, Worker, WorkerState};
use pump_test::fake::{self, Break, Faults};
use pump_test::process::Process;
use pump_test::{Setup, TestCluster};

use crate::client::{REQUEST, answer, connect};
use crate::pumpd;

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ncanary_seconds = 0\n";

fn held() -> TestCluster {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    let (pumpd, more) = (Some(pumpd().to_owned()), QUICK.to_owned());
    TestCluster::start(Setup { pumpd, listen, more, held: true, ..Setup::default() })
}

fn pids(processes: &[Process]) -> Vec<u32> {
    let mut pids: Vec<u32> = processes.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    pids
}

/// Kills the master and waits for the next one.
fn kill(cluster: &mut TestCluster) {
    let before = cluster.master().pid;
    cluster.kill_master().expect("it lives");
    cluster.eventually(|status| status.pid != before && status.phase == Phase::Running);
}

#[test]
fn p5_the_next_master_adopts_the_workers_of_one_that_was_killed() {
    let mut cluster = held();
    let (workers, address) = (pids(&cluster.workers()), cluster.address());
    let unix = cluster.place().join("run/http.sock");
    let inode = |path: &std::path::Path| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("it is there"))
    };
    let before = inode(&unix);
    let mut connection = connect(&cluster);
    let mut ask = || {
        connection.write_all(REQUEST).expect("open");
        let answer = answer(&mut connection);
        assert!(answer.starts_with("http/1.1 200") && !answer.contains("connection: close"));
    };
    ask();
    for _ in 0..5 {
        kill(&mut cluster);
        // The connection never saw it.
        ask();
        assert_eq!(pids(&cluster.workers()), workers, "the same workers");
        assert_eq!((cluster.address(), inode(&unix)), (address.clone(), before));
    }
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    // Handed over by an adopted worker.
    ask();
    let after = pids(&cluster.workers());
    assert!(after.iter().all(|pid| !workers.contains(pid)), "{workers:?} and {after:?}");
}

#[test]
fn p5_a_worker_that_was_adopted_is_replaced_when_it_dies() {
    let mut cluster = held();
    kill(&mut cluster);
    for worker in cluster.workers() {
        worker.signal(Signal::SIGKILL).expect("it lives");
        cluster.eventually(|status| {
            status.workers.len() == 2 && status.workers.iter().all(|one| one.pid != worker.pid)
        });
    }
    assert_eq!(cluster.end().expect("it ends its workers"), Some(0));
}

/// Which is no reason for anybody to go down: the file is read by the next roll.
#[test]
fn p5_a_configuration_that_was_broken_in_the_meantime_harms_nobody() {
    let mut cluster = held();
    let workers = pids(&cluster.workers());
    let text = fs::read_to_string(cluster.config()).expect("ours");
    fs::write(cluster.config(), "domain = 7\n").expect("ours");
    kill(&mut cluster);
    assert_eq!(pids(&cluster.workers()), workers);
    fs::write(cluster.config(), text).expect("ours");
    assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
}

#[test]
fn p5_a_master_that_is_killed_in_a_roll_leaves_the_old_build() {
    let mut cluster = held();
    let folder = tempfile::tempdir().expect("a folder");
    let old = cluster.master().build().expect("it lives");
    let slow = Faults { hangs: true, ..Faults::default() };
    let slow = fake::faulty(pumpd(), folder.path(), "slow", &slow).expect("a copy");
    let restart = Restart { candidate: Some(slow), ..Default::default() };
    cluster.ask(Ask::Restart(restart));
    cluster.eventually(|status| status.workers.len() == 3);
    kill(&mut cluster);
    let status = cluster.eventually(|status| status.workers.len() == 2);
    assert!(status.roll.is_none());
    assert!(cluster.workers().iter().all(|worker| worker.build().expect("it lives") == old));
}

/// Nobody can say of a master that is killed in this moment how it would have gone on, and so nothing is held
/// against it.
#[test]
fn p5_a_master_that_is_killed_right_after_its_exec_leaves_the_last_confirmed_build() {
    let mut cluster = held();
    let folder = tempfile::tempdir().expect("a folder");
    let old = cluster.master().build().expect("it lives");
    // It is held up there for long enough to be met.
    let late = Faults { after_exec: Some(Break::Hangs), ..Faults::default() };
    let late = fake::faulty(pumpd(), folder.path(), "late", &late).expect("a copy");
    let build = pump_test::process::sha256(&late).expect("ours");
    let restart = Restart { candidate: Some(late), ..Default::default() };
    cluster.ask(Ask::Restart(restart));
    pump_test::eventually(std::time::Duration::from_secs(60), || {
        let now = cluster.master().build().unwrap_or_default();
        if now == build { Ok(()) } else { Err(now) }
    });
    kill(&mut cluster);
    let status = cluster.eventually(|status| status.workers.len() == 2 && status.roll.is_none());
    assert_eq!(cluster.master().build().expect("it lives"), old);
    assert!(cluster.workers().iter().all(|worker| worker.build().expect("it lives") == old));
    assert_eq!(status.latch, None, "{status:?}");
    let last = status.last_roll.expect("it was lost");
    assert!(last.text.contains("was killed right after it had become"), "{last:?}");
    let good = fake::other_build(pumpd(), folder.path(), "good").expect("a copy");
    assert_eq!(cluster.roll(Some(&good)).outcome.exit, ExitStatus::Done);
}

/// It has a copy of what nobody else may find in use, and never came as far as its first line.
#[test]
fn p5_a_rehearsal_that_hangs_ends_with_the_master_that_has_begun_it() {
    let mut cluster = held();
    let folder = tempfile::tempdir().expect("a folder");
    let other = fake::other_build(pumpd(), folder.path(), "other").expect("a copy");
    let hangs = folder.path().join("hangs");
    let text =
        format!("case $1 in master) exec sleep 600;; *) exec '{}' \"$@\";; esac", other.display());
    crate::script(&hangs, &text);
    cluster.ask(Ask::Restart(Restart { candidate: Some(hangs), ..Default::default() }));
    let master = cluster.master().pid;
    let rehearsal = pump_test::eventually(std::time::Duration::from_secs(30), || {
        let children = pump_test::process::children(master);
        let found =
            children.iter().find(|child| child.arguments.first().is_some_and(|it| it == "sleep"));
        found.cloned().ok_or(children)
    });
    kill(&mut cluster);
    pump_test::eventually(std::time::Duration::from_secs(30), || {
        if rehearsal.lives() { Err(()) } else { Ok(()) }
    });
    assert_eq!(cluster.roll(Some(&other)).outcome.exit, ExitStatus::Done);
}

/// The next master knows who takes the connections of a worker that leaves, and names another one when that
/// leaves, too.
#[test]
fn p5_a_worker_that_leaves_over_the_masters_death_is_given_another_taker() {
    let more = "[roll]\nlinger_seconds = 300\ndrain_seconds = 600\nwatch_seconds = 0\ncanary_seconds = 0\n";
    let (program, more) = (Some(pumpd().to_owned()), more.to_owned());
    let mut cluster =
        TestCluster::start(Setup { pumpd: program, more, held: true, ..Setup::default() });
    let mut upload = connect(&cluster);
    let form = b"grant_type=nothing-that-there-is";
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        form.len()
    );
    upload.write_all(&[head.as_bytes(), &form[..5]].concat()).expect("open");
    cluster.eventually(|status| {
        status.workers.iter().any(|worker| worker.classes.is_some_and(|open| open.upload == 1))
    });
    cluster.ask(Ask::Restart(Restart::default()));
    let draining = |worker: &&Worker| worker.state == WorkerState::Draining;
    let status = cluster.eventually(|status| {
        status.workers.len() == 3 && status.workers.iter().filter(draining).count() == 1
    });
    let leaving = status.workers.iter().find(draining).expect("it uploads").pid;
    // The roll is over with that, and the new workers leave for old ones.
    kill(&mut cluster);
    cluster.eventually(|status| {
        status.workers.len() == 3
            && status.workers.iter().all(|worker| (worker.pid == leaving) == draining(&worker))
            && status.workers.iter().all(|worker| worker.generation == 1)
    });
    upload.write_all(&form[5..]).expect("open");
    let text = answer(&mut upload);
    assert!(text.starts_with("http/1.1 400") && !text.contains("connection: close"), "{text}");
    upload.write_all(REQUEST).expect("open");
    let text = answer(&mut upload);
    assert!(text.starts_with("http/1.1 200") && !text.contains("connection: close"), "{text}");
    assert!(!text.contains(&format!(" {leaving}\r\n")), "{text}");
    cluster.eventually(|status| status.workers.len() == 2);
}

#[test]
fn p5_who_holds_is_told_to_end_and_ends_all() {
    let mut cluster = held();
    let workers = cluster.workers();
    assert_eq!(cluster.end().expect("it ends"), Some(0));
    assert!(workers.iter().all(|worker| !worker.lives()));
}

/// Two with one database and two runtime folders.
#[test]
fn two_masters_never_share_a_data_folder() {
    let cluster = TestCluster::start(Setup {
        pumpd: Some(pumpd().to_owned()),
        more: QUICK.to_owned(),
        ..Setup::default()
    });
    let text = fs::read_to_string(cluster.config()).expect("ours");
    let other = cluster.place().join("other");
    fs::create_dir(&other).expect("ours");
    let run = format!("{:?}", cluster.place().join("run"));
    let config = other.join("pumpd.toml");
    fs::write(&config, text.replace(&run, &format!("{other:?}"))).expect("ours");
    let output = std::process::Command::new(pumpd())
        .args(["master", "--config"])
        .arg(&config)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(i32::from(ExitStatus::Locked.code())), "{said}");
    assert!(said.contains("another master is at work on the data folder"), "{said}");
    assert_eq!(cluster.api().call("GET", "/", &[], b"").expect("an answer").status, 200);
}

/// It said that it is ready when nobody listened, and says so again when it is adopted.
#[test]
fn p5_a_worker_that_became_ready_while_there_was_no_master_serves_on() {
    let mut cluster = held();
    for _ in 0..3 {
        let before = pids(&cluster.workers());
        cluster.workers()[0].signal(Signal::SIGKILL).expect("it lives");
        let fresh = pump_test::eventually(std::time::Duration::from_secs(30), || {
            let now = pids(&cluster.workers());
            now.iter().copied().find(|one| !before.contains(one)).ok_or(now)
        });
        // In this very moment; a master that has not yet told anybody of its new worker cannot have it
        // adopted, and another one is started.
        kill(&mut cluster);
        cluster.eventually(|status| {
            let ready = |one: &&Worker| one.state == WorkerState::Ready && one.pid != before[0];
            status.workers.iter().filter(ready).count() == 2
        });
        let log = cluster.log();
        assert!(!log.contains("said twice"), "{log}");
        let adopted = log.lines().rfind(|line| line.contains("are adopted"));
        if adopted.is_some_and(|line| line.contains(" 2 workers")) {
            assert!(pids(&cluster.workers()).contains(&fresh), "an adopted worker stays: {log}");
        }
    }
}

/// The beginning of a request that takes its time.
const UPLOAD: &[u8] =
    b"POST /oauth/token HTTP/1.1\r\nHost: social.example\r\nContent-Length: 1000\r\n\
    Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=";

/// There is nothing to go on with: the next master begins anew, on addresses that somebody has kept open.
#[test]
fn p5_a_master_that_is_killed_while_it_stops_is_followed_by_a_sound_one() {
    let mut cluster = held();
    let mut connection = connect(&cluster);
    connection.write_all(UPLOAD).expect("open");
    let old = cluster.workers();
    cluster.ask(Ask::Stop);
    cluster.eventually(|status| status.phase == Phase::Stopping);
    kill(&mut cluster);
    // What the new one has kept is its own, and not what had the same name before.
    let fresh = pids(&cluster.workers());
    let fresh: Vec<u32> = fresh.into_iter().filter(|pid| !pids(&old).contains(pid)).collect();
    kill(&mut cluster);
    let status = cluster.eventually(|status| status.workers.len() == 2);
    let mut served: Vec<u32> = status.workers.iter().map(|one| one.pid).collect();
    served.sort_unstable();
    assert_eq!(served, fresh, "{}", cluster.log());
    assert_eq!(cluster.api().call("GET", "/", &[], b"").expect("an answer").status, 200);
    // The one that had the upload is nobody's, and ends with it.
    drop(connection);
    pump_test::eventually(std::time::Duration::from_secs(30), || {
        if old.iter().any(Process::lives) { Err(&old) } else { Ok(()) }
    });
}

/// What it missed while it stood still, it is told when it goes on.
#[test]
fn p5_a_holder_that_stood_still_in_a_roll_catches_up() {
    let mut cluster = held();
    let holder = Process::of(cluster.master().parent).expect("it lives");
    holder.signal(Signal::SIGSTOP).expect("it lives");
    let folder = tempfile::tempdir().expect("a folder");
    let new = fake::other_build(pumpd(), folder.path(), "new").expect("a copy");
    assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
    cluster.eventually(|status| status.workers.len() == 2);
    let workers = pids(&cluster.workers());
    holder.signal(Signal::SIGCONT).expect("it lives");
    // The old build is let go of when all else is kept.
    pump_test::eventually(std::time::Duration::from_secs(30), || {
        let open = fs::read_dir(format!("/proc/{}/fd", holder.pid)).expect("it lives");
        let links = open.flatten().filter_map(|one| fs::read_link(one.path()).ok());
        let links: Vec<_> = links.collect();
        let done = links.contains(&new) && links.iter().all(|link| link != pumpd());
        if done { Ok(()) } else { Err(links) }
    });
    kill(&mut cluster);
    assert_eq!(pids(&cluster.workers()), workers, "{}", cluster.log());
}

/// As for a moment while a program is installed by hand.
#[test]
fn p5_a_program_that_is_missing_for_a_while_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (program, away) = (folder.path().join("pumpd"), folder.path().join("away"));
    fs::copy(pumpd(), &program).expect("a copy");
    let mut cluster = TestCluster::start(Setup {
        pumpd: Some(program.clone()),
        more: QUICK.to_owned(),
        held: true,
        ..Setup::default()
    });
    let workers = pids(&cluster.workers());
    fs::rename(&program, &away).expect("ours");
    cluster.kill_master().expect("it lives");
    cluster.eventually_logs("no master could be started");
    fs::rename(&away, &program).expect("ours");
    cluster.eventually(|status| status.phase == Phase::Running);
    assert_eq!(pids(&cluster.workers()), workers, "the same workers");
}
