//! Rolls of one size and another: many workers, many idle connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pump_control::ExitStatus;
use pump_control::control::Restart;
use pump_test::TestCluster;
use pump_test::wire::Address;

use super::fleet::{pause, workers_memory};
use super::{Builds, cluster, say};

/// Idle connections that are tried.
const CROWDS: [usize; 3] = [0, 1_000, 10_000];

/// Numbers of workers that are tried.
const WORKERS: [u32; 3] = [2, 4, 8];

/// Rolls of each.
const ROLLS: usize = 3;

/// How long connections are idle before their memory is looked at.
const SETTLES: Duration = Duration::from_secs(5);

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: social.example\r\n\r\n";

/// Rolls with so many idle connections.
pub(super) struct Crowd {
    pub(super) connections: usize,
    /// How long each roll took.
    pub(super) rolls: Vec<Duration>,
    /// Resident memory that each connection costs its worker, in bytes. None without any.
    pub(super) each: Option<u64>,
    /// Requests on some of them while it was rolled, and the longest wait of one.
    pub(super) asked: usize,
    pub(super) worst: Duration,
    /// Connections that were closed or did not answer.
    pub(super) lost: usize,
}

/// Rolls with so many workers.
pub(super) struct ByWorkers {
    pub(super) workers: u32,
    pub(super) rolls: Vec<Duration>,
}

pub(super) fn measure(builds: &Builds, long: bool) -> anyhow::Result<Vec<Crowd>> {
    let rolls = if long { ROLLS * 3 } else { ROLLS };
    CROWDS.iter().map(|connections| crowd(builds, *connections, rolls)).collect()
}

fn crowd(builds: &Builds, connections: usize, rolls: usize) -> anyhow::Result<Crowd> {
    say("crowd", &format!("{connections} idle connections, {rolls} rolls"));
    let cluster = cluster(builds, 2)?;
    let Address::Tcp(address) = cluster.address() else { anyhow::bail!("no TCP address") };
    // One request to each, so that no worker is measured before its first.
    let mut first = connect(address)?;
    exchange(&mut first).context("a first request")?;
    let before = resident(&cluster)?;
    let mut idle = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = connect(address)?;
        exchange(&mut connection).context("the first request of a connection")?;
        idle.push(connection);
    }
    let mut each = None;
    if connections > 0 {
        pause(SETTLES);
        each = Some(resident(&cluster)?.saturating_sub(before) / connections as u64);
    }
    let mut crowd =
        Crowd { connections, rolls: Vec::new(), each, asked: 0, worst: Duration::ZERO, lost: 0 };
    for number in 0..rolls {
        let candidate = if number % 2 == 0 { &builds.new } else { &builds.old };
        roll_among(&cluster, candidate, &mut idle, &mut crowd)?;
    }
    Ok(crowd)
}

/// One roll, while somebody uses one connection after the other; then each of them is used.
fn roll_among(
    cluster: &TestCluster,
    candidate: &std::path::Path,
    idle: &mut Vec<TcpStream>,
    crowd: &mut Crowd,
) -> anyhow::Result<()> {
    let ask =
        Restart { candidate: Some(candidate.to_owned()), canary: Some(0), ..Restart::default() };
    let control = cluster.control();
    let begun = Instant::now();
    let (rolled, took) = std::thread::scope(|scope| {
        let rolling = scope.spawn(move || (control.restart(ask, |_| ()), begun.elapsed()));
        let mut next = 0;
        while !rolling.is_finished() {
            if idle.is_empty() {
                pause(Duration::from_millis(1));
                continue;
            }
            // Far apart from one another, and each at most once in a while.
            next = (next + 7919) % idle.len();
            let asked = Instant::now();
            match exchange(&mut idle[next]) {
                Ok(()) => crowd.worst = crowd.worst.max(asked.elapsed()),
                Err(_) => {
                    crowd.lost += 1;
                    idle.swap_remove(next);
                }
            }
            crowd.asked += 1;
            pause(Duration::from_millis(1));
        }
        rolling.join().expect("the roll's client does not panic")
    });
    let outcome = rolled?.outcome;
    ensure!(outcome.exit == ExitStatus::Done, "a roll failed: {outcome:?}\n{}", cluster.log());
    crowd.rolls.push(took);
    let before = idle.len();
    idle.retain_mut(|connection| exchange(connection).is_ok());
    crowd.lost += before - idle.len();
    Ok(())
}

pub(super) fn by_workers(builds: &Builds) -> anyhow::Result<Vec<ByWorkers>> {
    let mut all = Vec::new();
    for workers in WORKERS {
        say("workers", &format!("{workers} workers, {ROLLS} rolls"));
        let cluster = cluster(builds, workers)?;
        let mut rolls = Vec::new();
        for number in 0..ROLLS {
            let candidate = if number % 2 == 0 { &builds.new } else { &builds.old };
            let ask = Restart {
                candidate: Some(candidate.clone()),
                canary: Some(0),
                ..Restart::default()
            };
            let begun = Instant::now();
            let outcome = cluster.control().restart(ask, |_| ())?.outcome;
            rolls.push(begun.elapsed());
            ensure!(outcome.exit == ExitStatus::Done, "a roll failed: {outcome:?}");
        }
        all.push(ByWorkers { workers, rolls });
    }
    Ok(all)
}

fn resident(cluster: &TestCluster) -> anyhow::Result<u64> {
    Ok(workers_memory(cluster)?.iter().map(|memory| memory.rss_kib * 1024).sum())
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    Ok(stream)
}

/// One small request and its answer, which comes in one piece.
fn exchange(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(REQUEST)?;
    let mut buffer = [0; 4096];
    let mut length = 0;
    loop {
        let read = stream.read(&mut buffer[length..])?;
        ensure!(read > 0, "closed");
        length += read;
        let text = String::from_utf8_lossy(&buffer[..length]).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        ensure!(head.starts_with("http/1.1 200"), "answered with {head:.60}");
        ensure!(!head.contains("connection: close"), "the close is announced");
        let size = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let size: usize = size.context("no length")?.parse()?;
        if body.len() >= size {
            return Ok(());
        }
    }
}
