//! A roll onto a configuration with other addresses: what stays loses nobody, what is new is there, what
//! is gone is let go of.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pump_control::ExitStatus;
use pump_test::{Setup, TestCluster};

use crate::client::{REQUEST, answer};
use crate::pumpd;

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\ncanary_seconds = 0\n";

fn start(listen: &[&str]) -> TestCluster {
    let listen = listen.iter().map(|&address| address.to_owned()).collect();
    let (pumpd, more) = (Some(pumpd().to_owned()), QUICK.to_owned());
    TestCluster::start(Setup { pumpd, listen, more, ..Setup::default() })
}

fn listen_on(cluster: &TestCluster, listen: &[String]) {
    let text = fs::read_to_string(cluster.config()).expect("ours");
    let lines = text.lines().map(|line| match line.starts_with("listen =") {
        true => format!("listen = {listen:?}"),
        false => line.to_owned(),
    });
    fs::write(cluster.config(), lines.collect::<Vec<_>>().join("\n")).expect("ours");
}

fn unix(cluster: &TestCluster, name: &str) -> String {
    format!("unix:{}", cluster.place().join(name).display())
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").ino()
}

/// Ends the clients, also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    socket.local_addr().expect("it is bound")
}

fn is_answered(mut stream: impl std::io::Read + Write) {
    stream.write_all(REQUEST).expect("open");
    assert!(answer(&mut stream).starts_with("http/1.1 200"));
}

#[test]
fn b10_addresses_come_and_go_with_a_roll_and_those_that_stay_lose_nobody() {
    let cluster = start(&["127.0.0.1:0", "unix:run/a.sock"]);
    let (first, a) = (cluster.address().to_string(), cluster.place().join("run/a.sock"));
    let before = inode(&a);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Without a pause: whoever is in a queue at the moment of a roll is answered too.
        let knock = |address: String| {
            let (over, a) = (&over, &a);
            move || {
                let mut answered = 0;
                while !over.load(Ordering::Relaxed) {
                    is_answered(TcpStream::connect(&address).expect("it listens"));
                    is_answered(UnixStream::connect(a).expect("it listens"));
                    answered += 1;
                }
                answered
            }
        };
        let ends = Ends(&over);
        let clients = [scope.spawn(knock(first.clone())), scope.spawn(knock(first.clone()))];
        for _ in 0..4 {
            let (second, b) = (free(), unix(&cluster, "run/b.sock"));
            let stays = ["127.0.0.1:0".to_owned(), unix(&cluster, "run/a.sock")];
            listen_on(&cluster, &[&stays[..], &[second.to_string(), b.clone()]].concat());
            let rolled = cluster.roll(None);
            assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
            is_answered(TcpStream::connect(second).expect("it listens now"));
            let b = Path::new(b.trim_start_matches("unix:"));
            is_answered(UnixStream::connect(b).expect("it listens now"));
            assert_eq!(cluster.status().listen.len(), 4);

            listen_on(&cluster, &stays);
            assert_eq!(cluster.roll(None).outcome.exit, ExitStatus::Done);
            TcpStream::connect(second).expect_err("nobody listens any more");
            assert!(!b.exists(), "the socket file is gone with it");
            assert_eq!(cluster.status().listen.len(), 2);
            assert_eq!(inode(&a), before, "b11: never another file");
        }
        drop(ends);
        for client in clients {
            assert!(client.join().expect("nobody was refused or cut") > 0);
        }
    });
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_is_touched() {
    let cluster = start(&["127.0.0.1:0"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("it is bound");
    let pids = || cluster.workers().iter().map(|worker| worker.pid).collect::<Vec<_>>();
    let before = pids();
    let new = unix(&cluster, "run/new.sock");
    listen_on(&cluster, &["127.0.0.1:0".to_owned(), new, taken.1.to_string()]);
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::AddressInUse, "{rolled:?}");
    assert!(rolled.outcome.text.contains(&taken.1.to_string()), "{rolled:?}");
    assert_eq!(pids(), before);
    assert!(!cluster.place().join("run/new.sock").exists(), "nothing of it is left");
    drop(taken);
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    assert!(cluster.place().join("run/new.sock").exists());
}

#[test]
fn two_databases_are_never_served_at_once() {
    let cluster = start(&["127.0.0.1:0"]);
    let text = fs::read_to_string(cluster.config()).expect("ours");
    fs::write(cluster.config(), text.replace("/data\"", "/other\"")).expect("ours");
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit, ExitStatus::Preflight, "{rolled:?}");
    assert!(rolled.outcome.text.contains("two databases"), "{rolled:?}");
}
