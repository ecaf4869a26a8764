//! A child process: its birth, its last words, its death.
//!
//! A child is exec'ed from a pinned descriptor through `/proc/self/fd/N`, so that it is the build
//! that was inspected whatever has become of the file since, and it is followed by a pidfd, so that a
//! number that the kernel gives out again is never taken for it.
//!
//! The master is one thread. That is why a descriptor may be made inheritable for the moment of a
//! spawn: nothing else can be spawned in between.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pump_control::constants::{KEPT_OUTPUT_LINES, MAX_OUTPUT_LINE};
use pump_control::{Line, Lines};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_open, pidfd_send_signal,
    waitid,
};

/// Environment that is between systemd and the master alone, or between a master and the next one.
const NOT_INHERITED: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "PUMP_CONFINED",
    "PUMP_KEPT",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// What a child gets.
pub(crate) struct Birth<'a> {
    /// The pinned program.
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) args: &'a [&'a OsStr],
    /// Descriptors it inherits under the numbers they have.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// What it reads from its standard input, at most a pipe's 64 KiB.
    pub(crate) stdin: Option<&'a str>,
    /// Whether its standard output is kept apart from what it logs.
    pub(crate) answers: bool,
    /// Whether it is killed when this process ends, whatever it is doing then.
    pub(crate) dies_with_us: bool,
}

/// A child process that has not been reaped.
pub(crate) struct Child {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    log: Output,
    answer: Option<Answer>,
}

/// The pipe of a child's log, and its last lines.
struct Output {
    pipe: Option<OwnedFd>,
    lines: Lines,
    last: VecDeque<String>,
}

/// The pipe of a child's answer, and what it said so far.
struct Answer {
    pipe: Option<OwnedFd>,
    text: Vec<u8>,
}

/// Longest answer of `release-info` and `check`, in bytes. What is beyond is cut off.
const MAX_ANSWER: usize = 64 * 1024;

/// Longest part of a line that is kept, in bytes. What is kept has to fit into a reply twice, as the
/// latch's and as the last roll's, and who reads a reply expects no more than `MAX_CONTROL_LINE`.
const MAX_KEPT: usize = 500;

/// By how much a child that has proven nothing yet counts as larger than it is, in thousandths of all memory
/// that there may be. The kernel else ends the largest, and that is a worker that serves.
const GOES_FIRST: i32 = 1000;

/// How long a program may be busy that was written just now, and how often it is tried. The master waits for it.
const BUSY_FOR: Duration = Duration::from_millis(500);
const TRY_EVERY: Duration = Duration::from_millis(5);

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Death {
    /// The exit code, if it ended by itself.
    pub(crate) code: Option<i32>,
    /// The signal that has ended it.
    pub(crate) signal: Option<i32>,
    /// `exited with 3` or `was ended by signal 9`.
    pub(crate) how: String,
    /// The last lines of its log.
    pub(crate) output: Vec<String>,
    /// What it wrote to standard output, if that was asked for.
    pub(crate) answer: Vec<u8>,
}

