//! 8, 9, 11 and 13: everything at once.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Phase, Restart};
use pump_test::process::Process;
use pump_test::{Api, Setup};

use super::{QUICK, Tried, Until};
use crate::pumpd;

/// A cluster whose master is started again by who holds it.
fn held() -> Tried {
    let listen = vec!["127.0.0.1:0".to_owned(), "unix:run/http.sock".to_owned()];
    Tried::with(Setup { listen, held: true, more: QUICK.to_owned(), ..Setup::default() })
}

/// New connections without a pause, until it is over. Returns how many were answered, and what went
/// wrong first.
fn knock(api: &Api, over: &AtomicBool) -> (u64, Option<String>) {
    let mut answered = 0;
    while !over.load(Ordering::Relaxed) {
        match api.call("GET", "/healthz", &[], b"") {
            Ok(answer) if answer.status == 200 => answered += 1,
            other => return (answered, Some(format!("{other:?}"))),
        }
    }
    (answered, None)
}

/// Workers die, signals come and people ask while one master after the other takes the place of the last.
#[test]
fn b08_nothing_that_happens_around_the_masters_exec_is_lost_or_ends_it() {
    let tried = Tried::new(QUICK);
    let master = tried.cluster.master();
    let builds = [tried.other("one"), tried.other("two")];
    let over = AtomicBool::new(false);
    let mut descriptors = Vec::new();
    std::thread::scope(|scope| {
        let killing = scope.spawn(|| {
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let workers = pump_test::census::workers(master.pid);
                if let Some(worker) = workers.get(round % 5) {
                    // It may have gone by itself.
                    let _ = worker.signal(Signal::SIGKILL);
                }
                for signal in [Signal::SIGUSR2, Signal::SIGHUP, Signal::SIGCHLD] {
                    master.signal(signal).expect("ours");
                }
                let _status = tried.cluster.control().status();
                std::thread::park_timeout(Duration::from_millis(37));
            }
        });
        let until = Until(&over);
        // Many of them fail, because workers die in them, or find another one under way.
        let mut done = 0;
        for round in 0.. {
            assert!(round < 10_000, "{done} of {round} rolls came to their end");
            let candidate = Some(builds[done % 2].clone());
            let ask = Restart { candidate, clear_latch: true, ..Restart::default() };
            let rolled = tried.cluster.control().restart(ask, |_| ());
            // Whatever it is, somebody is told.
            let rolled = rolled.expect("every request has an answer");
            assert!(!rolled.outcome.text.is_empty(), "{rolled:?}");
            if rolled.roll.is_none() {
                // Another one is under way, or the last one's workers are not all there yet.
                std::thread::park_timeout(Duration::from_millis(5));
            }
            assert!(master.lives(), "{}", tried.cluster.log());
            descriptors.push(tried.cluster.master().descriptors().expect("ours"));
            done += usize::from(rolled.outcome.exit == ExitStatus::Done);
            if done == 12 {
                break;
            }
        }
        drop(until);
        killing.join().expect("killing does not panic");
    });
    let status = tried.cluster.eventually(|status| {
        status.roll.is_none() && status.workers.len() == 2 && status.phase == Phase::Running
    });
    assert_eq!(status.pid, master.pid);
    let children = pump_test::process::children(master.pid);
    assert_eq!(children.len(), 2, "no child is left over: {children:?}");
    tried.good_roll();
    let after = tried.cluster.master().descriptors().expect("ours");
    let least = descriptors.iter().min().expect("some rolls");
    assert!(after <= least + 4, "descriptors pile up: {descriptors:?}, then {after}");
}

