//! A cluster watched from outside, every few milliseconds: which processes there are and which of them
//! would take a connection. The master is not asked.
//!
//! A worker is ready, as seen from here, while the listening socket is in its event loop: it is among the
//! descriptors that its epoll waits for (`/proc/PID/fdinfo`). It gets there when the worker opens it, some
//! milliseconds before it says that it is ready, and leaves when the worker stops accepting.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::process;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What was seen of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// How often it was looked.
    pub looks: u64,
    /// The longest time between two looks: shorter things may have been missed.
    pub longest_pause: Duration,
    /// The smallest number of ready workers.
    pub least_ready: usize,
    /// The largest number of worker processes.
    pub most_processes: usize,
    /// Worker processes that were ever seen.
    pub processes: usize,
}

/// Watching under way.
#[derive(Debug)]
pub struct Watching {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Census>>,
}

impl Watching {
    /// Begins to watch the workers of a master, whose first address has this port.
    pub fn start(master: u32, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || watch(master, port, &stop)
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops, and returns what was seen.
    ///
    /// # Panics
    /// When the watching itself did.
    pub fn stop(mut self) -> Census {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("watching is stopped once");
        thread.join().expect("watching does not panic")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The ready workers of a master right now.
pub fn ready(master: u32, port: u16) -> Vec<u32> {
    let mut known = BTreeMap::new();
    look(master, &listeners(port), &mut known);
    known
        .into_iter()
        .filter(|(_, one)| matches!(one, One::Ready { .. }))
        .map(|(pid, _)| pid)
        .collect()
}

/// What is known of a child of the master.
#[derive(Debug, PartialEq, Eq)]
enum One {
    /// Something else than a worker.
    Other,
    /// Not listening yet.
    Starting,
    /// Its event loop waits for the listening socket, which has this link.
    Ready { link: PathBuf, socket: PathBuf },
    /// It did.
    Leaving,
}

fn watch(master: u32, port: u16, stop: &AtomicBool) -> Census {
    let mut census = Census { least_ready: usize::MAX, ..Census::default() };
    let sockets = listeners(port);
    let mut known = BTreeMap::new();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        census.processes += look(master, &sockets, &mut known);
        let count = |known: &BTreeMap<u32, One>| {
            known.values().filter(|one| matches!(one, One::Ready { .. })).count()
        };
        let mut ready = count(&known);
        if ready < census.least_ready && census.looks > 0 {
            // A look takes its time, in which a worker may have come and another one have left. What is
            // true is seen twice.
            census.processes += look(master, &sockets, &mut known);
            ready = ready.max(count(&known));
        }
        let workers = known.values().filter(|one| **one != One::Other).count();
        census.looks += 1;
        census.least_ready = census.least_ready.min(ready);
        census.most_processes = census.most_processes.max(workers);
        census.longest_pause = census.longest_pause.max(last.elapsed());
        last = Instant::now();
        std::thread::park_timeout(LOOK_EVERY);
    }
    census
}

/// Brings what is known up to date, and returns how many workers are new.
fn look(master: u32, sockets: &[PathBuf], known: &mut BTreeMap<u32, One>) -> usize {
    let children = children(master);
    known.retain(|pid, _| children.contains(pid));
    let mut new = 0;
    for pid in children {
        let one = match known.remove(&pid) {
            Some(One::Other) => One::Other,
            Some(One::Leaving) => One::Leaving,
            Some(One::Ready { link, socket })
                if fs::read_link(&link).ok().as_ref() == Some(&socket) =>
            {
                One::Ready { link, socket }
            }
            Some(One::Ready { .. }) => One::Leaving,
            Some(One::Starting) => listens(pid, sockets).unwrap_or(One::Starting),
            None => match is_worker(pid) {
                // Between fork and exec it is a copy of the master, and looked at again.
                None => continue,
                Some(false) => One::Other,
                Some(true) => {
                    new += 1;
                    listens(pid, sockets).unwrap_or(One::Starting)
                }
            },
        };
        known.insert(pid, one);
    }
    new
}

/// The children of a process, zombies too: proc(5), `/proc/PID/task/TID/children`.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// None as long as it cannot be told.
fn is_worker(pid: u32) -> Option<bool> {
    // In one piece: between two reads it may have exec'ed, and the halves are of two programs.
    let mut arguments = [0; 4096];
    let read = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?.read(&mut arguments).ok()?;
    let mut words = arguments[..read].split(|byte| *byte == 0).skip(1);
    match words.next() {
        None | Some(b"" | b"master") => None,
        Some(word) => Some(word == b"worker"),
    }
}

/// Whether one of the sockets is among those that an epoll of the process waits for.
fn listens(pid: u32, sockets: &[PathBuf]) -> Option<One> {
    let mut held = Vec::new();
    let mut polls = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let number = entry.file_name().to_str()?.to_owned();
        if sockets.contains(&target) {
            held.push((number, entry.path(), target));
        } else if target.as_os_str() == "anon_inode:[eventpoll]" {
            polls.push(number);
        }
    }
    for poll in polls {
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{poll}")).unwrap_or_default();
        let waits = |number: &str| {
            let numbers = text.lines().filter_map(|line| line.strip_prefix("tfd:"));
            numbers.filter_map(|line| line.split_ascii_whitespace().next()).any(|tfd| tfd == number)
        };
        if let Some((_, link, socket)) = held.iter().find(|(number, ..)| waits(number)) {
            return Some(One::Ready { link: link.clone(), socket: socket.clone() });
        }
    }
    None
}

/// The listening TCP sockets with this port, as links in `/proc/PID/fd` name them.
fn listeners(port: u16) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(file).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            // The address, the state (0A is LISTEN), the inode.
            let (Some(local), Some(&"0A"), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let its = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if its == Some(port) {
                found.push(PathBuf::from(format!("socket:[{inode}]")));
            }
        }
    }
    found
}

