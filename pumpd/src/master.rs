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
mod generation;
mod jobs;
mod keeper;
mod latch;
mod listen;
mod lock;
mod metrics;
mod notify;
mod nudges;
mod outcome;
mod place;
mod reload;
mod replace;
mod resume;
mod rolls;
mod signals;
mod status;
mod steps;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::channel::{FromWorker, ToWorker};
use pump_control::control::{self as control_language, Ask, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tracing::{error, info, warn};

use crate::config::{Address, Config, ConfigError};
use crate::log::Log;
use carried::StateError;
use cluster::{Action, Cluster, Event, Failure, GenerationId, NotAllowed, WorkerId};
use control::{ClientId, Control};
use generation::{Generation, Inspected};
use jobs::{Answer, Asker, Jobs, Question};
use keeper::Kept;
pub(crate) use keeper::Passed;
use listen::{ListenError, Listeners};
use lock::{DataLock, LockError};
use notify::Notify;
use replace::Replacing;
pub(crate) use resume::{rehearse, resume, returned};
use signals::Signals;
use worker::{Gossip, WorkerProcess};

/// What `main` found out before the master begins.
pub(crate) struct Setting {
    pub(crate) config_path: PathBuf,
    /// What this program was started by; a roll without a named candidate resolves it anew.
    pub(crate) program: PathBuf,
    /// The name it was started with.
    pub(crate) name: OsString,
    /// What systemd passed, or another keeper.
    pub(crate) passed: Passed,
}

/// How many times 4 KiB of what a worker said before its death are read.
const LAST_WORDS: usize = 16;

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
    questions: asked::Questions,
    /// What is kept for the master that is started when this one was killed.
    kept: Kept,
    notes: Vec<String>,
    /// Our own build, which stays the same while generations come and go.
    own: control_language::Build,
    announced_ready: bool,
    /// The first workers failed: what the program will exit with when all are gone.
    abandoned: bool,
    ended: Option<ExitStatus>,
}

