//! System calls, by seccomp: what a worker needs, what a helper does not, and what nobody ever does.
//!
//! A call that is not needed fails with EPERM, so that a library which tries something goes on without. One
//! that nothing of ours does ends the process (SIGSYS), because somebody else is at work in it. `clone3(2)`
//! has its flags in memory, where no filter sees them, and does not exist here: the C library uses `clone(2)`
//! then.

use std::collections::BTreeMap;

use libc::*;
use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

/// Why system calls are not filtered.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilterError {
    #[error("no filter of system calls could be made: {0}")]
    Made(#[from] BackendError),
    #[error("system calls could not be filtered: {0}")]
    Applied(#[from] seccompiler::Error),
}

/// Nothing of ours, in any role and any release, does these: other processes' memory, mounts and
/// namespaces, the kernel's own programs and modules, keys, clocks, and ways around a filter.
const NEVER: &[c_long] = &[
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fsconfig,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_pivot_root,
    SYS_chroot,
    SYS_unshare,
    SYS_setns,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_open_by_handle_at,
    SYS_lookup_dcookie,
    SYS_personality,
    SYS_pidfd_getfd,
];

/// What has an instruction of its own on one kind of machine only.
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[c_long] = &[SYS_iopl, SYS_ioperm, SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[c_long] = &[];

/// Starting a program: for the master alone.
const PROGRAMS: &[c_long] = &[SYS_execve, SYS_execveat];

/// What makes an address or goes to one: not for who works on data.
const REACHING: &[c_long] = &[SYS_socket, SYS_connect, SYS_bind, SYS_listen];

/// What a worker does, whatever the arguments.
const NEEDED: &[c_long] = &[
    // Files that are open, and those that Landlock leaves.
    SYS_read,
    SYS_readv,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_write,
    SYS_writev,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_openat,
    SYS_close,
    SYS_close_range,
    SYS_lseek,
    SYS_fcntl,
    SYS_flock,
    SYS_dup,
    SYS_dup3,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_readlinkat,
    SYS_getcwd,
    SYS_getdents64,
    SYS_mkdirat,
    SYS_unlinkat,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_fadvise64,
    SYS_fsync,
    SYS_fdatasync,
    SYS_fchown,
    SYS_umask,
    // Memory that is never code.
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_msync,
    SYS_mincore,
    SYS_brk,
    SYS_membarrier,
    // Connections that are there.
    SYS_accept4,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_recvmmsg,
    SYS_shutdown,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    // Waiting.
    SYS_ppoll,
    SYS_pselect6,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_pipe2,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    SYS_timerfd_gettime,
    SYS_signalfd4,
    SYS_futex,
    SYS_futex_waitv,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_gettimeofday,
    SYS_restart_syscall,
    // Itself, its threads and its signals.
    SYS_getpid,
    SYS_gettid,
    SYS_getppid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_getrandom,
    SYS_getrusage,
    SYS_sysinfo,
    SYS_uname,
    SYS_getcpu,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_set_robust_list,
    SYS_get_robust_list,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigpending,
    SYS_rt_sigtimedwait,
    SYS_sigaltstack,
    SYS_exit,
    SYS_exit_group,
    // Answered by the filter that says it does not exist.
    SYS_clone3,
];

/// The same under the numbers that newer machines do not have.
#[cfg(target_arch = "x86_64")]
const NEEDED_HERE: &[c_long] = &[
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_mkdir,
    SYS_rmdir,
    SYS_unlink,
    SYS_dup2,
    SYS_pipe,
    SYS_accept,
    SYS_poll,
    SYS_select,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_time,
    SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NEEDED_HERE: &[c_long] = &[SYS_accept];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// For a web worker: never, and nothing that is not needed.
pub(super) fn worker() -> Result<(), FilterError> {
    kill(&[NEVER, NEVER_HERE, PROGRAMS])?;
    no_clone3()?;
    let refuse = SeccompAction::Errno(EPERM as u32);
    apply(needed()?, refuse, SeccompAction::Allow)
}

/// For who works on data: never, and no way to anybody.
pub(super) fn helper() -> Result<(), FilterError> {
    kill(&[NEVER, NEVER_HERE, PROGRAMS])?;
    apply(whole(&[REACHING]), SeccompAction::Allow, SeccompAction::Errno(EPERM as u32))
}

/// For the master and everything that it starts: never, no new namespaces, no raw sockets.
pub(super) fn master() -> Result<(), FilterError> {
    kill(&[NEVER, NEVER_HERE])?;
    no_clone3()?;
    let mut rules = Rules::new();
    // `fork` of the C library is a `clone` without any of these.
    let namespaces = SPACES.iter().map(|space| rule([has(0, *space)?]));
    rules.insert(SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let kinds = [SOCK_RAW, PACKETS].map(|kind| rule([masked(1, KIND, kind as u64)?]));
    let mut sockets = kinds.into_iter().collect::<Result<Vec<_>, _>>()?;
    for family in [AF_PACKET, AF_NETLINK, AF_ALG, AF_VSOCK, AF_BLUETOOTH] {
        sockets.push(rule([is(0, family as u64)?])?);
    }
    rules.insert(SYS_socket, sockets);
    apply(rules, SeccompAction::Allow, SeccompAction::Errno(EPERM as u32))
}

/// What a socket's type is, without its flags: `SOCK_TYPE_MASK`.
const KIND: u64 = 0xf;

/// The older way to packets, socket(2).
const PACKETS: c_int = 10;

/// The namespaces that `clone(2)` makes.
const SPACES: [u64; 7] = [
    CLONE_NEWNS as u64,
    CLONE_NEWCGROUP as u64,
    CLONE_NEWUTS as u64,
    CLONE_NEWIPC as u64,
    CLONE_NEWUSER as u64,
    CLONE_NEWPID as u64,
    CLONE_NEWNET as u64,
];

fn needed() -> Result<Rules, BackendError> {
    let mut rules = whole(&[NEEDED, NEEDED_HERE]);
    let mut only = |call: c_long, when: Vec<Vec<SeccompCondition>>| -> Result<(), BackendError> {
        let allowed = when.into_iter().map(SeccompRule::new).collect::<Result<_, _>>()?;
        rules.insert(call, allowed);
        Ok(())
    };
    // Threads, and no processes.
    let spaces = SPACES.iter().fold(0, |all, space| all | space);
    let thread = CLONE_THREAD as u64;
    only(SYS_clone, vec![vec![masked(0, thread | spaces, thread)?]])?;
    // Nothing that is written becomes code.
    for call in [SYS_mmap, SYS_mprotect] {
        only(call, vec![vec![masked(2, PROT_EXEC as u64, 0)?]])?;
    }
    // A pair of sockets, as tokio's signals have it, reaches nobody.
    only(SYS_socketpair, vec![vec![is(0, AF_UNIX as u64)?]])?;
    // On a connection that is there: an address, or data with the first packet (tcp(7), TCP_FASTOPEN), would
    // make one.
    let opens = MSG_FASTOPEN as u64;
    only(SYS_sendto, vec![vec![masked(3, opens, 0)?, is_pointer(4, 0)?]])?;
    only(SYS_sendmsg, vec![vec![masked(2, opens, 0)?]])?;
    // What sockets are asked; a terminal's input could be faked (TIOCSTI), for one.
    let asked = [FIONBIO, FIONREAD, FIOCLEX, FIONCLEX, TIOCOUTQ, TCGETS];
    only(
        SYS_ioctl,
        asked.iter().map(|ask| Ok(vec![is(1, *ask)?])).collect::<Result<_, BackendError>>()?,
    )?;
    let named = [PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_GET_DUMPABLE];
    only(
        SYS_prctl,
        named
            .iter()
            .map(|ask| Ok(vec![is(0, *ask as u64)?]))
            .collect::<Result<_, BackendError>>()?,
    )?;
    // A mode as SQLite gives its files, without set-user-id and its kin.
    only(SYS_fchmod, vec![vec![masked(1, u64::from(S_ISUID | S_ISGID), 0)?]])?;
    // Itself only: a panic that aborts, a limit that is looked at.
    only(SYS_tgkill, vec![vec![is(0, u64::from(std::process::id()))?]])?;
    only(SYS_prlimit64, vec![vec![is(0, 0)?, is_pointer(2, 0)?]])?;
    Ok(rules)
}

/// Ends the process at these.
fn kill(calls: &[&[c_long]]) -> Result<(), FilterError> {
    apply(whole(calls), SeccompAction::Allow, SeccompAction::KillProcess)
}

fn no_clone3() -> Result<(), FilterError> {
    apply(whole(&[&[SYS_clone3]]), SeccompAction::Allow, SeccompAction::Errno(ENOSYS as u32))
}

/// Puts a filter over those that there are. The strictest answer of all of them holds; of two numbers, the
/// later filter's.
fn apply(rules: Rules, other: SeccompAction, these: SeccompAction) -> Result<(), FilterError> {
    let here = std::env::consts::ARCH.try_into()?;
    let program: seccompiler::BpfProgram =
        SeccompFilter::new(rules, other, these, here)?.try_into()?;
    Ok(apply_filter_all_threads(&program)?)
}

/// These calls, whatever their arguments.
fn whole(calls: &[&[c_long]]) -> Rules {
    calls.iter().copied().flatten().map(|call| (*call, Vec::new())).collect()
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into())
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Length::Dword, Op::Eq, value)
}

fn is_pointer(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Length::Qword, Op::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, Length::Dword, Op::MaskedEq(mask), value)
}

fn has(argument: u8, bit: u64) -> Result<SeccompCondition, BackendError> {
    masked(argument, bit, bit)
}
