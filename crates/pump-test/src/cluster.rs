//! A real `pumpd` in a private place.
//!
//! Binaries are found by path, and nothing of them is linked: `PUMP_TEST_PUMPD` and `PUMP_TEST_PUMP`
//! name them, else they are looked for beside the running test (`target/debug/pumpd` for a test in
//! `target/debug/deps`), where `cargo build -p pumpd -p pump-cli` puts them.
//!
//! The daemon runs in a process group of its own. When the cluster is dropped it is sent SIGTERM and
//! then, if it must be, SIGKILL; a worker that is still there afterwards fails the test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pump_control::control::{Ask, Phase, Reply, Restart, Status};
use tempfile::TempDir;

use crate::api::{Account, Api};
use crate::control::{Control, Rolled};
use crate::eventually::{eventually, pause};
use crate::process::{self, Process};
use crate::wire::Address;

/// How long a cluster may take to run. Far beyond what it takes, for a machine that is busy.
const RUNS_WITHIN: Duration = Duration::from_secs(30);

/// How long a cluster may take to end after SIGTERM.
const ENDS_WITHIN: Duration = Duration::from_secs(45);

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The program; [`pumpd`] by default.
    pub pumpd: Option<PathBuf>,
    /// `workers` of the configuration.
    pub workers: u32,
    /// `listen` of the configuration; an entry may be `unix:http.sock`, below the private place.
    pub listen: Vec<String>,
    /// `data_dir` of the configuration, if it is not to be in the private place. It must be there.
    pub data: Option<PathBuf>,
    /// Whether `pumpd hold` starts the master, and starts it again when it dies.
    pub held: bool,
    /// More of the configuration, such as `[roll]` with its keys. `domain`, folders and `[test]` are
    /// there already. Unless it has `canary_seconds`, a roll compares nobody: most tests are about other
    /// things and shall not wait.
    pub more: String,
}

impl Default for Setup {
    fn default() -> Self {
        let listen = vec!["127.0.0.1:0".to_owned()];
        Self { pumpd: None, workers: 2, listen, data: None, held: false, more: String::new() }
    }
}

/// A running `pumpd`.
#[derive(Debug)]
pub struct TestCluster {
    place: TempDir,
    program: PathBuf,
    /// Or who holds it.
    master: Child,
    held: bool,
    /// Process groups of masters that were killed.
    orphaned: Vec<u32>,
    ended: bool,
}

impl TestCluster {
    /// Starts a cluster and waits until it runs.
    ///
    /// # Panics
    /// When it does not; the message has what it wrote.
    #[track_caller]
    pub fn start(setup: Setup) -> Self {
        match Self::try_start(setup) {
            Ok(cluster) => cluster,
            Err(error) => panic!("could not start a cluster: {error:#}"),
        }
    }

    /// Starts a cluster of two workers and waits until it runs.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[track_caller]
    pub fn usual() -> Self {
        Self::start(Setup::default())
    }

    /// Starts a cluster and waits until it runs.
    ///
    /// # Errors
    /// When it ends or does not run within 30 s, with what it wrote.
    pub fn try_start(setup: Setup) -> Result<Self> {
        let program = match setup.pumpd.clone() {
            Some(path) => path,
            None => pumpd()?,
        };
        let place = tempfile::Builder::new().prefix("pump-test-").tempdir()?;
        for folder in ["data", "run"] {
            fs::create_dir(place.path().join(folder))?;
        }
        let config = place.path().join("pumpd.toml");
        fs::write(&config, configuration(place.path(), &setup))?;
        let held = setup.held;
        let master = spawn(&program, place.path(), held)?;
        let mut cluster = Self { place, program, master, held, orphaned: Vec::new(), ended: false };
        cluster.wait_until_it_runs()?;
        Ok(cluster)
    }