impl Child {
    /// Starts a child.
    pub(crate) fn start(birth: &Birth<'_>) -> io::Result<Self> {
        let (log, log_end) = pipe()?;
        let program = number(birth.program);
        let mut command = Command::new(format!("/proc/self/fd/{program}"));
        command.arg0("pumpd").args(birth.args);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let answer = match birth.answers {
            true => {
                let (answer, answer_end) = pipe()?;
                command.stdout(Stdio::from(answer_end));
                Some(Answer { pipe: Some(answer), text: Vec::new() })
            }
            false => {
                command.stdout(Stdio::from(log_end.try_clone()?));
                None
            }
        };
        command.stderr(Stdio::from(log_end));
        command.stdin(match birth.stdin {
            Some(text) => stdin_with(text)?,
            None => Stdio::null(),
        });
        // A script's interpreter opens the program again, so it has to outlive the exec too.
        let inherited = || birth.descriptors.iter().chain([&birth.program]);
        for descriptor in inherited() {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        before_exec(&mut command, birth.dies_with_us);
        let spawned = spawn(&mut command);
        for descriptor in inherited() {
            rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
        let mut child = spawned?;
        let pid = Pid::from_child(&child);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // Out of descriptors. Nobody could follow it, so it must not be there.
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error.into());
            }
        };
        let log =
            Output { pipe: Some(log), lines: Lines::new(MAX_OUTPUT_LINE), last: VecDeque::new() };
        Ok(Self { pid: child.id(), pidfd, log, answer })
    }

    /// This child has shown that it works, and counts for as much as we do when memory runs out.
    pub(crate) fn is_needed(&self) {
        // What one has raised one may lower again: proc_pid_oom_score_adj(5). Where that fails the kernel
        // has a favourite, as it has without us.
        let _ =
            std::fs::write(format!("/proc/{}/oom_score_adj", self.pid), own_score().to_string());
    }

    /// A child that somebody else has started: the master before this one, or this process before it
    /// became another build. `logged` is what was read of its last line.
    pub(crate) fn taken(pid: u32, pidfd: OwnedFd, log: Option<OwnedFd>, logged: &[u8]) -> Self {
        let mut lines = Lines::new(MAX_OUTPUT_LINE);
        lines.push(logged);
        let log = Output { pipe: log, lines, last: VecDeque::new() };
        Self { pid, pidfd, log, answer: None }
    }

    /// The pipe of its log, and what was read of an unfinished line.
    pub(crate) fn log(&self) -> (Option<BorrowedFd<'_>>, &[u8]) {
        (self.log.pipe.as_ref().map(AsFd::as_fd), self.log.lines.unfinished())
    }

    /// Becomes readable when the child is dead.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The pipes that are still open.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let answer = self.answer.as_ref().and_then(|answer| answer.pipe.as_ref());
        self.log.pipe.iter().chain(answer).map(AsFd::as_fd)
    }

    /// Takes in what the pipes hold and returns the whole lines of the log.
    pub(crate) fn read(&mut self) -> Vec<String> {
        if let Some(answer) = &mut self.answer {
            answer.read();
        }
        self.log.read()
    }

    pub(crate) fn kill(&self) {
        // It may have died by itself in the meantime, which is as good.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Ends a child that has done nothing yet, and waits for that.
    pub(crate) fn end(mut self) {
        self.kill();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let within = Timespec { tv_sec: 1, tv_nsec: 0 };
        // A child that the kernel does not let go of stays a zombie, which is better than to wait for it.
        let _ = poll(&mut fds, Some(&within));
        self.reap();
    }

    /// A pidfd is readable when its process has ended, whoever's child it was: `pidfd_open(2)`.
    fn is_dead(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut fds, Some(&at_once)), Ok(0) | Err(_))
    }

    /// Reaps the child if it is dead. Its last lines are printed by the caller, as all others.
    pub(crate) fn reap(&mut self) -> Option<(Death, Vec<String>)> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(status) => Some(status?),
            Err(rustix::io::Errno::INTR) => return None,
            // It is not our own child, or somebody else has reaped it. Only its pidfd can tell.
            Err(_) if !self.is_dead() => return None,
            Err(_) => None,
        };
        let mut said = self.read();
        said.extend(self.log.rest());
        let answer = self.answer.take().map(|answer| answer.text).unwrap_or_default();
        let death = Death {
            code: status.as_ref().and_then(WaitIdStatus::exit_status),
            signal: status.as_ref().and_then(WaitIdStatus::terminating_signal),
            how: status.as_ref().map_or_else(|| "ended".to_owned(), describe),
            output: self.log.last.drain(..).collect(),
            answer,
        };
        Some((death, said))
    }
}

/// Spawns, also what somebody has just written. Whatever the writer forks in that moment holds the file open for
/// writing, too, until its own exec, and nothing announces that.
fn spawn(command: &mut Command) -> io::Result<std::process::Child> {
    let until = Instant::now() + BUSY_FOR;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < until =>
            {
                std::thread::park_timeout(TRY_EVERY);
            }
            spawned => return spawned,
        }
    }
}

