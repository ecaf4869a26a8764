//! The master becomes another build: same process, same sockets, same workers.
//!
//! First the new build is rehearsed: a child of it is given a copy of the real state and the very
//! descriptors, and has to take them over and reach its loop, touching nothing (`resume`). Then
//! this process writes its state into a sealed memfd and execs over itself. `guard` holds until the new
//! master has confirmed; if it never does, this build begins again where it left off and tells the policy
//! that the new master has failed.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::fcntl::AtFlags;
use pump_control::constants::MASTER_MOVES_SINCE;
use rustix::io::FdFlags;

use super::Master;
use super::carried::{Carried, CarriedExec};
use super::child::{Birth, Child, Death, number};
use super::cluster::{Event, Failure, RollId, Stage};
use super::generation::Generation;
use super::turn::pass_on;
use crate::confine;
use crate::exhausted;

/// What a rehearsal prints when it has gone well.
pub(crate) const REHEARSED: &str = "rehearsed";

/// Environment that was meant for this process alone. What it brought is in the state.
const ONCE: &[&str] = &["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "PUMP_KEPT"];

/// A pause before what could not be given to the keeper is tried again, if nothing changes before.
const KEEP_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What a rehearsal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A roll has not touched anything yet.
    Roll,
    /// The exec follows.
    Exec,
}

/// A rehearsal under way.
#[derive(Default)]
pub(crate) struct Replacing {
    rehearsal: Option<(RollId, Purpose, Child)>,
}

impl Replacing {
    pub(crate) fn child(&self) -> Option<&Child> {
        self.rehearsal.as_ref().map(|(_, _, child)| child)
    }

    pub(crate) fn cancel(&self) {
        if let Some((_, _, child)) = &self.rehearsal {
            child.kill();
        }
    }
}

impl Master {
    pub(super) fn rehearse(&mut self, roll: RollId) {
        if let Err(failure) = self.begin_rehearsal(roll, Purpose::Roll) {
            self.tell(Event::Rehearsed { roll, result: Err(failure) });
        }
    }

    /// Rehearses once more, on the state as it is now, and execs if that goes well.
    pub(super) fn replace_master(&mut self, roll: RollId) {
        if let Err(failure) = self.begin_rehearsal(roll, Purpose::Exec) {
            self.tell(Event::MasterReplaced { roll, result: Err(failure) });
        }
    }

    fn begin_rehearsal(&mut self, roll: RollId, purpose: Purpose) -> Result<(), Failure> {
        let failed = |source: io::Error| Failure {
            text: format!("the new master could not be rehearsed: {}", exhausted::told(&source)),
            exhausted: exhausted::what(&source).is_some(),
            ..Failure::default()
        };
        // One that was cancelled and has not been reaped yet is of no interest any more.
        if let Some((_, _, mut child)) = self.replacing.rehearsal.take() {
            child.kill();
            child.reap();
        }
        let Some(candidate) = self.candidate().and_then(|id| self.generations.get(&id)) else {
            return Err(failed(io::ErrorKind::NotFound.into()));
        };
        let mut named = self.descriptors();
        // If this process were killed now, the next master would find it held.
        named.retain(|(name, _)| name != "lock");
        let state = self.carry(Some((roll, candidate)), &named).seal().map_err(failed)?;
        let descriptors: Vec<BorrowedFd<'_>> =
            named.iter().map(|(_, descriptor)| *descriptor).chain([state.as_fd()]).collect();
        let number = number(state.as_fd()).to_string();
        let child = Child::start(&Birth {
            program: candidate.program(),
            args: &[
                "master".as_ref(),
                "--config".as_ref(),
                self.setting.config_path.as_os_str(),
                "--rehearse".as_ref(),
                number.as_ref(),
            ],
            descriptors: &descriptors,
            stdin: None,
            answers: true,
            // It has copies of sockets that nobody else may find in use when this process is gone.
            dies_with_us: true,
        });
        let child = child.map_err(failed)?;
        self.replacing.rehearsal = Some((roll, purpose, child));
        Ok(())
    }

