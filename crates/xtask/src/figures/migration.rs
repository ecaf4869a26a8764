//! What clients notice of a migration of ten million notes: p99 of reads before, meanwhile and afterwards.
//!
//! A server of before serves a database of version 1; clients read notes and profiles at random and post.
//! `pumpd migrate` of the new build is run beside it, killed in the middle, and run again. Nothing may fail,
//! and no post may be lost. Times are told; on a machine that does other things as well they are worse.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pump_control::answers::Migrated;
use pump_control::control::Restart;
use pump_test::{Api, Control, create_account};
use serde_json::Value;

use super::print;

/// Clients that read, each after a pause of [`PAUSE`].
const READERS: u64 = 6;

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(10);

/// How long is measured before and afterwards.
const STILL: Duration = Duration::from_secs(60);

/// The same for fewer notes than a million, which is for trying this out.
const STILL_FEW: Duration = Duration::from_secs(10);

/// At which share of the notes the migration is killed. By rows: its own share is one of keys, and those of
/// the sample are far from today's.
const KILLED_AT: f64 = 0.3;

/// How long the server may take to answer at all.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

/// Accounts that the notes are of.
const ACCOUNTS: i64 = 1000;

/// What was noticed in one part of the run.
#[derive(Default)]
struct Part {
    reads: Vec<Duration>,
    writes: Vec<Duration>,
}

/// The parts, one after the other.
const PARTS: [&str; 3] = ["before", "during", "after"];

struct Seen {
    part: AtomicU64,
    over: AtomicBool,
    parts: Mutex<[Part; 3]>,
    failed: AtomicU64,
}

pub(super) fn run(new: &Path, old: Option<&Path>, notes: i64) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("pump-migration-").tempdir()?;
    let place = folder.path();
    for name in ["data", "run"] {
        std::fs::create_dir(place.join(name))?;
    }
    let config = place.join("pumpd.toml");
    std::fs::write(
        &config,
        format!(
            "domain = \"social.example\"\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\ndata_dir = {:?}\n\
             runtime_dir = {:?}\n[roll]\ncanary_seconds = 0\n",
            place.join("data"),
            place.join("run")
        ),
    )?;
    let begun = Instant::now();
    let data = place.join("data");
    let url = "https://social.example";
    let ids = pump_store::sample(&data, url, ACCOUNTS, notes, (notes / 100_000).max(1))?;
    let bytes = std::fs::metadata(pump_store::database(&data))?.len();
    print(&format!(
        "{notes} notes are made, {} MiB, in {:.0} s\n",
        bytes >> 20,
        begun.elapsed().as_secs_f64()
    ));
    let server = old.unwrap_or(new);
    if old.is_none() {
        finish(&mut migrate(new, &config, &["--expand"])?, |_| true)?;
    }
    create_account(server, &config, "alice", "correct horse battery")?;
    let mut master = Master::start(server, place)?;
    let outcome = measure(new, &config, place, notes, &ids, old);
    master.stop()?;
    outcome
}

