//! A master that takes the place of another one: by an exec, on the way back from one, in a rehearsal,
//! or after the other was killed.
//!
//! Over an exec descriptors come by number, and copies of them are taken: the originals stay where they
//! are until the new master has confirmed, so that the old build finds everything as it left it. From a
//! keeper they come with names. What a state cannot do without and is not there, is an error; a worker
//! without its channel is only not adopted.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::constants::MASTER_MOVES_SINCE;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open};
use tracing::{error, info, warn};

use super::asked::Questions;
use super::carried::{Carried, StateError};
use super::child::Child;
use super::cluster::{
    CarriedLatch, Cluster, Event, Failure, GenerationId, Latch, RollId, WorkerId,
};
use super::control::Control;
use super::generation::Generation;
use super::jobs::Jobs;
use super::keeper::Passed;
use super::latch;
use super::listen::Listeners;
use super::lock::DataLock;
use super::metrics::Metrics;
use super::notify::Notify;
use super::probes::Probes;
use super::replace::{REHEARSED, Replacing};
use super::rolls::{CarriedRolls, Last, Rolls};
use super::signals::Signals;
use super::worker::WorkerProcess;
use super::{Master, MasterError, Setting, outcome};
use crate::config::Config;
use crate::guard::Guard;
use crate::inherit::Inherited;

/// Descriptors by name.
type Named = BTreeMap<String, OwnedFd>;

/// `pumpd master --rehearse STATE`: does all that a new master does before it confirms, and nothing that
/// anybody could see.
pub(crate) fn rehearse(
    setting: Setting,
    state: RawFd,
    inherited: &Inherited,
) -> Result<ExitStatus, MasterError> {
    // It has copies of sockets that nobody else may find in use when its master is gone.
    let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    bound.map_err(|error| super::system("end with its master")(error.into()))?;
    nix::unistd::alarm::set(pump_control::constants::REHEARSE_WITHIN.as_secs() as u32);
    crate::faults::rehearsing().map_err(super::system("rehearse"))?;
    let signals = Signals::take().map_err(super::system("take signals"))?;
    let (master, _) = from_exec(setting, state, |number| inherited.copy(number), signals)?;
    master.wait_at_most(Some(Duration::ZERO)).map_err(super::system("wait for events"))?;
    // What is printed fits into a pipe, and who started this reads it.
    let _ = writeln!(io::stdout(), "{REHEARSED}");
    // What was taken over is another master's: nothing of it may be closed or removed in an orderly way.
    std::mem::forget(master);
    Ok(ExitStatus::Done)
}

/// `pumpd master --resume STATE --before BUILD`: goes on where another build has left off.
pub(crate) fn resume(
    setting: Setting,
    (state, before): (RawFd, RawFd),
    inherited: &mut Inherited,
    guard: Guard,
) -> Result<ExitStatus, MasterError> {
    let begun = crate::faults::master_took_over().and_then(|()| Signals::take());
    let begun = begun.map_err(super::system("begin"));
    let taken = begun
        .and_then(|signals| from_exec(setting, state, |number| inherited.copy(number), signals));
    let (mut master, carried) = match taken {
        Ok(taken) => taken,
        Err(source) => {
            error!("could not take over: {:#}", anyhow::Error::new(source));
            guard.go_back();
        }
    };
    // It has reached its loop when nothing is wrong with what it waits for.
    if let Err(source) = master.wait_at_most(Some(Duration::ZERO)) {
        error!("could not wait for events: {source}");
        guard.go_back();
    }
    guard.disarm();
    release(&carried, &[state, before], inherited);
    let Some(exec) = &carried.exec else { return master.run() };
    master.own = exec.next.clone();
    master.own_files(&carried);
    info!("this process is {} now", master.own.short());
    master.metrics.master_replaced();
    let roll = RollId(exec.roll);
    master.tell(Event::MasterReplaced { roll, result: Ok(()) });
    master.find_other_successors();
    master.run()
}

/// `pumpd master --resume STATE --returned SIGNAL`: the other build never confirmed.
pub(crate) fn returned(
    setting: Setting,
    (state, signal): (RawFd, i32),
    inherited: &mut Inherited,
) -> Result<ExitStatus, MasterError> {
    // An alarm outlives an exec.
    nix::unistd::alarm::cancel();
    let signals = Signals::take().map_err(super::system("take signals"))?;
    // Nobody comes after this one, and there may be no room for copies: that may be why it is here.
    let (mut master, carried) =
        from_exec(setting, state, |number| inherited.take(number), signals)?;
    master.own_files(&carried);
    let how = match signal {
        0 => "could not take over".to_owned(),
        libc::SIGALRM => "was not in its loop in time".to_owned(),
        signal => format!("was ended by signal {signal}"),
    };
    let text = format!("the new master {how}, and this process became the old build again");
    if let Some(exec) = &carried.exec {
        let result = Err(Failure::new(text));
        master.tell(Event::MasterReplaced { roll: RollId(exec.roll), result });
    }
    master.run()
}