    /// Kills the master, which leaves its workers without one. Where it is held, there is another one soon.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_master(&mut self) -> Result<()> {
        if self.held {
            return Ok(self.master().signal(Signal::SIGKILL)?);
        }
        self.master.kill()?;
        self.master.wait()?;
        self.orphaned.push(self.master.id());
        Ok(())
    }

    /// Starts a master where [`Self::kill_master`] has killed one.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        self.master = spawn(&self.program, self.place.path(), self.held)?;
        self.wait_until_it_runs()
    }

    fn wait_until_it_runs(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let seen = self.control().status();
            if seen.as_ref().is_ok_and(|status| status.phase == Phase::Running) {
                return Ok(());
            }
            if let Some(status) = self.master.try_wait()? {
                self.ended = true;
                bail!("pumpd ended with {status}; it wrote:\n{}", self.log());
            }
            if begun.elapsed() > RUNS_WITHIN {
                bail!("not running within {RUNS_WITHIN:?}: {seen:?}; it wrote:\n{}", self.log());
            }
            pause();
        }
    }

    /// The private place.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.place().join("pumpd.toml")
    }

    /// The program it was started by.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The control socket.
    pub fn control(&self) -> Control {
        Control::at(&self.place().join("run/control.sock"))
    }

    /// Asks over the control socket.
    ///
    /// # Panics
    /// When there is no reply.
    #[track_caller]
    pub fn ask(&self, ask: Ask) -> Reply {
        self.control().ask(ask).expect("the master replies")
    }

    /// The status.
    ///
    /// # Panics
    /// When there is no reply.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.control().status().expect("the master tells its status")
    }

    /// Rolls and waits for the end of it: onto `candidate`, or onto the path it was started by.
    ///
    /// # Panics
    /// When the control socket is closed before the end.
    #[track_caller]
    pub fn roll(&self, candidate: Option<&Path>) -> Rolled {
        let ask = Restart { candidate: candidate.map(Path::to_owned), ..Restart::default() };
        self.control().restart(ask, |_| ()).expect("the master tells how the roll ended")
    }

    /// The first address it listens on, with its true port.
    ///
    /// # Panics
    /// When the status has none.
    #[track_caller]
    pub fn address(&self) -> Address {
        let status = self.status();
        let first = status.listen.first().expect("it listens somewhere");
        first.parse().expect("the status tells addresses as they are written")
    }

    /// Its API.
    #[track_caller]
    pub fn api(&self) -> Api {
        Api::new(self.address(), self.status().public_url)
    }

    /// Makes an account with `pumpd account create` and signs it in.
    ///
    /// # Panics
    /// When either fails.
    #[track_caller]
    pub fn account(&self, name: &str) -> Account {
        let password = format!("correct horse {name}");
        create_account(&self.program, &self.config(), name, &password).expect("an account is made");
        self.api().sign_in(name, &password).expect("the account signs in")
    }

    /// The master's process.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn master(&self) -> Process {
        let first = self.master.id();
        if !self.held {
            return Process::of(first).expect("the master is there");
        }
        eventually(RUNS_WITHIN, || {
            let master =
                |child: &Process| child.arguments.get(1).is_some_and(|word| word == "master");
            let found = process::children(first).into_iter().find(master);
            found.ok_or("the holder has no master")
        })
    }

    /// The worker processes, counted from outside.
    pub fn workers(&self) -> Vec<Process> {
        // By their group: one that was adopted is nobody's child any more.
        let worker = |process: &Process| {
            process.group == self.master.id()
                && process.arguments.get(1).is_some_and(|word| word == "worker")
        };
        process::all().into_iter().filter(worker).collect()
    }

    /// Sends the master a signal.
    ///
    /// # Panics
    /// When it cannot be sent.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        self.master().signal(signal).expect("our own child takes signals");
    }

    /// All that it wrote so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.place().join("pumpd.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it has written this.
    ///
    /// # Panics
    /// When it has not within 30 s.
    #[track_caller]
    pub fn eventually_logs(&self, text: &str) {
        eventually(RUNS_WITHIN, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(format!("no `{text}` in:\n{log}")) }
        });
    }

    /// Waits until the status is as wanted, and returns it.
    ///
    /// # Panics
    /// When it is not within 60 s.
    #[track_caller]
    pub fn eventually(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        eventually(RUNS_WITHIN * 2, || match self.control().status() {
            Ok(status) if wanted(&status) => Ok(status),
            other => Err(Box::new(other)),
        })
    }

    /// Sends SIGTERM, waits for the end and returns the exit code; none after a signal.
    ///
    /// # Errors
    /// When it does not end within 45 s, or leaves a worker behind. All are ended all the same.
    pub fn end(&mut self) -> Result<Option<i32>> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        if let Ok(master) = Process::of(self.master.id()) {
            master.signal(Signal::SIGTERM)?;
        }
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = self.master.try_wait()? {
                break Some(status.code());
            }
            if begun.elapsed() > ENDS_WITHIN {
                self.master.kill()?;
                self.master.wait()?;
                break None;
            }
            pause();
        };
        let left = self.end_the_left_over()?;
        let log = || format!("it wrote:\n{}", self.log());
        ensure!(left.is_empty(), "the master left {left:?} behind; {}", log());
        code.with_context(|| format!("not ended within {ENDS_WITHIN:?} of SIGTERM; {}", log()))
    }

    /// Ends what is left of the master's process group, and says what it was.
    fn end_the_left_over(&self) -> Result<Vec<Process>> {
        let of_group = |process: &Process| {
            process.group == self.master.id() || self.orphaned.contains(&process.group)
        };
        let mut left: Vec<Process> = process::all().into_iter().filter(of_group).collect();
        // What dies with the master is as good as dead.
        left.retain(|process| !process.is_ended());
        for process in &left {
            process.signal(Signal::SIGKILL)?;
        }
        Ok(left)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has failed already; what it saw matters more than how this ends.
            let _ = self.master.kill().and_then(|()| self.master.wait());
            let _ = self.end_the_left_over();
        } else if let Err(error) = self.end() {
            panic!("the cluster did not end well: {error:#}");
        }
    }
}

