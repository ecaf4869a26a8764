//! `pumpd hold`: keeps the master's descriptors and starts it again when it dies.
//!
//! Where there is no systemd, somebody still has to have the listening sockets and the workers' channels
//! in the moment in which there is no master. This process does for it what systemd's file descriptor
//! store does, and no more: it reads `sd_notify(3)` messages from a socket of its own, keeps what comes
//! with `FDSTORE=1`, lets go of it at `FDSTOREREMOVE=1`, and passes all of it to the next master, which it
//! starts from the path that it was itself started by, as systemd does.
//!
//! A master that ends in good order, or before it was ever ready, ends the holder with its own exit
//! status. Signals are passed on. Its own death is the one that nobody outlives: workers are orphans then.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus as Ended};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use pump_control::ExitStatus;
use pump_control::constants::{
    FIRST_BACK_OFF, LONGEST_BACK_OFF, MAX_HELD, MAX_NOTIFICATION, SETTLED_AFTER,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tracing::{info, warn};

use crate::admin::Failed;
use crate::config::Config;

/// Descriptors that come with one message at most. A master sends one.
const AT_ONCE: usize = 4;

struct Holder {
    config: PathBuf,
    /// What it was started by, resolved anew for each master.
    program: PathBuf,
    name: OsString,
    signals: SignalFd,
    socket: UnixDatagram,
    path: PathBuf,
    held: BTreeMap<String, OwnedFd>,
    ready: bool,
    early_deaths: u32,
}

/// Holds until the master has ended in good order.
pub(crate) fn run(config: &Path) -> Result<ExitStatus, Failed> {
    crate::log::begin();
    let failed = |error: io::Error| Failed::new(ExitStatus::Failed, error.into());
    let parsed = Config::read(config).map(|(parsed, _)| parsed);
    let parsed = parsed.map_err(|error| Failed::new(ExitStatus::Configuration, error.into()))?;
    let program = crate::started_by().map_err(failed)?;
    let mut holder = Holder::begin(config, &parsed, program).map_err(failed)?;
    let ended = holder.hold().map_err(failed);
    // Gone already is as good.
    let _ = std::fs::remove_file(&holder.path);
    ended
}

impl Holder {
    fn begin(config: &Path, parsed: &Config, program: PathBuf) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in
            [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGCHLD]
        {
            set.add(signal);
        }
        set.thread_set_mask()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags)?;
        rustix::thread::set_name(c"pumpd-hold")?;
        // One for each holder: a second one, which will be refused further on, must not take the
        // first one's place.
        let path = parsed.runtime_dir.join(format!("notify-{}.sock", std::process::id()));
        let socket = bind(&path)?;
        socket.set_nonblocking(true)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        let name = std::env::args_os().next().unwrap_or_default();
        Ok(Self {
            config: std::path::absolute(config)?,
            program,
            name,
            signals,
            socket,
            path,
            held: BTreeMap::new(),
            ready: false,
            early_deaths: 0,
        })
    }

    fn hold(&mut self) -> io::Result<ExitStatus> {
        loop {
            let begun = Instant::now();
            let (pid, how) = match self.start() {
                Ok(mut master) => {
                    let ended = self.until_it_ends(&mut master)?;
                    if ended.success() || !self.ready {
                        let code = ended.code().and_then(|code| u8::try_from(code).ok());
                        let exit = code.and_then(ExitStatus::from_code);
                        return Ok(exit.unwrap_or(ExitStatus::Failed));
                    }
                    let how = match ended.signal() {
                        Some(signal) => format!("the master was ended by signal {signal}"),
                        None => format!("the master ended with {}", ended.code().unwrap_or(-1)),
                    };
                    (master.id(), how)
                }
                // The program may be missing while it is installed, or the machine be short of something.
                Err(error) if self.ready => (0, format!("no master could be started: {error}")),
                Err(error) => return Err(error),
            };
            self.early_deaths = match begun.elapsed() >= SETTLED_AFTER {
                true => 1,
                false => self.early_deaths.saturating_add(1),
            };
            let pause = FIRST_BACK_OFF * 2u32.pow((self.early_deaths - 1).min(16));
            let pause = pause.min(LONGEST_BACK_OFF);
            warn!("{how}; another one is started in {pause:?}, its workers serve on");
            if self.asked_to_end_within(pause, pid)? {
                info!("ended before there was a master again");
                return Ok(ExitStatus::Done);
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg0(&self.name).arg("master").arg("--config").arg(&self.config);
        command.env("NOTIFY_SOCKET", &self.path);
        let kept = self.held.iter().map(|(name, fd)| format!("{}:{name}", fd.as_raw_fd()));
        command.env("PUMP_KEPT", kept.collect::<Vec<_>>().join(","));
        // One thread, so nothing else can be started in between.
        for descriptor in self.held.values() {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        let started = command.spawn();
        for descriptor in self.held.values() {
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
        started
    }

    /// Serves the master until it is dead.
    fn until_it_ends(&mut self, master: &mut Child) -> io::Result<Ended> {
        loop {
            self.wait(None)?;
            // What it said before its death is heard before its death.
            self.hear(master.id());
            for signal in self.asked() {
                match signal {
                    Signal::SIGCHLD => {
                        self.hear(master.id());
                        if let Some(ended) = master.try_wait()? {
                            return Ok(ended);
                        }
                        reap_others(master.id());
                    }
                    other => pass_on(master, other),
                }
            }
        }
    }

    fn asked_to_end_within(&mut self, pause: Duration, master: u32) -> io::Result<bool> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.wait(Some(left))?;
            self.hear(master);
            if self.asked().any(|signal| matches!(signal, Signal::SIGTERM | Signal::SIGINT)) {
                return Ok(true);
            }
        }
    }

    fn wait(&self, most: Option<Duration>) -> io::Result<()> {
        let mut fds =
            [PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
        let most = most.and_then(|most| Timespec::try_from(most).ok());
        match poll(&mut fds, most.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn asked(&self) -> impl Iterator<Item = Signal> + use<> {
        let mut asked = Vec::new();
        while let Ok(Some(info)) = self.signals.read_signal() {
            asked.extend(Signal::try_from(info.ssi_signo as i32));
        }
        asked.into_iter()
    }

    /// Takes in what the master has said.
    fn hear(&mut self, master: u32) {
        while let Ok(said) = receive(&self.socket) {
            // Workers are of the same user and could reach the socket; nobody asked them.
            if said.from == Some(master) {
                self.heard(&said.message, said.descriptors);
            }
        }
    }

    fn heard(&mut self, message: &str, descriptors: Vec<OwnedFd>) {
        let value =
            |key: &str| message.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if value("READY") == Some("1") {
            self.ready = true;
        }
        let Some(name) = value("FDNAME").filter(|name| is_name(name)) else { return };
        if value("FDSTOREREMOVE") == Some("1") {
            self.held.remove(name);
        }
        if value("FDSTORE") == Some("1")
            && let Some(descriptor) = descriptors.into_iter().next()
        {
            match self.held.len() < MAX_HELD {
                true => drop(self.held.insert(name.to_owned(), descriptor)),
                false => {
                    warn!("the master has given {MAX_HELD} descriptors away, no more are kept")
                }
            }
        }
    }
}

/// Binds the socket, over the file of a holder that had our number and was killed. In a container that
/// number is always the same.
fn bind(path: &Path) -> io::Result<UnixDatagram> {
    match UnixDatagram::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let refused = UnixDatagram::unbound()?.connect(path);
            if refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                std::fs::remove_file(path)?;
            }
            UnixDatagram::bind(path)
        }
        bound => bound,
    }
}

/// A name that can stand in a list.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=255).contains(&name.len()) && name.chars().all(plain)
}

/// One message, and who the kernel says it is from.
struct Said {
    message: String,
    descriptors: Vec<OwnedFd>,
    from: Option<u32>,
}

fn receive(socket: &UnixDatagram) -> io::Result<Said> {
    let mut buffer = [0; MAX_NOTIFICATION];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let (mut descriptors, mut from) = (Vec::new(), None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(came) => descriptors.extend(came),
            RecvAncillaryMessage::ScmCredentials(who) => {
                from = u32::try_from(who.pid.as_raw_nonzero().get()).ok();
            }
            _ => {}
        }
    }
    let message = String::from_utf8_lossy(&buffer[..received.bytes]).into_owned();
    Ok(Said { message, descriptors, from })
}

fn pass_on(master: &Child, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(master.id() as i32);
    // It is our child and not reaped, so the number is its own.
    let _ = nix::sys::signal::kill(pid, signal);
}

/// In a container this may be the first process, which gets everybody's orphans.
fn reap_others(master: u32) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, flags) {
        let Some(pid) = status.pid().filter(|_| status != WaitStatus::StillAlive) else { return };
        if pid.as_raw() as u32 == master
            || waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err()
        {
            return;
        }
    }
}