/// At another moment of each roll. Nobody is refused, and what then serves is one build.
#[test]
fn b09_a_master_that_is_killed_in_a_roll_costs_no_client_anything() {
    let mut tried = held();
    let over = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let builds = [tried.other("one"), tried.other("two")];
    let mut connections: Vec<_> = (0..20).map(|_| crate::client::connect(&tried.cluster)).collect();
    let mut use_all = || {
        for connection in &mut connections {
            std::io::Write::write_all(connection, crate::client::REQUEST).expect("open");
            assert!(crate::client::answer(connection).starts_with("http/1.1 200"));
        }
    };
    use_all();
    let api = tried.cluster.api();
    for round in 0..5_u64 {
        over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let knocking = scope.spawn(|| knock(&api, &over));
            let served = Until(&over);
            let ask = Restart {
                candidate: Some(builds[round as usize % 2].clone()),
                clear_latch: true,
                ..Restart::default()
            };
            let control = tried.cluster.control();
            let rolling = scope.spawn(move || control.restart(ask, |_| ()));
            let until = Instant::now() + Duration::from_millis(15 + round * 25);
            while Instant::now() < until && !rolling.is_finished() {
                std::thread::yield_now();
            }
            let before = tried.cluster.master();
            before.signal(Signal::SIGKILL).expect("it lives");
            // Told how it ended, or that nobody is there any more.
            let _told = rolling.join().expect("the roll's client does not panic");
            tried.cluster.eventually(|status| {
                status.pid != before.pid
                    && status.phase == Phase::Running
                    && status.workers.len() == 2
            });
            drop(served);
            let (count, wrong) = knocking.join().expect("knocking does not panic");
            assert_eq!(wrong, None, "round {round}\n{}", tried.cluster.log());
            answered.fetch_add(count, Ordering::Relaxed);
        });
        let built: Vec<String> =
            tried.cluster.workers().iter().filter_map(|worker| worker.build().ok()).collect();
        assert!(built.windows(2).all(|two| two[0] == two[1]), "round {round}: {built:?}");
        // The roll ended with its master, and whoever is there now has a master again.
        let status = tried.cluster.status();
        assert!(status.roll.is_none(), "round {round}: {status:?}");
        let log = tried.cluster.log();
        let adoptions = log.matches("workers of the last master are adopted").count();
        assert_eq!(adoptions, round as usize + 1, "{log}");
        use_all();
    }
    assert!(answered.load(Ordering::Relaxed) > 5, "somebody has knocked");
    tried.good_roll();
    use_all();
    drop(connections);
    assert_eq!(tried.cluster.end().expect("it ends all"), Some(0));
}

#[test]
fn b11_the_path_of_a_unix_socket_is_always_there_and_always_the_same() {
    let mut tried = held();
    let path = tried.cluster.place().join("run/http.sock");
    let over = AtomicBool::new(false);
    let (before, builds) = (of_file(&path), [tried.other("one"), tried.other("two")]);
    let connects = std::thread::scope(|scope| {
        let connecting = scope.spawn(|| connect_again_and_again(&path, &over));
        let until = Until(&over);
        for round in 0..12 {
            let rolled = tried.cluster.roll(Some(&builds[round % 2]));
            assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
            if round % 3 == 0 {
                let master = tried.cluster.master();
                master.signal(Signal::SIGKILL).expect("it lives");
                tried.cluster.eventually(|status| {
                    status.pid != master.pid && status.phase == Phase::Running
                });
            }
            assert_eq!(of_file(&path), before, "round {round}");
        }
        // Somebody else who wants the same path is refused and takes nothing along.
        let second = std::process::Command::new(pumpd())
            .args(["master", "--config"])
            .arg(tried.cluster.config())
            .output()
            .expect("it runs");
        assert!(!second.status.success(), "{second:?}");
        assert_eq!(of_file(&path), before);
        drop(until);
        connecting.join().expect("connecting does not panic")
    });
    let connects = connects.unwrap_or_else(|error| panic!("{error}\n{}", tried.cluster.log()));
    assert!(connects > 100, "{connects}");
    // For our own user and the group, which a proxy may be of.
    assert_eq!(before.1 & 0o777, 0o660);
    tried.good_roll();
    // The last master was started after one that was killed, and takes the file away all the same.
    let master = tried.cluster.master();
    master.signal(Signal::SIGKILL).expect("it lives");
    tried.cluster.eventually(|status| status.pid != master.pid && status.phase == Phase::Running);
    assert_eq!(tried.cluster.end().expect("it ends"), Some(0));
    assert!(!path.exists());
}

