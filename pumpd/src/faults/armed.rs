//! The faults, as the bytes behind the program's end tell them.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use nix::sys::signal::{SigSet, Signal};
use pump_http::Body;
use pump_release::ReleaseInfo;
use serde::Deserialize;

use super::attempts;

/// The last bytes of a program that is to fail. Before them stands the length of what they end, in four
/// bytes (little endian), and before that the faults, in JSON.
const MARK: &[u8] = b"pumpd, with faults\n";

/// Longest description of faults, in bytes.
const MAX_FAULTS: u64 = 16 * 1024;

/// How long something that never ends lasts. What a test has forgotten ends by itself.
const FOR_EVER: Duration = Duration::from_secs(600);

/// The exit code of a worker that dies of a fault.
const DIED: i32 = 9;

/// What goes wrong. `pump_test::fake::Faults` is its twin, and says what each of them is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Faults {
    /// Makes two programs with the same faults two builds.
    name: String,
    version: Option<semver::Version>,
    magic: Option<u32>,
    migrate_fails: bool,
    exits: Option<u8>,
    hangs: bool,
    stays: bool,
    blocks_when_leaving: bool,
    blocks_after_requests: Option<u64>,
    dies_after_millis: Option<u64>,
    dies_after_requests: Option<u64>,
    errors_percent: u64,
    panics_percent: u64,
    delay_millis: u64,
    leaks_kib: usize,
    takes_kib: usize,
    after_exec: Option<Break>,
    rehearsing: Option<Break>,
    rehearses_millis: u64,
    attempts_after_millis: Option<u64>,
    attempts_everywhere: bool,
}

/// How a master breaks.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Break {
    Hangs,
    Aborts,
    OverflowsItsStack,
    Exits,
    Fails,
}

/// The faults of this program; none when there is nothing behind its end.
fn faults() -> Option<&'static Faults> {
    static FAULTS: OnceLock<Option<Faults>> = OnceLock::new();
    let faults = FAULTS.get_or_init(|| {
        let text = read().expect("the own program can be read")?;
        Some(serde_json::from_slice(&text).expect("faults are written by our own tests"))
    });
    faults.as_ref()
}

fn read() -> io::Result<Option<Vec<u8>>> {
    let mut program = File::open("/proc/self/exe")?;
    let mut end = [0; 4 + MARK.len()];
    program.seek(SeekFrom::End(-(end.len() as i64)))?;
    program.read_exact(&mut end)?;
    let (length, mark) = end.split_at(4);
    if mark != MARK {
        return Ok(None);
    }
    let length = length.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
    program.seek(SeekFrom::End(-((end.len() as u64 + length.min(MAX_FAULTS)) as i64)))?;
    let mut text = Vec::new();
    program.take(length.min(MAX_FAULTS)).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// The first thing that `main` does: says that this program will fail, and how.
pub(crate) fn arm() {
    if let Some(faults) = faults() {
        say(&format!("warning: this program was told to fail: {faults:?}"));
    }
}

/// What `release-info` says.
pub(crate) fn info(mut info: ReleaseInfo) -> ReleaseInfo {
    let Some(faults) = faults() else { return info };
    if let Some(version) = &faults.version {
        info.version = version.clone();
    }
    if let Some(magic) = faults.magic {
        info.magic = magic;
        info.accepts = Vec::new();
    }
    info
}

/// Before the database is changed.
pub(crate) fn migrating() -> io::Result<()> {
    match faults() {
        Some(Faults { migrate_fails: true, .. }) => Err(io::Error::other("no room")),
        _ => Ok(()),
    }
}

/// Before a worker does anything.
pub(crate) fn worker_starts() {
    let Some(faults) = faults() else { return };
    if faults.stays {
        let terminate = SigSet::from_iter([Signal::SIGTERM]);
        terminate.thread_block().expect("the own mask can be set");
    }
    if let Some(code) = faults.exits {
        say("no good");
        exit(i32::from(code));
    }
    if faults.hangs {
        wait_for_ever();
    }
    take(faults.takes_kib);
}

/// Takes so much memory and never gives it back.
fn take(kib: usize) {
    // Ones, because the kernel gives no memory for zeros before they are written.
    std::mem::forget(vec![1_u8; kib * 1024]);
}

/// When the master has been told that the worker is ready.
pub(crate) fn worker_is_ready(number: u64) {
    if let Some(Faults { attempts_after_millis: Some(millis), attempts_everywhere, .. }) = faults()
    {
        let after = Duration::from_millis(*millis);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            attempts::by_worker(number, *attempts_everywhere);
        });
    }
    if let Some(Faults { dies_after_millis: Some(millis), .. }) = faults() {
        let after = Duration::from_millis(*millis);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            die();
        });
    }
}

