//! The way back out of a new master that dies before it has confirmed.
//!
//! A master becomes another build by an exec over itself. From the first line of its `main` until the
//! new one has reached its loop, this holds: what would end the process (a crash, an abort, a stack
//! overflow, a hang, an exit) execs the old build instead, with the state that the old build wrote. The process
//! and all its descriptors, children and clients are the same all the while.
//!
//! The handler runs on a stack of its own and makes one system call, `execveat(2)`, with arguments that
//! were laid out beforehand. Signal handlers do not outlive an exec, but the mask does: the old build
//! sets it anew when it begins again.
#![allow(unsafe_code, reason = "signal handlers, and an exec out of one")]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use pump_control::constants::CONFIRM_WITHIN;

/// What ends a process that has gone wrong, and what says that it hangs.
const DEADLY: [Signal; 8] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
    Signal::SIGALRM,
];

/// Bytes of the stack that the handler runs on.
const STACK: usize = 64 * 1024;

/// The two places of the digits of a signal's number at the end of the arguments.
const DIGITS: usize = 2;

/// What the handler execs. It is laid out once and never freed while a handler may run.
struct Way {
    program: RawFd,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    digits: *mut u8,
    /// The owners of the strings.
    _strings: Vec<CString>,
}

static WAY: AtomicPtr<Way> = AtomicPtr::new(null_mut());

/// The right to be the master from now on.
#[must_use]
pub(crate) struct Guard(());

/// Arms it if this process was another build before: `--before` and `--resume` are among its arguments.
/// Called before anything else, and so before the command line is understood.
pub(crate) fn arm_if_resumed() -> io::Result<Option<Guard>> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let after = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)
    };
    let number = |name| after(name)?.to_str()?.parse().ok();
    let (Some(before), Some(state), Some(config), Some(name)) =
        (number("--before"), number("--resume"), after("--config"), arguments.first())
    else {
        return Ok(None);
    };
    arm(before, state, Path::new(config), name).map(Some)
}

/// Arms it. `before` is the descriptor of the old build, `state` that of the state it wrote.
///
/// # Errors
/// When a handler cannot be set. Nothing but time has been lost then: the caller goes back by itself.
fn arm(before: RawFd, state: RawFd, config: &Path, name: &OsStr) -> io::Result<Guard> {
    // What goes back is an exec, which shall not leave the old build a descriptor of itself.
    // SAFETY: sets a flag of a number, and says so where that is no descriptor.
    if unsafe { libc::fcntl(before, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let way = Box::into_raw(Box::new(Way::new(before, state, config, name)?));
    WAY.store(way, Ordering::SeqCst);
    // It lives as long as the process: a handler may need it at any time.
    let stack: &'static mut [u8] = Box::leak(vec![0; STACK].into_boxed_slice());
    let stack =
        libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is ours, of that size, and never freed.
    if unsafe { libc::sigaltstack(&raw const stack, null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::Handler(go_back_by_signal), flags, SigSet::empty());
    for signal in DEADLY {
        // SAFETY: the handler does nothing that is not async-signal-safe: signal-safety(7).
        unsafe { sigaction(signal, &action) }?;
    }
    // What ends the process in an orderly way shall not do so either.
    // SAFETY: the function takes nothing, unwinds never, and does nothing once the guard is disarmed.
    if unsafe { libc::atexit(go_back_at_exit) } != 0 {
        return Err(io::Error::other("the C library takes no more functions to call at the exit"));
    }
    // A panic unwinds, and dropping what was taken over would close it.
    std::panic::set_hook(Box::new(|_| go_back(0)));
    nix::unistd::alarm::set(CONFIRM_WITHIN.as_secs() as u32);
    Ok(Guard(()))
}

impl Guard {
    /// The new master is in its loop: nobody goes back any more.
    pub(crate) fn disarm(self) {
        nix::unistd::alarm::cancel();
        let _ = std::panic::take_hook();
        let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in DEADLY {
            // SAFETY: the default action runs no code of ours.
            let defaulted = unsafe { sigaction(signal, &action) };
            debug_assert!(defaulted.is_ok(), "these signals may be set");
        }
        // The handlers are gone, and with them whoever would read it.
        WAY.store(null_mut(), Ordering::SeqCst);
    }

    /// The new master cannot go on, and says so itself.
    pub(crate) fn go_back(&self) -> ! {
        go_back(0)
    }
}

/// Called by exit(3), whoever calls that.
extern "C" fn go_back_at_exit() {
    if !WAY.load(Ordering::SeqCst).is_null() {
        go_back(0)
    }
}

extern "C" fn go_back_by_signal(signal: libc::c_int) {
    go_back(signal)
}

/// Becomes the old build again. `why` is the signal, or 0.
fn go_back(why: libc::c_int) -> ! {
    let way = WAY.load(Ordering::SeqCst);
    if !way.is_null() {
        // SAFETY: it was made by `arm`, is never freed, and nothing else writes to it; the system call
        // gets strings with their ends and lists with theirs. Where it returns, it has failed.
        unsafe {
            let why = why.clamp(0, 99) as u8;
            (*way).digits.write(b'0' + why / 10);
            (*way).digits.add(1).write(b'0' + why % 10);
            libc::syscall(
                libc::SYS_execveat,
                (*way).program,
                c"".as_ptr(),
                (*way).arguments.as_ptr(),
                (*way).environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
    }
    // SAFETY: ends the process and nothing else. Its workers serve on, and who keeps their descriptors
    // starts the last confirmed build.
    unsafe { libc::_exit(1) }
}

impl Way {
    fn new(program: RawFd, state: RawFd, config: &Path, name: &OsStr) -> io::Result<Self> {
        let mut strings = Vec::new();
        let mut own = |bytes: &[u8]| -> io::Result<*mut libc::c_char> {
            let string = CString::new(bytes).map_err(io::Error::other)?;
            let pointer = string.as_ptr().cast_mut();
            strings.push(string);
            Ok(pointer)
        };
        let mut arguments: Vec<*const libc::c_char> = Vec::new();
        let state = state.to_string();
        let words: [&[u8]; 6] = [
            name.as_bytes(),
            b"master",
            b"--config",
            config.as_os_str().as_bytes(),
            b"--resume",
            state.as_bytes(),
        ];
        for word in words {
            arguments.push(own(word)?);
        }
        arguments.push(own(b"--returned")?);
        let digits = own(&[b'0'; DIGITS])?;
        arguments.push(digits);
        arguments.push(null_mut());
        let mut environment: Vec<*const libc::c_char> = Vec::new();
        for (key, value) in std::env::vars_os() {
            environment.push(own(&[key.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        environment.push(null_mut());
        let digits = digits.cast();
        Ok(Self { program, arguments, environment, digits, _strings: strings })
    }
}