    /// A rehearsal wrote to its log, or ended.
    pub(super) fn rehearsal_stirred(&mut self) {
        let Some((roll, purpose, child)) = &mut self.replacing.rehearsal else { return };
        let (roll, purpose) = (*roll, *purpose);
        let (death, said) = match child.reap() {
            Some((death, said)) => (Some(death), said),
            None => (None, child.read()),
        };
        pass_on(&said);
        let Some(mut death) = death else { return };
        self.replacing.rehearsal = None;
        let exhausted = self.killed.explain(&mut death);
        let judged = judge(death).map_err(|failure| Failure { exhausted, ..failure });
        match (judged, purpose) {
            (result, Purpose::Roll) => self.tell(Event::Rehearsed { roll, result }),
            (Err(failure), Purpose::Exec) => {
                self.tell(Event::MasterReplaced { roll, result: Err(failure) });
            }
            // What it was for may have failed in the meantime.
            (Ok(()), Purpose::Exec) if !self.is_replaced_by(roll) => {}
            (Ok(()), Purpose::Exec) => {
                let Err(source) = self.exec(roll);
                self.keep();
                let text =
                    format!("the new master could not be started: {}", exhausted::told(&source));
                let exhausted = exhausted::what(&source).is_some();
                let failure = Failure { text, exhausted, ..Failure::default() };
                self.tell(Event::MasterReplaced { roll, result: Err(failure) });
            }
        }
    }

    /// Whether the policy still wants this roll's candidate to be the master.
    fn is_replaced_by(&self, roll: RollId) -> bool {
        let under_way = self.cluster.as_ref().and_then(|cluster| cluster.roll());
        under_way.is_some_and(|one| one.id == roll && one.stage == Stage::Replacing)
    }

