//! What somebody would try who runs code of his own in one of our processes.
//!
//! Each attempt is one or two system calls, made where the real process stands: a worker makes them itself, after
//! it was confined; the master lets a child make each, which has inherited all that it has given up. What the
//! kernel answered goes to the log, a line each: `attempt by worker raw-socket: errno 1`, or `done`.
//! What ends a process is left to one worker each, the first to the one with number 1.
#![allow(unsafe_code, reason = "system calls that no library of ours would make")]

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::*;

/// One attempt.
struct Attempt {
    name: &'static str,
    make: fn() -> io::Result<()>,
}

/// What is refused with a number.
const REFUSED: &[Attempt] = &[
    Attempt { name: "write-program", make: write_program },
    Attempt { name: "write-releases", make: || create("/opt/pump/releases/planted") },
    Attempt { name: "write-copies", make: || create("/var/lib/pump-releases/planted") },
    Attempt { name: "write-usr", make: || create("/usr/lib/planted") },
    Attempt { name: "write-unit", make: || create("/etc/systemd/system/planted.service") },
    Attempt { name: "write-configuration", make: || open_file("/etc/pump/pumpd.toml", O_WRONLY) },
    Attempt { name: "read-shadow", make: || open_file("/etc/shadow", O_RDONLY) },
    Attempt { name: "read-home", make: || open_file("/home/somebody/secret", O_RDONLY) },
    Attempt { name: "read-other-user", make: || open_file("/srv/secret", O_RDONLY) },
    Attempt { name: "read-records", make: || open_file("/var/lib/pump-upgrade", O_RDONLY) },
    Attempt { name: "read-passwd", make: || open_file("/etc/passwd", O_RDONLY) },
    Attempt { name: "read-parent-memory", make: parent_memory },
    Attempt { name: "signal-init", make: || call(SYS_kill, [1, 0, 0, 0, 0, 0]) },
    Attempt { name: "signal-parent", make: || call(SYS_kill, [parent(), 0, 0, 0, 0, 0]) },
    Attempt { name: "raw-socket", make: || socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) },
    Attempt { name: "packet-socket", make: || socket(AF_PACKET, SOCK_RAW, 0) },
    Attempt { name: "connect-out", make: connect_out },
    Attempt { name: "connect-listener", make: connect_listener },
    Attempt { name: "send-to-address", make: send_to_address },
    Attempt { name: "connect-unix", make: || socket(AF_UNIX, SOCK_STREAM, 0) },
    Attempt { name: "new-process", make: new_process },
    Attempt { name: "process-in-namespace", make: process_in_namespace },
    Attempt { name: "code-in-memory", make: code_in_memory },
    Attempt { name: "set-user-id", make: set_user_id },
];

/// What ends who tries it, in a worker.
const DEADLY: &[Attempt] = &[
    Attempt { name: "shell", make: shell },
    Attempt { name: "trace-parent", make: || call(SYS_ptrace, [0x4206, parent(), 0, 0, 0, 0]) },
    Attempt { name: "write-parent-memory", make: write_parent_memory },
    Attempt { name: "user-namespace", make: || unshare(CLONE_NEWUSER) },
    Attempt { name: "mount-namespace", make: || unshare(CLONE_NEWNS) },
    Attempt { name: "network-namespace", make: || unshare(CLONE_NEWNET) },
    Attempt { name: "mount", make: mount },
    Attempt { name: "kernel-program", make: || call(SYS_bpf, [0; 6]) },
    Attempt { name: "keyring", make: || call(SYS_keyctl, [0, -1, 1, 0, 0, 0]) },
];

/// What would be left on the machine if it were let.
const LASTING: &[&str] = &["write-releases", "write-copies", "write-usr", "write-unit"];

/// Makes the attempts of worker `number`; those that could leave something on the machine only `everywhere`.
pub(super) fn by_worker(number: u64, everywhere: bool) {
    for attempt in REFUSED.iter().filter(|one| everywhere || !LASTING.contains(&one.name)) {
        tell("worker", attempt.name, &said((attempt.make)()));
    }
    let own = usize::try_from(number).ok().and_then(|number| DEADLY.get(number.checked_sub(1)?));
    if let Some(attempt) = own {
        // Where it is not answered, this is the last line.
        tell("worker", attempt.name, "made");
        tell("worker", attempt.name, &said((attempt.make)()));
    }
}

/// Makes all attempts, each in a child.
pub(super) fn by_master() {
    for attempt in REFUSED.iter().chain(DEADLY) {
        tell("master", attempt.name, &in_child(attempt.make));
    }
}

fn tell(role: &str, name: &str, what: &str) {
    super::armed::say(&format!("attempt by {role} {name}: {what}"));
}

fn said(made: io::Result<()>) -> String {
    match made {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("errno {}", error.raw_os_error().unwrap_or(0)),
    }
}

/// What an attempt comes to in a child of this process.
fn in_child(make: fn() -> io::Result<()>) -> String {
    // SAFETY: the master has one thread, so that nothing is held that the child could wait for; the child ends
    // without running anything of its parent's.
    let child = unsafe { fork() };
    if child == 0 {
        let errno = make().err().map_or(0, |error| error.raw_os_error().unwrap_or(255));
        // SAFETY: as above.
        unsafe { _exit(errno) }
    }
    let mut status = 0;
    // SAFETY: it is our own child, and the number is ours to write to.
    if child < 0 || unsafe { waitpid(child, &raw mut status, 0) } != child {
        return format!("not made: {}", io::Error::last_os_error());
    }
    match (WIFSIGNALED(status), WEXITSTATUS(status)) {
        (true, _) => format!("signal {}", WTERMSIG(status)),
        (false, 0) => "done".to_owned(),
        (false, errno) => format!("errno {errno}"),
    }
}