/// What is so from the first page on that the child's program needs.
#[allow(unsafe_code, reason = "between fork and exec")]
fn before_exec(command: &mut Command, dies_with_us: bool) {
    let score = own_score().max(GOES_FIRST).to_string();
    let prepare = move || {
        // Without these two the kernel's choice and the child's end are left to chance, as they once were.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
            let _ = rustix::io::write(&file, score.as_bytes());
        }
        if dies_with_us {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls and nothing else: it takes no lock and no memory.
    unsafe { command.pre_exec(prepare) };
}

/// How much larger than it is this process is taken to be when memory runs out.
fn own_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn describe(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exited with {code}"),
        // seccomp(2), and nothing of ours does it: docs/SECURITY.md.
        (None, Some(signal)) if signal == libc::SIGSYS => format!(
            "was ended by signal {signal}: it made a system call that no build of pump makes, which is how \
             somebody would begin who has broken in"
        ),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

impl Output {
    fn read(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        let mut chunk = Vec::new();
        read_some(&mut self.pipe, MAX_ANSWER, &mut chunk);
        for line in self.lines.push(&chunk) {
            said.push(match line {
                Line::Whole(bytes) => printable(&bytes),
                Line::Oversized => "(a line that was too long)".to_owned(),
            });
        }
        for line in &said {
            self.keep(line);
        }
        said
    }

    /// What stands after the last newline.
    fn rest(&mut self) -> Option<String> {
        let rest = self.lines.rest();
        (!rest.is_empty()).then(|| {
            let line = printable(&rest);
            self.keep(&line);
            line
        })
    }

    fn keep(&mut self, line: &str) {
        if self.last.len() == KEPT_OUTPUT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(kept(line));
    }
}

/// A line of a stranger as it may be shown on a terminal. Control characters would steer it, and in
/// JSON each of them takes six bytes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let safe = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(bytes).chars().map(safe).collect()
}

/// The part of a line that is kept to explain what happened.
pub(crate) fn kept(line: &str) -> String {
    line[..line.floor_char_boundary(MAX_KEPT)].to_owned()
}

impl Answer {
    fn read(&mut self) {
        let room = MAX_ANSWER.saturating_sub(self.text.len());
        let mut chunk = Vec::new();
        read_some(&mut self.pipe, MAX_ANSWER, &mut chunk);
        chunk.truncate(room);
        self.text.extend(chunk);
    }
}

/// Reads what is there, at most about `limit` bytes; forgets a pipe that has ended.
fn read_some(pipe: &mut Option<OwnedFd>, limit: usize, into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Some(open) = pipe.as_ref() {
        match rustix::io::read(open, &mut buffer) {
            Ok(0) => *pipe = None,
            Ok(length) => into.extend_from_slice(&buffer[..length]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return,
            Err(_) => *pipe = None,
        }
        if into.len() >= limit {
            return;
        }
    }
}

/// A pipe whose reading end does not block.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// A pipe that already holds `text`.
fn stdin_with(text: &str) -> io::Result<Stdio> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // The configuration's limit is the size of a pipe, so this never waits.
    rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
    std::fs::File::from(write).write_all(text.as_bytes())?;
    Ok(Stdio::from(read))
}

/// The number of a descriptor, for a child that inherits it.
pub(crate) fn number(descriptor: BorrowedFd<'_>) -> i32 {
    use std::os::fd::AsRawFd;
    descriptor.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Waits for the child's end; a pidfd is readable then.
    fn wait(mut child: Child) -> Death {
        let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
        poll(&mut fds, None).expect("poll waits");
        child.reap().expect("a readable pidfd is a dead child").0
    }

    fn script(text: &str) -> File {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("pumpd-child-{}-{}", std::process::id(), {
            static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        }));
        std::fs::write(&path, text).expect("the temporary folder takes a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let file = File::open(&path).expect("it was just written");
        std::fs::remove_file(&path).expect("ours");
        file
    }

    fn start(file: &File, args: &[&OsStr], stdin: Option<&str>) -> Child {
        let birth = Birth {
            program: file.as_fd(),
            args,
            descriptors: &[],
            stdin,
            answers: true,
            dies_with_us: false,
        };
        Child::start(&birth).expect("a shell starts")
    }

    #[test]
    fn a_child_runs_from_its_descriptor_when_the_file_is_gone() {
        let file = script("#!/bin/sh\necho \"$1 and $(cat)\"\necho oops >&2\nexit 7\n");
        let death = wait(start(&file, &[OsStr::new("argument")], Some("input")));
        assert_eq!(death.code, Some(7));
        assert_eq!(death.answer, b"argument and input\n");
        assert_eq!(death.output, ["oops"]);
        assert_eq!(death.how, "exited with 7");
    }

    /// A program that was just installed by somebody who starts other programs meanwhile.
    #[test]
    fn a_program_that_is_busy_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("program");
        std::fs::copy("/bin/true", &path).expect("a copy");
        let writer = File::options().append(true).open(&path).expect("ours");
        let program = File::open(&path).expect("ours");
        let letting_go = std::thread::spawn(move || {
            std::thread::park_timeout(Duration::from_millis(30));
            drop(writer);
        });
        assert_eq!(wait(start(&program, &[], None)).code, Some(0));
        letting_go.join().expect("no panic");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let file =
            script("#!/bin/sh\ni=0; while [ $i -lt 50 ]; do echo $i >&2; i=$((i+1)); done\n");
        let death = wait(start(&file, &[], None));
        assert_eq!(death.output.len(), KEPT_OUTPUT_LINES);
        assert_eq!(death.output.last().map(String::as_str), Some("49"));
    }

    #[test]
    fn a_killed_child_says_so() {
        let file = script("#!/bin/sh\nread forever\nexec sleep 60\n");
        let child = start(&file, &[], None);
        child.kill();
        assert_eq!(wait(child).how, "was ended by signal 9");
    }

    #[test]
    fn the_largest_configuration_fits_into_standard_input() {
        let file = script("#!/bin/sh\nwc -c\n");
        let text = "x".repeat(pump_control::constants::MAX_CONFIG);
        let death = wait(start(&file, &[], Some(&text)));
        assert_eq!(death.answer.trim_ascii(), text.len().to_string().as_bytes());
    }
}
