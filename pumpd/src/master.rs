//! The master: one thread that decides which workers there are.
//!
//! It parses no byte from the network and opens no database. It waits for one thing at a time (a
//! signal, a death, a line from a worker or from `pump`, a deadline), tells the policy in [`cluster`],
//! and carries out what the policy answers. `child` and `worker` know how processes are made,
//! `listen` owns the sockets, `control` speaks with `pump`, `notify` with systemd.

mod asked;
mod canary;
mod candidate;
mod carried;
mod child;
mod cluster;
mod control;
mod deeds;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod generation;
mod jobs;
mod keeper;
mod latch;
mod libraries;
mod listen;
mod lock;
mod memory;
mod metrics;
mod notify;
mod nudges;
mod outcome;
mod place;
mod probes;
mod reload;
mod replace;
mod resume;
mod rolls;
mod signals;
mod status;
mod steps;
mod turn;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::channel::Confinement;
use pump_control::control::{self as control_language};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tracing::{error, info, warn};

use crate::config::{Address, Config, ConfigError};
use carried::StateError;
use cluster::{Cluster, Event, GenerationId, NotAllowed, WorkerId};
use control::Control;
use generation::{Generation, Inspected};
use jobs::Jobs;
use keeper::Kept;
pub(crate) use keeper::Passed;
use listen::{ListenError, Listeners};
pub(crate) use lock::DataLock;
use lock::LockError;
use notify::Notify;
use replace::Replacing;
pub(crate) use resume::{rehearse, resume, returned};
use signals::Signals;
use worker::WorkerProcess;

/// What `main` found out before the master begins.
pub(crate) struct Setting {
    pub(crate) config_path: PathBuf,
    /// What this program was started by; a roll without a named candidate resolves it anew.
    pub(crate) program: PathBuf,
    /// The name it was started with.
    pub(crate) name: OsString,
    /// What systemd passed, or another keeper.
    pub(crate) passed: Passed,
    /// What this process has given up.
    pub(crate) confinement: Confinement,
}