/// One system call. A descriptor that it returns is left open: nobody will miss it.
fn call(number: c_long, arguments: [i64; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: every pointer that the attempts pass is to a local that outlives the call; what a call does to
    // this process when it is let is what the attempt is for.
    match unsafe { syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn pointer<T: ?Sized>(to: &T) -> i64 {
    std::ptr::from_ref(to).cast::<u8>() as i64
}

fn open_file(path: impl AsRef<OsStr>, how: c_int) -> io::Result<()> {
    let path = CString::new(path.as_ref().as_bytes())?;
    let at = i64::from(AT_FDCWD);
    call(SYS_openat, [at, pointer(path.as_bytes_with_nul()), i64::from(how), 0o644, 0, 0])
}

fn create(path: impl AsRef<OsStr>) -> io::Result<()> {
    open_file(path, O_WRONLY | O_CREAT)
}

fn write_program() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    create(program.parent().unwrap_or(Path::new("/")).join("planted"))
}

fn parent() -> i64 {
    // SAFETY: asks for a number.
    i64::from(unsafe { getppid() })
}

fn parent_memory() -> io::Result<()> {
    open_file(format!("/proc/{}/mem", parent()), O_RDWR)
}

fn write_parent_memory() -> io::Result<()> {
    let nothing = [0_u8; 1];
    let part = iovec { iov_base: nothing.as_ptr().cast_mut().cast(), iov_len: 1 };
    call(SYS_process_vm_writev, [parent(), pointer(&part), 1, pointer(&part), 1, 0])
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<()> {
    call(SYS_socket, [family.into(), kind.into(), protocol.into(), 0, 0, 0])
}

fn unshare(space: c_int) -> io::Result<()> {
    call(SYS_unshare, [space.into(), 0, 0, 0, 0, 0])
}

/// 127.0.0.1:9, where nobody listens. Refused by it would mean: reached.
fn somewhere() -> sockaddr_in {
    sockaddr_in {
        sin_family: AF_INET as u16,
        sin_port: 9_u16.to_be(),
        sin_addr: in_addr { s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be() },
        sin_zero: [0; 8],
    }
}

fn connect(socket: i64) -> io::Result<()> {
    let to = somewhere();
    match call(SYS_connect, [socket, pointer(&to), size_of_val(&to) as i64, 0, 0, 0]) {
        Err(error) if error.raw_os_error() == Some(ECONNREFUSED) => Ok(()),
        done => done,
    }
}

fn connect_out() -> io::Result<()> {
    // SAFETY: makes a descriptor.
    match unsafe { libc::socket(AF_INET, SOCK_STREAM, 0) } {
        -1 => Err(io::Error::last_os_error()),
        socket => connect(socket.into()),
    }
}

/// A socket of TCP that this process has.
fn listener() -> Option<i64> {
    (3..1024)
        .find(|number| {
            // SAFETY: all of it are numbers, for which zero is a value.
            let mut family: sockaddr_storage = unsafe { std::mem::zeroed() };
            let mut size = size_of_val(&family) as socklen_t;
            // SAFETY: both are ours, and the kernel writes no more than `size` bytes.
            let told = unsafe { getsockname(*number, (&raw mut family).cast(), &raw mut size) };
            told == 0 && [AF_INET, AF_INET6].contains(&i32::from(family.ss_family))
        })
        .map(i64::from)
}

/// One that is there needs no `socket(2)`.
fn connect_listener() -> io::Result<()> {
    let socket = listener().ok_or(io::ErrorKind::NotFound)?;
    connect(socket)
}

/// Data that is sent together with where it goes makes a connection, too.
fn send_to_address() -> io::Result<()> {
    let socket = listener().ok_or(io::ErrorKind::NotFound)?;
    let (to, text) = (somewhere(), [b'x']);
    let size = size_of_val(&to) as i64;
    call(SYS_sendto, [socket, pointer(&text), 1, MSG_FASTOPEN.into(), pointer(&to), size])
}

fn new_process() -> io::Result<()> {
    // SAFETY: the child ends at once.
    match unsafe { fork() } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it ends this process and runs nothing.
        0 => unsafe { _exit(0) },
        _ => Ok(()),
    }
}

fn process_in_namespace() -> io::Result<()> {
    let flags = i64::from(CLONE_NEWUSER | SIGCHLD);
    // SAFETY: as `fork`, with a namespace of its own; the child ends at once.
    match unsafe { syscall(SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: it ends this process and runs nothing.
        0 => unsafe { _exit(0) },
        _ => Ok(()),
    }
}

fn code_in_memory() -> io::Result<()> {
    let rights = i64::from(PROT_READ | PROT_WRITE | PROT_EXEC);
    call(SYS_mmap, [0, 4096, rights, i64::from(MAP_PRIVATE | MAP_ANONYMOUS), -1, 0])
}

/// The log's pipe has a mode as any file, and every process of ours has it.
fn set_user_id() -> io::Result<()> {
    call(SYS_fchmod, [2, 0o4755, 0, 0, 0, 0])
}

fn mount() -> io::Result<()> {
    let (what, to) = (c"tmpfs", c"/mnt");
    call(
        SYS_mount,
        [
            pointer(what.to_bytes_with_nul()),
            pointer(to.to_bytes_with_nul()),
            pointer(what.to_bytes_with_nul()),
            0,
            0,
            0,
        ],
    )
}

fn shell() -> io::Result<()> {
    let (shell, arguments) =
        (c"/bin/sh", [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 0".as_ptr(), std::ptr::null()]);
    call(SYS_execve, [pointer(shell.to_bytes_with_nul()), pointer(&arguments), 0, 0, 0, 0])
}