/// Counters of the kernel's TCP, of the network namespace that we are in (`/proc/net/snmp`, `netstat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Segments that were sent with RST.
    pub resets: u64,
    /// Connections that were dropped because a queue was full.
    pub listen_drops: u64,
    /// Resets because something unread was closed.
    pub closed_unread: u64,
}

impl Tcp {
    /// As they are now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn now() -> io::Result<Self> {
        let snmp = fs::read_to_string("/proc/net/snmp")?;
        let netstat = fs::read_to_string("/proc/net/netstat")?;
        Ok(Self {
            resets: counter(&snmp, "Tcp:", "OutRsts")?,
            listen_drops: counter(&netstat, "TcpExt:", "ListenDrops")?,
            closed_unread: counter(&netstat, "TcpExt:", "TCPAbortOnClose")?,
        })
    }

    /// What has come since.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            resets: self.resets - earlier.resets,
            listen_drops: self.listen_drops - earlier.listen_drops,
            closed_unread: self.closed_unread - earlier.closed_unread,
        }
    }
}

/// A line of names, and below it a line of values.
fn counter(text: &str, prefix: &str, name: &str) -> io::Result<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(prefix));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let mut pairs = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    let found = pairs.find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no {name}")))
}

/// How often each thread of a process went to sleep by itself and was woken: proc(5),
/// `voluntary_ctxt_switches`.
///
/// # Errors
/// When the process is gone or somebody else's.
pub fn wake_ups(pid: u32) -> io::Result<BTreeMap<u32, u64>> {
    of_threads(pid, |task| {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    })
}

/// How long each thread of a process had a processor, in nanoseconds: the kernel's
/// `Documentation/scheduler/sched-stats`, `/proc/PID/schedstat`.
///
/// # Errors
/// As [`wake_ups`].
pub fn on_processor(pid: u32) -> io::Result<BTreeMap<u32, u64>> {
    of_threads(pid, |task| {
        let stat = fs::read_to_string(task.join("schedstat")).ok()?;
        stat.split_ascii_whitespace().next()?.parse().ok()
    })
}

/// By how much a sum over threads has grown. What a thread did that ended meanwhile is not known.
pub fn growth(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) -> u64 {
    let grown = |(thread, count): (&u32, &u64)| {
        count.saturating_sub(before.get(thread).copied().unwrap_or(0))
    };
    after.iter().map(grown).sum()
}

/// A thread that ends while we look is one that is not there.
fn of_threads(
    pid: u32,
    look: impl Fn(&std::path::Path) -> Option<u64>,
) -> io::Result<BTreeMap<u32, u64>> {
    let mut all = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let thread = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let (Some(thread), Some(count)) = (thread, look(&path)) {
            all.insert(thread, count);
        }
    }
    Ok(all)
}

/// The worker processes of a master that have not ended.
pub fn workers(master: u32) -> Vec<process::Process> {
    let mut all = process::children(master);
    all.retain(|child| child.arguments.iter().any(|word| word == "worker"));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_names() {
        let text = "Ip: a b\nIp: 1 2\nTcp: InSegs OutRsts\nTcp: 7 9\n";
        assert_eq!(counter(text, "Tcp:", "OutRsts").expect("it is there"), 9);
        assert!(counter(text, "Tcp:", "Absent").is_err());
        let now = Tcp::now().expect("this kernel tells");
        assert_eq!(now.since(now), Tcp::default());
    }

    #[test]
    fn a_listening_socket_has_a_name_among_descriptors() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(listeners(port).len(), 1);
        let (woken, ran) = (wake_ups(std::process::id()), on_processor(std::process::id()));
        let (woken, ran) = (woken.expect("ours"), ran.expect("ours"));
        assert!(woken.contains_key(&std::process::id()) && ran.len() == woken.len());
        assert_eq!((growth(&woken, &woken), growth(&BTreeMap::new(), &ran) > 0), (0, true));
    }
}