/// When the worker was asked to leave, and has done nothing for it yet.
pub(crate) async fn worker_leaves() {
    match faults() {
        Some(Faults { stays: true, .. }) => std::future::pending().await,
        Some(Faults { blocks_when_leaving: true, .. }) => spin_for_ever(),
        _ => {}
    }
}

/// Around each answer. An answer that is spoiled was not worked for: nothing was posted.
pub(crate) async fn answering(
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let Some(faults) = faults() else { return answer.await };
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    // Evenly: of each hundred requests, the same number.
    let hits = |percent: u64| number * percent / 100 > (number - 1) * percent / 100;
    if faults.dies_after_requests == Some(number) {
        die();
    }
    if faults.blocks_after_requests == Some(number) {
        spin_for_ever();
    }
    take(faults.leaks_kib);
    if faults.delay_millis > 0 {
        tokio::time::sleep(Duration::from_millis(faults.delay_millis)).await;
    }
    assert!(!hits(faults.panics_percent), "told to panic");
    if hits(faults.errors_percent) {
        let mut spoiled = Response::new(Body::from("told to fail\n"));
        *spoiled.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(spoiled);
    }
    answer.await
}

/// When the master has said that it is ready.
pub(crate) fn master_is_ready() {
    if let Some(Faults { attempts_everywhere: true, .. }) = faults() {
        attempts::by_master();
    }
}

/// Right after this program has taken the place of a running master.
pub(crate) fn master_took_over() -> io::Result<()> {
    faults().and_then(|faults| faults.after_exec).map_or(Ok(()), break_down)
}

/// When this program shows, as a child, whether it could take a master's place.
pub(crate) fn rehearsing() -> io::Result<()> {
    if let Some(Faults { rehearses_millis: millis @ 1.., .. }) = faults() {
        sleep(Duration::from_millis(*millis));
    }
    faults().and_then(|faults| faults.rehearsing).map_or(Ok(()), break_down)
}

fn break_down(how: Break) -> io::Result<()> {
    match how {
        Break::Hangs => wait_for_ever(),
        Break::Aborts => std::process::abort(),
        Break::OverflowsItsStack => drop(overflow(0)),
        Break::Exits => exit(DIED),
        Break::Fails => return Err(io::Error::other("told to fail")),
    }
    Ok(())
}

/// Takes a page of the stack and does it again.
fn overflow(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 512]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1) + page[depth as usize % page.len()] }
}

fn die() -> ! {
    say("died soon");
    exit(DIED)
}

#[expect(clippy::disallowed_methods, reason = "ending without a farewell is the fault")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

fn wait_for_ever() {
    sleep(FOR_EVER);
    exit(DIED);
}

#[expect(clippy::disallowed_methods, reason = "doing nothing is the fault")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

fn spin_for_ever() {
    let begun = Instant::now();
    while begun.elapsed() < FOR_EVER {
        std::hint::spin_loop();
    }
}

pub(super) fn say(text: &str) {
    // Where nobody reads, nobody is told.
    let _ = writeln!(io::stderr(), "{text}");
}