/// Somebody has put a socket of their own in its place meanwhile.
#[test]
fn b11_a_master_that_ends_takes_no_file_away_that_is_not_its_own() {
    let mut tried = held();
    let path = tried.cluster.place().join("run/http.sock");
    std::fs::remove_file(&path).expect("ours");
    let _others = std::os::unix::net::UnixListener::bind(&path).expect("it is free");
    let before = of_file(&path);
    let rolled = tried.cluster.roll(Some(&tried.other("new")));
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    assert_eq!(tried.cluster.end().expect("it ends"), Some(0));
    assert_eq!(of_file(&path), before);
}

/// The inode, the permissions and the owner.
fn of_file(path: &Path) -> (u64, u32, u32) {
    let found = std::fs::metadata(path).expect("the path is there");
    (found.ino(), found.mode(), found.uid())
}

fn connect_again_and_again(path: &Path, over: &AtomicBool) -> Result<u64, String> {
    let mut connects = 0;
    while !over.load(Ordering::Relaxed) {
        let mut socket =
            UnixStream::connect(path).map_err(|error| format!("connect {connects}: {error}"))?;
        if connects % 50 == 0 {
            let text =
                b"GET /healthz HTTP/1.1\r\nHost: social.example\r\nConnection: close\r\n\r\n";
            let mut answer = String::new();
            std::io::Write::write_all(&mut socket, text)
                .and_then(|()| socket.read_to_string(&mut answer))
                .map_err(|error| format!("request {connects}: {error}"))?;
            if !answer.starts_with("HTTP/1.1 200") {
                return Err(format!("request {connects}: {answer:.80}"));
            }
        }
        connects += 1;
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(connects)
}

/// Everybody asks for something: one roll at a time, one answer each, and nothing sticks.
#[test]
fn b13_of_many_commands_each_has_one_answer_and_one_roll_goes_at_a_time() {
    let tried = Tried::new(QUICK);
    let builds = [tried.other("one"), tried.other("two")];
    let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let by = Instant::now() + Duration::from_secs(300);
    std::thread::scope(|scope| {
        // Less than the control socket serves at a time, so that nobody is sent away.
        for client in 0..10 {
            let (done, refused) = (&done, &refused);
            let (control, builds) = (tried.cluster.control(), &builds);
            scope.spawn(move || {
                for round in 0.. {
                    if done.load(Ordering::Relaxed) >= 8 {
                        return;
                    }
                    assert!(Instant::now() < by, "nothing is rolled");
                    let candidate = Some(builds[(client + round) % 2].clone());
                    let ask = Restart { candidate, ..Restart::default() };
                    let rolled = control.restart(ask, |_| ()).expect("every request has an answer");
                    match (rolled.roll, rolled.outcome.exit) {
                        (Some(_), ExitStatus::Done) => done.fetch_add(1, Ordering::Relaxed),
                        (None, ExitStatus::RollInProgress) => {
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other:?}: {:?}", rolled.outcome),
                    };
                    std::thread::park_timeout(Duration::from_millis(2));
                }
            });
        }
        for _ in 0..20 {
            tried.cluster.signal(Signal::SIGUSR2);
            tried.cluster.signal(Signal::SIGHUP);
            let begun = Instant::now();
            tried.cluster.status();
            // Far beyond what a loop that waits for nobody takes.
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        }
    });
    assert!(refused.load(Ordering::Relaxed) > 0, "they have met");
    // A roll that a signal has begun may still be under way.
    tried.cluster.eventually(|status| status.roll.is_none() && status.workers.len() == 2);
    tried.good_roll();
}

/// Whatever is under way.
#[test]
fn b13_sigterm_wins() {
    for millis in [0, 30, 80, 150, 250] {
        let mut tried = Tried::new(QUICK);
        let new = tried.other("new");
        let everybody: Vec<Process> =
            tried.cluster.workers().into_iter().chain([tried.cluster.master()]).collect();
        let ask = pump_control::control::Ask::Restart(Restart {
            candidate: Some(new),
            ..Restart::default()
        });
        tried.cluster.ask(ask);
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        assert_eq!(tried.cluster.end().expect("it ends"), Some(0), "after {millis} ms");
        assert!(!everybody.iter().any(Process::lives), "after {millis} ms");
    }
}