/// Closes what was only kept for the way back.
fn release(carried: &Carried, others: &[RawFd], inherited: &mut Inherited) {
    let numbers = carried.exec.iter().flat_map(|exec| exec.numbers.values());
    for number in numbers.chain(others) {
        drop(inherited.take(*number));
    }
}

fn from_exec(
    setting: Setting,
    state: RawFd,
    mut get: impl FnMut(RawFd) -> io::Result<OwnedFd>,
    signals: Signals,
) -> Result<(Master, Carried), MasterError> {
    let state = get(state).map_err(StateError::from)?;
    let carried = Carried::read(&state)?;
    let missing = || StateError::Other("it was not written for an exec".to_owned());
    let exec = carried.exec.as_ref().ok_or_else(missing)?;
    let mut named = Named::new();
    for (name, number) in &exec.numbers {
        named.insert(name.clone(), get(*number).map_err(StateError::from)?);
    }
    let mut take = |name: &str| named.remove(name);
    let control = take("control").ok_or_else(|| StateError::Missing("control".to_owned()))?;
    let lock = DataLock::taken(take("lock"));
    let listeners = Listeners::taken(&carried.listening, Vec::new(), &mut take)?;
    let config = config_of(&carried, &setting)?;
    let path = config.control_socket();
    let control = Control::taken(&path, control, &exec.clients, &mut take);
    let mut master =
        Master::from_parts(setting, config, signals, control, listeners, lock, &carried)?;
    master.take_generations(&carried, &mut take)?;
    master.take_workers(&carried, &mut take);
    let now = master.now();
    master.cluster = Some(Cluster::resume(carried.cluster.clone(), now, master.dice()));
    master.rolls = Rolls::resume(carried.rolls.clone(), now);
    Ok((master, carried))
}

/// What the running generation was configured with: the file may have been edited since, and wrongly.
fn config_of(carried: &Carried, setting: &Setting) -> Result<Config, MasterError> {
    let pinned = carried.cluster.pinned;
    let text = carried.generations.iter().find(|one| one.id == pinned).map(|one| &one.config);
    let parsed = text.and_then(|text| Config::parse(text, &setting.config_path).ok());
    match parsed {
        Some(config) => Ok(config),
        None => Ok(Config::read(&setting.config_path)?.0),
    }
}

/// A state that was kept for us, if there is one that can be gone on from.
pub(crate) fn kept_state(passed: &Passed) -> Option<Carried> {
    for state in passed.states() {
        match Carried::read(state) {
            // Of one that had no workers yet, or was stopping, there is nothing to go on with.
            Ok(carried) if carried.workers.is_empty() || carried.cluster.stopping => {}
            Ok(carried) => return Some(carried),
            Err(error) => {
                warn!(
                    "the state of the last master cannot be gone on from: {:#}",
                    anyhow::Error::new(error)
                );
            }
        }
    }
    None
}

/// Goes on where a master was killed. Its workers have served all the while.
///
/// A state that cannot be gone on from is not kept any longer, so that the next start is a fresh one.
pub(crate) fn adopt(
    setting: Setting,
    carried: &Carried,
    signals: Signals,
) -> Result<Master, MasterError> {
    let mut kept = setting.passed.names();
    let adopted = try_adopt(setting, carried, signals);
    if matches!(adopted, Err(MasterError::State(_))) {
        kept.clear(&Notify::from_environment(|name| std::env::var_os(name)));
    }
    adopted
}