/// What woke the loop.
enum Woken {
    Signals,
    Control,
    Client(ClientId, PollFlags),
    Worker(WorkerId),
    Channel(WorkerId, PollFlags),
    Job(Question),
    Rehearsal,
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
    // Nobody can be adopted by these. Closed channels tell the workers so.
    let old = setting.passed.names();
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
            questions: asked::Questions::default(),
            kept: Kept::default(),
            notes: Vec::new(),
            own: control_language::Build::default(),
            announced_ready: false,
            abandoned: false,
            ended: None,
        })
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits for something and does what follows from it.
    fn turn(&mut self) -> std::io::Result<()> {
        for woken in self.wait()? {
            match woken {
                Woken::Signals => self.signalled(),
                Woken::Control => self.control.accept(self.now()),
                Woken::Client(id, flags) => self.client(id, flags),
                Woken::Worker(id) => self.worker_stirred(id),
                Woken::Channel(id, flags) => self.channel(id, flags),
                Woken::Job(id) => self.job_stirred(id),
                Woken::Rehearsal => self.rehearsal_stirred(),
            }
            if self.ended.is_some() {
                return Ok(());
            }
        }
        let now = self.now();
        self.control.expire(now);
        if self.next_alive.is_some_and(|at| at <= now) {
            self.notify.alive();
            self.next_alive = self.notify.watchdog.map(|pause| now + pause);
        }
        if self.jobs.deadline().is_some_and(|at| at <= now) {
            let text = "the database and the configuration were not checked in time".to_owned();
            self.abandon(&NotAllowed { exit: ExitStatus::Preflight, text, hint: None });
        }
        if self.questions.deadline().is_some_and(|at| at <= now) {
            self.answer_now();
        }
        if self.canary_deadline().is_some_and(|at| at <= now) {
            self.look_at_canary();
        }
        if self.cluster.as_ref().and_then(Cluster::deadline).is_some_and(|at| at <= now) {
            self.tell(Event::Tick);
        }
        self.announce();
        Ok(())
    }

    fn wait(&self) -> std::io::Result<Vec<Woken>> {
        self.wait_at_most(None)
    }

    /// Waits until something happens or is due, or for `most`.
    fn wait_at_most(&self, most: Option<Duration>) -> std::io::Result<Vec<Woken>> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut tokens: Vec<Box<dyn Fn(PollFlags) -> Woken>> = vec![Box::new(|_| Woken::Signals)];
        if let Some(socket) = self.control.socket() {
            fds.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
            tokens.push(Box::new(|_| Woken::Control));
        }
        for (id, fd, flags) in self.control.clients() {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            tokens.push(Box::new(move |flags| Woken::Client(id, flags)));
        }
        for (id, worker) in &self.workers {
            let id = *id;
            let pipes = worker.child.pipes().chain([worker.child.pidfd()]);
            for fd in pipes {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                tokens.push(Box::new(move |_| Woken::Worker(id)));
            }
            if let Some((fd, waits)) = worker.channel() {
                let flags = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                tokens.push(Box::new(move |flags| Woken::Channel(id, flags)));
            }
        }
        for (id, child) in self.jobs.children() {
            for fd in child.pipes().chain([child.pidfd()]) {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                tokens.push(Box::new(move |_| Woken::Job(id)));
            }
        }
        if let Some(child) = self.replacing.child() {
            for fd in child.pipes().chain([child.pidfd()]) {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                tokens.push(Box::new(|_| Woken::Rehearsal));
            }
        }
        let timeout = self.next_deadline().map(|at| at.saturating_sub(self.now()));
        // Rounded up by a millisecond, so that a deadline is past when it wakes us.
        let timeout = timeout.map(|left| left + Duration::from_millis(1));
        let timeout = most.or(timeout);
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let woken = fds.iter().zip(&tokens).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(woken.map(|(fd, token)| token(fd.revents())).collect())
    }

    fn next_deadline(&self) -> Option<Duration> {
        let cluster = self.cluster.as_ref().and_then(Cluster::deadline);
        let others = [
            self.next_alive,
            self.jobs.deadline(),
            self.control.deadline(),
            self.questions.deadline(),
            self.canary_deadline(),
        ];
        cluster.into_iter().chain(others.into_iter().flatten()).min()
    }

    fn signalled(&mut self) {
        for asked in self.signals.read() {
            match asked {
                signals::Asked::Stop => self.stop(),
                signals::Asked::Reload => {
                    self.reload();
                }
                signals::Asked::Restart => self.restart_by_signal(),
            }
        }
    }

    fn client(&mut self, id: ClientId, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.control.write(id);
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        for ask in self.control.read(id) {
            match ask {
                Ask::Status => self.ask_for(id, asked::About::Status),
                Ask::Metrics => self.ask_for(id, asked::About::Metrics),
                Ask::Restart(restart) => self.restart_by_client(id, &restart),
                Ask::Reload => {
                    let reloaded = self.reload();
                    self.control.answer(id, &Reply::Reloaded(reloaded));
                }
                Ask::Stop => {
                    self.control.answer(id, &Reply::Stopping);
                    self.stop();
                }
            }
        }
    }

    /// A worker wrote to its log, or died.
    fn worker_stirred(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // What it said before its death is heard before its death.
        let (death, said) = match worker.child.reap() {
            Some((death, said)) => (Some(death), said),
            None => (None, worker.child.read()),
        };
        pass_on(&said);
        let Some(death) = death else { return };
        for _ in 0..LAST_WORDS {
            if self.workers.get(&id).is_some_and(|worker| worker.channel().is_some()) {
                self.channel(id, PollFlags::IN);
            }
        }
        self.rolls.dead = Some(self.who(id));
        self.workers.remove(&id);
        self.rolls.leaving.remove(&id);
        self.figures_end(id);
        let failure = Failure { text: format!("it {}", death.how), output: death.output };
        self.tell(Event::Exited { worker: id, failure });
        self.rolls.dead = None;
    }

    fn channel(&mut self, id: WorkerId, flags: PollFlags) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if flags.contains(PollFlags::OUT) {
            worker.write();
        }
        for said in worker.read() {
            let event = match said {
                Ok(FromWorker::Ready { .. }) => Event::Ready { worker: id },
                Ok(FromWorker::Refused { reason, .. }) => Event::Refused { worker: id, reason },
                Ok(FromWorker::Draining { connections, classes, uploaded, .. }) => {
                    let Some(worker) = self.workers.get_mut(&id) else { continue };
                    worker.connections = Some(connections);
                    let before = std::mem::replace(&mut worker.uploaded, uploaded);
                    self.still_open(id, connections, classes);
                    match uploaded > before {
                        true => Event::Progress { worker: id },
                        false => Event::Leaving { worker: id },
                    }
                }
                Ok(FromWorker::Probed { failure, micros, .. }) => {
                    self.canary_probed(id, failure.map_or(Ok(micros), Err));
                    continue;
                }
                Ok(FromWorker::Figures { figures, .. }) => {
                    self.figures_said(id, figures);
                    continue;
                }
                Ok(FromWorker::Published { .. }) => {
                    self.published(id);
                    continue;
                }
                Ok(_) => continue,
                Err(Gossip::Unknown(text)) => {
                    warn!("worker {} {text}", id.0);
                    continue;
                }
                Err(Gossip::Lie(text)) => Event::Lied { worker: id, text },
            };
            self.tell(event);
        }
    }

    fn job_stirred(&mut self, question: Question) {
        let (said, answer) = self.jobs.stirred(question);
        pass_on(&said);
        match answer {
            None => {}
            Some(Answer::Inspected(Asker::Start, Ok(inspected))) => self.start_cluster(*inspected),
            Some(Answer::Inspected(Asker::Start, Err(not_allowed))) => self.abandon(&not_allowed),
            Some(Answer::Inspected(Asker::Roll(roll), found)) => {
                self.candidate_inspected(roll, found.map(|inspected| *inspected));
            }
            Some(Answer::Prepared(roll, result)) => self.tell(Event::Prepared { roll, result }),
        }
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

    fn carry_out(&mut self, actions: Vec<Action>) {
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match action {
                Action::Inspect(roll) => self.inspect(roll),
                Action::Prepare(roll) => self.prepare(roll),
                Action::Rehearse(roll) => self.rehearse(roll),
                Action::ReplaceMaster(roll) => self.replace_master(roll),
                Action::Compare { roll, worker, lasts } => self.compare(roll, worker, lasts),
                Action::KeepLatch(latch) => self.keep_latch(latch.as_ref()),
                Action::Cancel(_) => {
                    self.jobs.cancel();
                    self.replacing.cancel();
                }
                Action::Spawn { worker, generation } => self.spawn(worker, generation),
                Action::Drain(worker) => self.ask_to_leave(worker),
                Action::Kill(worker) => {
                    if let Some(process) = self.workers.get(&worker) {
                        process.child.kill();
                    }
                }
                Action::Step(step) => self.policy_step(&step),
                Action::Ended { roll, ending } => {
                    // Who is told that a roll is over finds nothing of what it has ended.
                    self.forget_generations();
                    self.roll_ended(roll, &ending);
                }
                Action::Abandon(failure) => {
                    error!("could not start: a worker failed: {}", failure.text);
                    self.abandoned = true;
                }
                Action::Exit => {
                    let exit = match self.abandoned {
                        true => ExitStatus::Preflight,
                        false => ExitStatus::Done,
                    };
                    info!("all workers are gone");
                    self.ended = Some(exit);
                }
            }
        }
        self.forget_generations();
        self.keep();
    }

    fn spawn(&mut self, worker: WorkerId, generation: GenerationId) {
        let Some(build) = self.generations.get(&generation) else { return };
        let path = &self.setting.config_path;
        let listening = self.listeners.of(&build.listen());
        let master = self.own_pidfd.as_fd();
        match WorkerProcess::start(worker, generation, build, &listening, path, master) {
            Ok(process) => {
                let pid = process.child.pid;
                let build = build.build().short();
                self.workers.insert(worker, process);
                self.metrics.started(worker);
                let text = format!("worker {} of {build} is started as process {pid}", worker.0);
                let who = self.who(worker);
                self.step(&text, control_language::Event::WorkerStarted(who));
            }
            Err(source) => {
                let text = format!("it could not be started: {source}");
                let failure = Failure { text, output: Vec::new() };
                self.tell(Event::Exited { worker, failure });
            }
        }
    }

    /// Asks a worker to leave and, where a ready one is there, to hand its connections to that one.
    fn ask_to_leave(&mut self, leaving: WorkerId) {
        let ready = |id: &WorkerId| {
            let cluster = self.cluster.as_ref();
            cluster.is_some_and(|one| one.workers().get(id).is_some_and(|it| it.is_ready()))
        };
        // The newest one: whoever leaves next in the same roll is older.
        let successor = self.workers.keys().rev().copied().find(|id| *id != leaving && ready(id));
        let pair = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let handed = match (successor, pair) {
            (Some(successor), Ok((giving, taking))) => {
                let to = self.workers.get_mut(&successor);
                to.is_some_and(|to| to.say_with(&ToWorker::TakeOver, taking.as_fd()))
                    && self.workers.get_mut(&leaving).is_some_and(|from| {
                        from.say_with(&ToWorker::Drain { hand_over: true }, giving.as_fd())
                    })
            }
            _ => false,
        };
        if !handed && let Some(process) = self.workers.get_mut(&leaving) {
            process.say(&ToWorker::Drain { hand_over: false });
        }
        self.step_draining(leaving, successor.filter(|_| handed));
    }

    fn forget_generations(&mut self) {
        if let Some(cluster) = &self.cluster {
            self.generations.retain(|id, _| cluster.needs(*id));
            let wanted: Vec<Address> =
                self.generations.values().flat_map(Generation::listen).collect();
            self.listeners.keep_only(&wanted);
        }
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
        }
    }
}

/// Lines of a child, into our own log as they are: they name the child themselves.
fn pass_on(lines: &[String]) {
    use std::io::Write;
    for line in lines {
        // A log that cannot be written is no reason to stop serving.
        let _ = Log.write_all(format!("{line}\n").as_bytes());
    }
}

fn in_vain(address: &Address, config: &Path) -> String {
    let config = config.display();
    format!(
        "systemd listens on `{address}`, which `listen` in `{config}` does not have: nobody answers there"
    )
}