fn measure(
    new: &Path,
    config: &Path,
    place: &Path,
    notes: i64,
    ids: &[i64],
    old: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let control = Control::at(&place.join("run/control.sock"));
    let begun = Instant::now();
    let status = loop {
        match control.status() {
            Ok(status) if status.phase == pump_control::control::Phase::Running => break status,
            _ => {}
        }
        ensure!(begun.elapsed() < STARTS_WITHIN, "the server does not start");
        std::thread::park_timeout(Duration::from_millis(50));
    };
    let address = status.listen.first().context("it listens nowhere")?.parse()?;
    let api = Api::new(address, status.public_url);
    let alice = api.sign_in("alice", "correct horse battery")?;
    let seen = Seen {
        part: AtomicU64::new(0),
        over: AtomicBool::new(false),
        parts: Mutex::default(),
        failed: AtomicU64::new(0),
    };
    let wal = AtomicU64::new(0);
    std::thread::scope(|scope| -> anyhow::Result<ExitCode> {
        for reader in 0..READERS {
            let (api, seen) = (&api, &seen);
            scope.spawn(move || read(api, seen, ids, reader));
        }
        let (api, seen) = (&api, &seen);
        let alice = &alice;
        let writer = scope.spawn(move || write(api, seen, alice));
        let outcome = (|| -> anyhow::Result<_> {
            let still = if notes < 1_000_000 { STILL_FEW } else { STILL };
            wait(still, place, &wal);
            seen.part.store(1, Ordering::Relaxed);
            let begun = Instant::now();
            let mut first = migrate(new, config, &[])?;
            let told = finish(&mut first, |rows| {
                look(place, &wal);
                (rows as f64) < notes as f64 * KILLED_AT
            })?;
            ensure!(!told.complete, "the migration was over before it could be killed");
            let killed_at = told.rows;
            let last = finish(&mut migrate(new, config, &[])?, |_| {
                look(place, &wal);
                true
            })?;
            let took = begun.elapsed();
            seen.part.store(2, Ordering::Relaxed);
            wait(still, place, &wal);
            let roll = |onto: &Path| -> anyhow::Result<Duration> {
                let ask = Restart { candidate: Some(onto.to_owned()), ..Restart::default() };
                let begun = Instant::now();
                let rolled = Control::at(&place.join("run/control.sock")).restart(ask, |_| ())?;
                ensure!(rolled.outcome.exit == pump_control::ExitStatus::Done, "{rolled:?}");
                Ok(begun.elapsed())
            };
            // Posts go on: each is by one of the two builds, and is looked for at the end.
            let rolled = match old {
                Some(old) => Some((roll(new)?, roll(old)?)),
                None => None,
            };
            Ok((took, killed_at, last, rolled))
        })();
        seen.over.store(true, Ordering::Relaxed);
        let posted = writer.join().expect("no panic");
        let (took, killed_at, last, rolled): (_, _, Migrated, _) = outcome?;
        let kept = api.outbox("alice")?.len() as u64;
        ensure!(last.complete, "the migration says that it is not complete");
        let total = u64::try_from(notes)? + posted;
        let resumed = last.rows + killed_at <= total + 50_000 && killed_at > 0 && last.rows > 0;
        let parts = seen.parts.lock().expect("no panic");
        let failed = seen.failed.load(Ordering::Relaxed);
        let mut text = String::from(
            "| part | reads | p50 ms | p99 ms | worst ms | posts | p99 ms | worst ms |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for (name, part) in PARTS.iter().zip(parts.iter()) {
            let ms = |times: &[Duration], share| at(times, share).as_secs_f64() * 1000.0;
            text.push_str(&format!(
                "| {name} | {} | {:.1} | {:.1} | {:.0} | {} | {:.1} | {:.0} |\n",
                part.reads.len(),
                ms(&part.reads, 0.5),
                ms(&part.reads, 0.99),
                ms(&part.reads, 1.0),
                part.writes.len(),
                ms(&part.writes, 0.99),
                ms(&part.writes, 1.0),
            ));
        }
        let ratio = |part: usize| {
            let p99 = |part: &Part| at(&part.reads, 0.99).as_secs_f64();
            p99(&parts[1]) / p99(&parts[part]).max(1e-6)
        };
        text.push_str(&format!(
            "\np99 of reads during the migration: {:.2} times before, {:.2} times after (≤ 2)\n\
             migrated in {:.0} s; killed after {killed_at} rows, then {} more were left ({})\n\
             the log was at most {} MiB; failed requests {failed}; posts kept {kept} of {posted}\n",
            ratio(0),
            ratio(2),
            took.as_secs_f64(),
            last.rows,
            if resumed { "it went on where it was" } else { "it began again" },
            wal.load(Ordering::Relaxed) >> 20,
        ));
        if let Some((forth, back)) = rolled {
            text.push_str(&format!(
                "then rolled onto the new build in {forth:.1?}, and back to the old one in {back:.1?}\n"
            ));
        }
        print(&text);
        let good = failed == 0 && kept == posted && resumed;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Reads notes and profiles, at random.
fn read(api: &Api, seen: &Seen, ids: &[i64], number: u64) {
    let mut random = number + 1;
    let mut next = |below: usize| {
        // xorshift64 (Marsaglia 2003): where to look, nothing else.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap_or(0)
    };
    while !seen.over.load(Ordering::Relaxed) {
        let path = match next(2) {
            0 => format!("/notes/{}", ids[next(ids.len())]),
            _ => format!("/@{}{}", pump_store::SAMPLE_NAME, 1 + next(ACCOUNTS as usize)),
        };
        let part = seen.part.load(Ordering::Relaxed) as usize;
        let begun = Instant::now();
        match api.call("GET", &path, &[("Accept", "text/html, */*;q=0.1")], b"") {
            Ok(answer) if answer.status < 400 => {
                seen.parts.lock().expect("no panic")[part].reads.push(begun.elapsed());
            }
            _ => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// Posts, and returns how often that was answered with success.
fn write(api: &Api, seen: &Seen, alice: &pump_test::Account) -> u64 {
    let mut posted = 0;
    while !seen.over.load(Ordering::Relaxed) {
        let part = seen.part.load(Ordering::Relaxed) as usize;
        let begun = Instant::now();
        match api.post(alice, &format!("post {posted}")) {
            Ok(_) => {
                posted += 1;
                seen.parts.lock().expect("no panic")[part].writes.push(begun.elapsed());
            }
            Err(_) => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::park_timeout(PAUSE * 5);
    }
    posted
}

/// The time that this share of them stays within.
fn at(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

fn migrate(pumpd: &Path, config: &Path, words: &[&str]) -> anyhow::Result<Child> {
    let mut command = Command::new(pumpd);
    command.arg("migrate").args(words).arg("--config").arg(config).stdout(Stdio::piped());
    command.spawn().context("could not run the migration")
}

/// Follows a migration for as long as `on` says, and kills it then. Returns what it said last.
fn finish(child: &mut Child, on: impl Fn(u64) -> bool) -> anyhow::Result<Migrated> {
    let mut last = Migrated { from: 0, to: 0, rows: 0, complete: false, compat: 0 };
    let output = child.stdout.take().context("a piped output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        let said: Value = serde_json::from_str(&line)?;
        let Some(filling) = said.get("filling") else {
            last = serde_json::from_str(&line)?;
            continue;
        };
        last.rows = filling["rows"].as_u64().unwrap_or(0);
        if !on(last.rows) {
            child.kill()?;
            child.wait()?;
            return Ok(last);
        }
    }
    ensure!(child.wait()?.success(), "the migration failed");
    Ok(last)
}

/// Waits, and looks at the log meanwhile.
fn wait(lasts: Duration, place: &Path, wal: &AtomicU64) {
    let begun = Instant::now();
    while begun.elapsed() < lasts {
        look(place, wal);
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

fn look(place: &Path, wal: &AtomicU64) {
    let found = std::fs::metadata(place.join("data/pump.sqlite3-wal")).map_or(0, |it| it.len());
    wal.fetch_max(found, Ordering::Relaxed);
}

/// The server; it ends with this.
struct Master(Child);

impl Master {
    fn start(pumpd: &Path, place: &Path) -> anyhow::Result<Self> {
        let log = std::fs::File::create(place.join("pumpd.log"))?;
        let mut command = Command::new(pumpd);
        command.arg("master").arg("--config").arg(place.join("pumpd.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("could not run the server")?))
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // It has ended already, or something else has failed, which is what matters.
        if self.0.try_wait().ok().flatten().is_none() {
            let _ = self.stop();
        }
    }
}