/// Why the master cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasterError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("could not listen on the control socket `{}`", path.display())]
    Control { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("could not go on from the state of another master")]
    State(#[from] StateError),
    #[error("could not {doing}")]
    System { doing: &'static str, source: std::io::Error },
}

impl MasterError {
    /// What the program exits with.
    pub(crate) fn exit(&self) -> ExitStatus {
        match self {
            Self::Config(_) => ExitStatus::Configuration,
            Self::Listen(ListenError::InUse { .. }) => ExitStatus::AddressInUse,
            Self::Control { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                ExitStatus::AddressInUse
            }
            Self::Lock(LockError::Held(_)) => ExitStatus::Locked,
            Self::Listen(_) | Self::Control { .. } | Self::Lock(_) => ExitStatus::Preflight,
            Self::State(_) => ExitStatus::Failed,
            Self::System { .. } => ExitStatus::Failed,
        }
    }
}

struct Master {
    setting: Setting,
    /// What the master itself was started with. Workers have their generation's.
    config: Config,
    begun: Instant,
    signals: Signals,
    control: Control,
    notify: Notify,
    next_alive: Option<Duration>,
    listeners: Listeners,
    lock: DataLock,
    /// By which workers see that this process is dead, while somebody keeps our ends of their channels.
    own_pidfd: OwnedFd,
    /// None until the first generation was inspected and prepared.
    cluster: Option<Cluster>,
    generations: BTreeMap<GenerationId, Generation>,
    workers: BTreeMap<WorkerId, WorkerProcess>,
    jobs: Jobs,
    replacing: Replacing,
    rolls: rolls::Rolls,
    /// The comparison of a roll's first new worker with the old ones, while there is one.
    canary: Option<canary::Watch>,
    metrics: metrics::Metrics,
    /// Of our control group, by the kernel.
    killed: memory::Killed,
    questions: asked::Questions,
    probes: probes::Probes,
    /// What is kept for the master that is started when this one was killed.
    kept: Kept,
    /// When that is tried again: its keeper did not listen.
    keep_again: Option<Duration>,
    notes: Vec<String>,
    /// What the policy has latched last could not be written down.
    latch_unwritten: bool,
    /// Our own build, which stays the same while generations come and go.
    own: control_language::Build,
    announced_ready: bool,
    /// The first workers failed: what the program will exit with when all are gone.
    abandoned: bool,
    ended: Option<ExitStatus>,
}

fn system(doing: &'static str) -> impl Fn(std::io::Error) -> MasterError {
    move |source| MasterError::System { doing, source }
}

/// Runs the master until it is told to end. Workers of a master that was killed are adopted, if somebody
/// has kept what belongs to them.
///
/// # Errors
/// When it cannot begin. What happens later is in the log and in the exit status.
pub(crate) fn run(mut setting: Setting) -> Result<ExitStatus, MasterError> {
    let signals = Signals::take().map_err(system("take signals"))?;
    if let Some(carried) = resume::kept_state(&setting.passed) {
        let mut master = resume::adopt(setting, &carried, signals)?;
        master.adopted();
        return master.run();
    }
    let (config, text) = Config::read(&setting.config_path)?;
    // Nobody can be adopted by these. Closed channels tell the workers so. They are taken back before
    // anything is bound or given away: an address would still be held, and names are about to begin anew.
    let mut old = setting.passed.names();
    old.clear(&Notify::from_environment(|name| std::env::var_os(name)));
    setting.passed.kept.clear();
    let mut master = Master::begin(setting, config, text, signals)?;
    master.kept = old;
    master.ask_own_build();
    master.run()
}

/// What this very file is.
fn own_build(path: &Path) -> control_language::Build {
    let info = crate::release_info::of_file().ok();
    control_language::Build {
        version: crate::release_info::VERSION.to_owned(),
        build: info.map(|info| info.build.to_string()).unwrap_or_default(),
        path: std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
    }
}

impl Master {
    fn run(mut self) -> Result<ExitStatus, MasterError> {
        while self.ended.is_none() {
            self.turn().map_err(system("wait for events"))?;
        }
        self.kept.clear(&self.notify);
        Ok(self.ended.unwrap_or(ExitStatus::Done))
    }

    fn begin(
        mut setting: Setting,
        config: Config,
        text: String,
        signals: Signals,
    ) -> Result<Self, MasterError> {
        let passed = std::mem::take(&mut setting.passed);
        // First of all, because it shows that no other master is at work here.
        let path = config.control_socket();
        let control =
            Control::bind(&path).map_err(|source| MasterError::Control { path, source })?;
        let lock = DataLock::take(&config.data_dir)?;
        let orphans = control.last_was_killed;
        let listeners = Listeners::begin(&config.listen, passed.sockets, orphans)?;
        let own = Generation::own(&setting.program, text).map_err(system("pin the own program"))?;
        let own_pidfd = pidfd_open(getpid(), PidfdFlags::empty());
        let own_pidfd = own_pidfd.map_err(|error| system("watch itself")(error.into()))?;
        for listening in listeners.all() {
            info!("listening on {}", listening.address);
        }
        for address in listeners.in_vain() {
            warn!("{}", in_vain(address, &setting.config_path));
        }
        let notify = Notify::from_environment(|name| std::env::var_os(name));
        Ok(Self {
            next_alive: notify.watchdog,
            setting,
            config,
            begun: Instant::now(),
            signals,
            control,
            notify,
            listeners,
            lock,
            own_pidfd,
            cluster: None,
            generations: BTreeMap::from([(GenerationId(1), own)]),
            workers: BTreeMap::new(),
            jobs: Jobs::default(),
            replacing: Replacing::default(),
            rolls: rolls::Rolls::default(),
            canary: None,
            metrics: metrics::Metrics::default(),
            killed: memory::Killed::default(),
            questions: asked::Questions::default(),
            probes: probes::Probes::default(),
            kept: Kept::default(),
            keep_again: None,
            notes: Vec::new(),
            latch_unwritten: false,
            own: control_language::Build::default(),
            announced_ready: false,
            abandoned: false,
            ended: None,
        })
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn ask_own_build(&mut self) {
        let now = self.now();
        let Some(own) = self.generations.get(&GenerationId(1)) else { return };
        if let Err(not_allowed) = self.jobs.start(own, &self.setting.config_path, now) {
            self.abandon(&not_allowed);
        }
    }

    /// The own build may run with this configuration: start the first workers.
    fn start_cluster(&mut self, inspected: Inspected) {
        let settings = generation::settings(&inspected.checked);
        if let Some(own) = self.generations.get_mut(&GenerationId(1)) {
            own.inspected = Some(inspected);
            self.own = own.build();
        }
        let now = self.now();
        let latch = latch::read(&self.config.data_dir);
        let mut cluster = Cluster::new(settings, latch, self.dice());
        let actions = cluster.start(now);
        self.cluster = Some(cluster);
        self.carry_out(actions);
    }

    /// The workers of a master that was killed are ours now.
    fn adopted(&mut self) {
        // In case that workers died in the meantime, or have to leave.
        self.tell(Event::Tick);
        self.find_other_successors();
    }

    /// Only the order of a roll hangs on this number.
    fn dice(&self) -> u64 {
        u64::from(std::process::id()) << 32 | u64::from(self.begun.elapsed().subsec_nanos())
    }

    /// Nothing was started yet, and nothing will be.
    fn abandon(&mut self, why: &NotAllowed) {
        error!("could not start: {}", why.text);
        self.jobs.cancel();
        self.ended = Some(why.exit);
    }

    fn stop(&mut self) {
        self.notify.stopping();
        match &self.cluster {
            Some(_) => {
                info!("stopping: workers let their connections end");
                self.tell(Event::Stop);
            }
            None => {
                self.jobs.cancel();
                self.ended = Some(ExitStatus::Done);
            }
        }
    }

    /// Tells the policy and does what it answers.
    fn tell(&mut self, event: Event) {
        let now = self.now();
        let Some(cluster) = &mut self.cluster else { return };
        let actions = cluster.on(event, now);
        self.carry_out(actions);
    }

    /// Ready and the sentence, for systemd and the log.
    fn announce(&mut self) {
        let sentence = self.sentence();
        self.notify.status(&sentence);
        let up = self.cluster.as_ref().is_some_and(|cluster| !cluster.is_starting());
        if up && !self.announced_ready {
            self.announced_ready = true;
            self.notify.ready();
            info!("ready after {} ms: {sentence}", self.now().as_millis());
            crate::faults::master_is_ready();
        }
    }
}

fn in_vain(address: &Address, config: &Path) -> String {
    let config = config.display();
    format!(
        "systemd listens on `{address}`, which `listen` in `{config}` does not have: nobody answers there"
    )
}