fn spawn(program: &Path, place: &Path, held: bool) -> Result<Child> {
    let log = File::options().create(true).append(true).open(place.join("pumpd.log"))?;
    let mut command = Command::new(program);
    command.arg(if held { "hold" } else { "master" }).arg("--config").arg(place.join("pumpd.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().with_context(|| format!("running `{}`", program.display()))
}

fn configuration(place: &Path, setup: &Setup) -> String {
    let Setup { workers, listen, data, more, .. } = setup;
    let absolute = |address: &String| match address.strip_prefix("unix:") {
        Some(path) => format!("unix:{}", place.join(path).display()),
        None => address.clone(),
    };
    let listen: Vec<String> = listen.iter().map(absolute).collect();
    let no_canary = "[roll]\ncanary_seconds = 0\n";
    let more = match (more.contains("canary_seconds"), more.contains("[roll]\n")) {
        (true, _) => more.clone(),
        (false, true) => more.replacen("[roll]\n", no_canary, 1),
        (false, false) => format!("{more}\n{no_canary}"),
    };
    format!(
        "domain = \"social.example\"\nlisten = {listen:?}\nworkers = {workers}\n\
         data_dir = {:?}\nruntime_dir = {:?}\n{more}\n\n[test]\ngeneration_header = true\n",
        data.clone().unwrap_or_else(|| place.join("data")),
        place.join("run"),
    )
}

/// Makes an account with `pumpd account create`.
///
/// # Errors
/// When the daemon says no, with what it wrote.
pub fn create_account(pumpd: &Path, config: &Path, name: &str, password: &str) -> Result<()> {
    let mut command = Command::new(pumpd);
    command.args(["account", "create", name, "--password-stdin", "--config"]).arg(config);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("running `{}`", pumpd.display()))?;
    let mut stdin = child.stdin.take().context("a piped stdin")?;
    writeln!(stdin, "{password}")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not make the account `{name}`: {}", said.trim());
    Ok(())
}

/// The daemon under test.
///
/// # Errors
/// When there is none.
pub fn pumpd() -> Result<PathBuf> {
    binary("pumpd", std::env::var_os("PUMP_TEST_PUMPD"))
}

/// The operator's tool under test.
///
/// # Errors
/// When there is none.
pub fn pump() -> Result<PathBuf> {
    binary("pump", std::env::var_os("PUMP_TEST_PUMP"))
}

fn binary(name: &str, named: Option<std::ffi::OsString>) -> Result<PathBuf> {
    let path = match named {
        Some(path) => PathBuf::from(path),
        None => {
            let test = std::env::current_exe()?;
            let folder = test.parent().context("a program is in a folder")?;
            let deps = folder.file_name().is_some_and(|last| last == "deps");
            let folder = if deps { folder.parent().unwrap_or(folder) } else { folder };
            folder.join(name)
        }
    };
    let hint = "run `cargo build -p pumpd -p pump-cli`, or name it in PUMP_TEST_PUMPD or \
                PUMP_TEST_PUMP";
    ensure!(path.is_file(), "there is no `{}`; {hint}", path.display());
    Ok(path)
}