    /// Becomes the candidate. Returns only when that has failed, and nothing has changed then.
    fn exec(&mut self, roll: RollId) -> io::Result<Infallible> {
        self.jobs.cancel();
        // Who asked how the cluster is, is answered by who was asked.
        self.answer_now();
        self.end_probes();
        // If the new build ends in a way that no handler sees, the next master has to know which it was.
        self.keep_as(true);
        let candidate = self.candidate().and_then(|id| self.generations.get(&id));
        let Some(candidate) = candidate else { return Err(io::ErrorKind::NotFound.into()) };
        let before = std::fs::File::open("/proc/self/exe")?;
        let named = self.descriptors();
        let state = self.carry(Some((roll, candidate)), &named).seal()?;
        let words = [
            self.setting.name.clone(),
            "master".into(),
            "--config".into(),
            self.setting.config_path.clone().into_os_string(),
            "--resume".into(),
            number(state.as_fd()).to_string().into(),
            "--before".into(),
            number(before.as_fd()).to_string().into(),
        ];
        let arguments = words.map(|word: OsString| CString::new(word.as_bytes()));
        let arguments = arguments.into_iter().collect::<Result<Vec<_>, _>>()?;
        let environment = std::env::vars_os()
            .filter(|(name, _)| !name.to_str().is_some_and(|name| ONCE.contains(&name)))
            .filter(|(name, _)| name != confine::MASTER_IS);
        let confined = self.setting.confinement.seccomp;
        let confined = confined.then(|| (confine::MASTER_IS.into(), OsString::from("1")));
        let environment = environment.chain(confined);
        let environment = environment
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect::<Result<Vec<_>, _>>()?;
        let stay = [state.as_fd(), before.as_fd()];
        let stay = named.iter().map(|(_, descriptor)| *descriptor).chain(stay);
        let stay: Vec<BorrowedFd<'_>> = stay.collect();
        tracing::info!("becoming {}", candidate.build().short());
        for descriptor in &stay {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        let failed = nix::unistd::execveat(
            candidate.program(),
            c"",
            &arguments,
            &environment,
            AtFlags::AT_EMPTY_PATH,
        );
        for descriptor in &stay {
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
        failed.map_err(io::Error::from)
    }

    /// Every descriptor that the next master needs, by name.
    pub(super) fn descriptors(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let mut named = self.lasting_descriptors();
        let passed = self.listeners.named(true);
        named.retain(|(name, _)| !name.starts_with("listen-"));
        named.extend(passed);
        named.push(("control".to_owned(), self.control.descriptor()));
        named.extend(self.control.client_descriptors());
        named.extend(self.lock.descriptor().map(|lock| ("lock".to_owned(), lock)));
        named
    }

    /// Those that are worth keeping for a master that is started after this one was killed.
    pub(super) fn lasting_descriptors(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let mut named: Vec<(String, BorrowedFd<'_>)> = Vec::new();
        for (id, generation) in &self.generations {
            named.push((format!("build-{}", id.0), generation.program()));
        }
        for (id, worker) in &self.workers {
            let id = id.0;
            named.push((format!("pid-{id}"), worker.child.pidfd()));
            named.extend(worker.channel().map(|(fd, _)| (format!("channel-{id}"), fd)));
            named.extend(worker.child.log().0.map(|fd| (format!("log-{id}"), fd)));
        }
        named.extend(self.listeners.named(false));
        named
    }

    /// The state as the next master gets it. `next` is the build that is to be the master, if it is an
    /// exec that follows.
    pub(super) fn carry(
        &self,
        next: Option<(RollId, &Generation)>,
        named: &[(String, BorrowedFd<'_>)],
    ) -> Carried {
        let exec = next.map(|(roll, candidate)| CarriedExec {
            numbers: named.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd())).collect(),
            next: candidate.build(),
            roll: roll.0,
            clients: self.control.carried_clients(),
            control_inode: self.control.inode(),
        });
        let now = self.now();
        let ours = crate::release_info::ours();
        Carried {
            magic: ours.magic,
            accepts: ours.accepts.clone(),
            own: self.own.clone(),
            program: self.setting.program.clone(),
            age: now.as_millis() as u64,
            announced_ready: self.announced_ready,
            notes: self.notes.clone(),
            cluster: self.cluster.as_ref().map(|one| one.carried(now)).unwrap_or_default(),
            generations: self.generations.iter().map(|(id, one)| one.carried(*id)).collect(),
            workers: self.workers.iter().map(|(id, one)| one.carried(*id)).collect(),
            listening: self.listeners.carried(),
            kept: self.kept.clone(),
            becoming: exec.is_some(),
            latch_unwritten: self.latch_unwritten,
            rolls: self.rolls.carried(now),
            totals: self.metrics.carried(),
            exec,
        }
    }

    /// Gives the state to who keeps it, so that the next master finds it.
    pub(super) fn keep(&mut self) {
        self.keep_as(false);
    }

    fn keep_as(&mut self, becoming: bool) {
        if !self.notify.is_heard() || self.cluster.is_none() || self.ended.is_some() {
            return;
        }
        let pinned = self.cluster.as_ref().and_then(|one| self.generations.get(&one.pinned()));
        let info = pinned.and_then(|one| one.inspected.as_ref()).map(|found| &found.info);
        if info.is_some_and(|info| info.magic < MASTER_MOVES_SINCE) {
            // What is started next is an old build, which would not know what all this is.
            return self.kept.clear(&self.notify);
        }
        let named = self.lasting_descriptors();
        let carried = Carried { becoming, ..self.carry(None, &named) };
        let Ok(state) = carried.seal() else { return };
        let mut kept = self.kept.clone();
        let whole = kept.bring_up_to_date(&self.notify, &named, state.as_fd());
        self.kept = kept;
        self.keep_again = (!whole).then(|| self.now() + KEEP_AGAIN_AFTER);
    }
}

fn judge(death: Death) -> Result<(), Failure> {
    let said = String::from_utf8_lossy(&death.answer);
    if death.code == Some(0) && said.trim() == REHEARSED {
        return Ok(());
    }
    let text = format!("the new master failed its rehearsal: it {}", death.how);
    Err(Failure { text, output: death.output, exhausted: false })
}