fn try_adopt(
    mut setting: Setting,
    carried: &Carried,
    signals: Signals,
) -> Result<Master, MasterError> {
    let config = config_of(carried, &setting)?;
    let path = config.control_socket();
    let control = Control::bind(&path).map_err(|source| MasterError::Control { path, source })?;
    let lock = DataLock::take(&config.data_dir)?;
    let passed = std::mem::take(&mut setting.passed);
    let kept = passed.names();
    let mut named = passed.kept;
    let mut take = |name: &str| named.remove(name);
    let listeners = Listeners::taken(&carried.listening, passed.sockets, &mut take)?;
    let mut master =
        Master::from_parts(setting, config, signals, control, listeners, lock, carried)?;
    master.begun = Instant::now();
    // systemd has started this one and waits for it.
    master.announced_ready = false;
    master.kept = kept;
    master.take_generations(carried, &mut take)?;
    master.take_workers(carried, &mut take);
    master.own = super::own_build(&master.setting.program);
    let now = master.now();
    let mut cluster = carried.cluster.clone();
    // The file is written first, and the state may not have followed.
    let latch = cluster.latch.take().map(Latch::from);
    let latch = latch::newer(&master.config.data_dir, latch, carried.latch_unwritten);
    cluster.latch = latch.map(CarriedLatch::from);
    cluster.workers.retain(|one| master.workers.contains_key(&WorkerId(one.worker)));
    let mut rolls = CarriedRolls { roll: None, waiting: Vec::new(), ..carried.rolls.clone() };
    if carried.becoming
        && let Some(roll) = &cluster.roll
    {
        // It was killed, and by somebody else: what it dies of itself it comes back from (`guard`).
        let lost = outcome::killed_in_exec(&roll.build);
        warn!("roll {}: {}", roll.roll, lost.text);
        rolls.last = Some(Last { roll: roll.roll, outcome: lost, millis: carried.rolls.millis });
    }
    master.cluster = Some(Cluster::adopt(cluster, now, master.dice()));
    master.rolls = Rolls::resume(rolls, now);
    for worker in master.workers.values_mut() {
        let generation = master.generations.get(&worker.generation);
        let info = generation.and_then(|one| one.inspected.as_ref()).map(|found| &found.info);
        // One of an older build would take the descriptor for that of the next message which has one.
        if info.is_some_and(|info| info.magic >= MASTER_MOVES_SINCE) {
            worker.adopt(master.own_pidfd.as_fd());
        }
    }
    master.listeners.own(&carried.listening);
    info!("{} workers of the last master are adopted", master.workers.len());
    Ok(master)
}

impl Master {
    /// A master that has taken nothing over yet but its sockets.
    fn from_parts(
        setting: Setting,
        config: Config,
        signals: Signals,
        control: Control,
        listeners: Listeners,
        lock: DataLock,
        carried: &Carried,
    ) -> Result<Self, MasterError> {
        let notify = Notify::from_environment(|name| std::env::var_os(name));
        let own_pidfd = pidfd_open(getpid(), PidfdFlags::empty());
        let own_pidfd = own_pidfd.map_err(|error| super::system("watch itself")(error.into()))?;
        let begun = Instant::now();
        Ok(Self {
            next_alive: notify.watchdog,
            begun: begun.checked_sub(Duration::from_millis(carried.age)).unwrap_or(begun),
            setting: Setting { program: carried.program.clone(), ..setting },
            config,
            signals,
            control,
            notify,
            listeners,
            lock,
            own_pidfd,
            cluster: None,
            generations: BTreeMap::new(),
            workers: BTreeMap::new(),
            jobs: Jobs::default(),
            replacing: Replacing::default(),
            rolls: Rolls::default(),
            canary: None,
            metrics: Metrics::default(),
            killed: super::memory::Killed::default(),
            questions: Questions::default(),
            probes: Probes::default(),
            notes: carried.notes.clone(),
            latch_unwritten: carried.latch_unwritten,
            own: carried.own.clone(),
            kept: carried.kept.clone(),
            keep_again: None,
            announced_ready: carried.announced_ready,
            abandoned: false,
            ended: None,
        })
    }

    fn take_generations(
        &mut self,
        carried: &Carried,
        take: &mut impl FnMut(&str) -> Option<OwnedFd>,
    ) -> Result<(), StateError> {
        for one in &carried.generations {
            let name = format!("build-{}", one.id);
            let program = take(&name).ok_or(StateError::Missing(name))?;
            self.generations.insert(GenerationId(one.id), Generation::taken(one.clone(), program));
        }
        Ok(())
    }

    fn take_workers(&mut self, carried: &Carried, take: &mut impl FnMut(&str) -> Option<OwnedFd>) {
        for one in &carried.workers {
            let pidfd = take(&format!("pid-{}", one.id));
            // Without a pidfd nobody can say that the number is still this worker's.
            let Some(pidfd) = pidfd.filter(|_| Pid::from_raw(one.pid as i32).is_some()) else {
                warn!("worker {} has no descriptor any more and is not adopted", one.id);
                continue;
            };
            let log = take(&format!("log-{}", one.id));
            let child = Child::taken(one.pid, pidfd, log, &one.logged);
            let channel = take(&format!("channel-{}", one.id));
            self.workers.insert(WorkerId(one.id), WorkerProcess::taken(one, child, channel));
        }
        let lives = |id: WorkerId| self.workers.contains_key(&id);
        self.metrics = Metrics::resume(carried.totals.clone(), lives);
    }

    /// From now on socket files are ours to remove.
    fn own_files(&mut self, carried: &Carried) {
        self.listeners.own(&carried.listening);
        if let Some(exec) = &carried.exec {
            self.control.own(exec.control_inode);
        }
    }
}
