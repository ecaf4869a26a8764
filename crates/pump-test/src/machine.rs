//! A booted machine: Debian with a real systemd, in a container, gone afterwards.
//!
//! Needs root, `mmdebstrap` and `systemd-nspawn`. The base tree is made once (half a minute) and kept
//! in the target folder; each machine is an overlay on it in memory, with a network of its own whose
//! only interface is the loopback one, so fixed ports do not clash. Up in about a second.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::{eventually, pause};
use crate::process;

/// The Debian release that tests are for, unless `PUMP_TEST_SUITE` names another.
const SUITE: &str = "bookworm";

/// What a machine has beyond the packages that every Debian has. No curl, no procps, no sudo: a
/// minimal machine finds more faults.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,ca-certificates,iproute2";

/// What a container's own filter refuses, and a machine does not: Landlock.
const ALLOWED: &str = "landlock_create_ruleset landlock_add_rule landlock_restrict_self";

/// How long a machine may take to boot. Far beyond what it takes, for a host that is busy.
const WITHIN: Duration = Duration::from_secs(240);

/// How long it may take to go down before its power is cut.
const DOWN_WITHIN: Duration = Duration::from_secs(60);

/// The search path inside, as a login of root has it.
const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running machine. Dropping it ends it.
pub struct Machine {
    nspawn: Child,
    init: u32,
}

/// One file of a machine, as far as two states are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `file`, `folder`, `link`, `socket` or `other`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Size in bytes, of a file.
    pub size: u64,
    /// Where it points, of a link.
    pub target: Option<PathBuf>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, group) = self.owner;
        write!(f, "{} {:04o} {user}:{group} {} bytes", self.kind, self.mode, self.size)?;
        self.target.iter().try_for_each(|target| write!(f, " to {}", target.display()))
    }
}

impl Machine {
    /// Boots a machine. `name` tells it from others in lists of processes.
    ///
    /// # Errors
    /// When this user is not root, a program is missing, or it does not come up.
    pub fn boot(name: &str) -> anyhow::Result<Self> {
        Self::boot_with(name, &[])
    }

    /// Boots a machine that has some of Debian's packages more. Its base tree is made and kept as the other one.
    ///
    /// # Errors
    /// As [`Self::boot`].
    pub fn boot_with(name: &str, more: &[&str]) -> anyhow::Result<Self> {
        anyhow::ensure!(nix::unistd::geteuid().is_root(), "a booted machine needs root");
        let base = base_with(more)?;
        let log = base.with_extension(format!("{name}.log"));
        // In a mount namespace of its own, so that nothing of it is left when the machine is gone:
        // the upper layer is on a tmpfs that nobody else sees.
        let script = r#"
            set -e
            mount -t tmpfs tmpfs /run
            mkdir -p /run/systemd /run/upper /run/work /run/machine
            mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" /run/machine
            # In control groups of its own. In shared ones its systemd finds processes of another machine in
            # units of the same name, which it can neither end nor forget then.
            groups=
            for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
                [ ! -e "$tree/cgroup.procs" ] || groups="$groups $tree/pump-test-$2-$$"
            done
            mkdir $groups
            enter='for group in $0; do echo $$ >"$group/cgroup.procs"; done; exec systemd-nspawn "$@"'
            # It ends with 133 when the machine is booted again (systemd-nspawn(1), exit status).
            while
                code=0
                sh -ec "$enter" "$groups" --quiet --register=no --keep-unit --private-network \
                    --link-journal=no --machine="$2" --directory=/run/machine --boot --console=pipe \
                    --system-call-filter="$3" \
                    || code=$?
                [ "$code" = 133 ]
            do :; done
            find $groups -depth -type d -exec rmdir {} + || true
            exit "$code"
        "#;
        let output =
            File::create(&log).with_context(|| format!("could not create `{}`", log.display()))?;
        let mut nspawn = Command::new("setsid")
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(&base)
            .arg(name)
            .arg(ALLOWED)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("could not run `setsid unshare … systemd-nspawn`")?;
        let told = || fs::read_to_string(&log).unwrap_or_default();
        let init = match init_of(&mut nspawn) {
            Ok(init) => init,
            Err(error) => {
                let _ = nspawn.kill();
                return Err(error.context(format!("the machine did not boot: {}", told())));
            }
        };
        let machine = Self { nspawn, init };
        machine.until_it_is_up();
        Ok(machine)
    }

    #[track_caller]
    fn until_it_is_up(&self) {
        eventually(WITHIN, || {
            let state = self.run(&["systemctl", "is-system-running", "--wait"]);
            match state.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) {
                Ok(state) if state == "running" || state == "degraded" => Ok(()),
                other => Err(other.map_err(|error| error.to_string())),
            }
        });
    }

    /// Boots it again: in good order, or, if it is `cut`, with everything ended at once, as when somebody presses
    /// the button. What is on its disk stays; `/run` is empty again.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn reboot(&mut self, cut: bool) {
        let before = self.init;
        let how: &[&str] = if cut { &["--force", "--force"] } else { &[] };
        // It may be gone before it has answered.
        let _ = self.run(&[&["systemctl", "--no-block", "reboot"], how].concat());
        self.init = eventually(WITHIN, || match init_of(&mut self.nspawn) {
            Ok(init) if init != before => Ok(init),
            other => Err(other.map_err(|error| error.to_string())),
        });
        self.until_it_is_up();
    }

    /// A command that runs inside, as root with nearly no environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string());
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--"]);
        command.args(["env", "-i", SEARCH_PATH, "HOME=/root", "LC_ALL=C.UTF-8"]);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a command inside and waits for it.
    ///
    /// # Errors
    /// When `nsenter` cannot be run. What the command does is in the output.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<Output> {
        let (program, words) = words.split_first().context("there is no command")?;
        self.command(program).args(words).output().context("could not run `nsenter`")
    }

    /// Runs a command inside that has to succeed, and returns what it prints.
    ///
    /// # Panics
    /// When it fails, with all it said.
    #[track_caller]
    pub fn must(&self, words: &[&str]) -> String {
        let output = self.run(words).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(output.status.success(), "`{}`: {}", words.join(" "), said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A path of the machine, as this process reaches it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(inside.trim_start_matches('/'))
    }

    /// Copies a file or a folder into the machine.
    ///
    /// # Errors
    /// When `cp` fails.
    pub fn put(&self, from: &Path, inside: &str) -> anyhow::Result<()> {
        let to = self.path(inside);
        if let Some(above) = to.parent() {
            fs::create_dir_all(above)?;
        }
        let copied = Command::new("cp").arg("-a").arg(from).arg(&to).output()?;
        anyhow::ensure!(copied.status.success(), "{}", said(&copied));
        Ok(())
    }

    /// Does something in the machine's network, where its loopback addresses are reached. Threads that
    /// are started in it are there too.
    ///
    /// # Panics
    /// When the network cannot be entered, and when `work` panics.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network =
            File::open(format!("/proc/{}/ns/net", self.init)).expect("init has a network");
        std::thread::scope(|scope| {
            // A thread of its own: only the thread that asks changes its network.
            let worker = scope.spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter a network");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Every file of the machine's own tree, without what is mounted over it.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn tree(&self) -> anyhow::Result<BTreeMap<PathBuf, Found>> {
        let root = self.path("/");
        let device = fs::metadata(&root)?.dev();
        let mut tree = BTreeMap::new();
        collect(&root, &root, device, &mut tree)?;
        Ok(tree)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // As `halt` does, and when that takes too long, as a power cut does. Either way the kernel
        // removes mounts and processes with the namespaces.
        let _ = self.run(&["systemctl", "--no-block", "poweroff"]);
        let deadline = Instant::now() + DOWN_WITHIN;
        while matches!(self.nspawn.try_wait(), Ok(None)) && Instant::now() < deadline {
            pause();
        }
        if matches!(self.nspawn.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.init.cast_signed()), Signal::SIGKILL);
            let _ = self.nspawn.kill();
            let _ = self.nspawn.wait();
        }
    }
}

/// What a command said, for a message.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The machine's init: the child of nspawn, which is the child of our shell, once it runs systemd.
fn init_of(nspawn: &mut Child) -> anyhow::Result<u32> {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(ended) = nspawn.try_wait()? {
            anyhow::bail!("systemd-nspawn ended with {ended}");
        }
        // The shell's child is nspawn, and its child is init.
        let all = process::children(nspawn.id()).into_iter();
        let init = all.flat_map(|child| process::children(child.pid)).find(|child| {
            // Between fork and exec it is still called after nspawn.
            fs::read_to_string(format!("/proc/{}/comm", child.pid))
                .is_ok_and(|name| name.trim() == "systemd")
        });
        if let Some(init) = init {
            return Ok(init.pid);
        }
        anyhow::ensure!(Instant::now() < deadline, "there is no init after {WITHIN:?}");
        pause();
    }
}

/// The base tree, made if it is not there. One process makes it, others wait.
///
/// # Errors
/// When `mmdebstrap` fails.
pub fn base() -> anyhow::Result<PathBuf> {
    base_with(&[])
}

/// The same with some packages more.
fn base_with(more: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = target().join("machines");
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock().context("could not lock the folder of base trees")?;
    let suite = suite();
    let packages = [&[PACKAGES], more].concat().join(",");
    let kind = [&[suite.as_str()], more].concat().join("+");
    let base = folder.join(&kind);
    if base.exists() {
        return Ok(base);
    }
    let new = folder.join(format!("{kind}.new"));
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={packages}"))
        .arg(&suite)
        .arg(&new)
        .output()
        .context("could not run `mmdebstrap`")?;
    anyhow::ensure!(made.status.success(), "`mmdebstrap` failed: {}", said(&made));
    fs::rename(&new, &base)?;
    Ok(base)
}

/// The Debian release that is tested on: `PUMP_TEST_SUITE`, or the usual one.
pub fn suite() -> String {
    std::env::var("PUMP_TEST_SUITE").unwrap_or_else(|_| SUITE.to_owned())
}

/// The build's target folder.
pub fn target() -> PathBuf {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(usual, PathBuf::from);
    // An overlay's option takes no `..`, and needs it absolute.
    fs::canonicalize(&target).unwrap_or(target)
}

fn collect(
    root: &Path,
    folder: &Path,
    device: u64,
    tree: &mut BTreeMap<PathBuf, Found>,
) -> anyhow::Result<()> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("could not read `{}`", folder.display()))?;
    for entry in listed {
        let path = entry?.path();
        // What goes away while we look is not there.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() && meta.dev() != device {
            continue;
        }
        let kind = match meta.file_type() {
            kind if kind.is_dir() => "folder",
            kind if kind.is_symlink() => "link",
            kind if kind.is_file() => "file",
            kind if kind.is_socket() => "socket",
            _ => "other",
        };
        let found = Found {
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            size: if kind == "file" { meta.size() } else { 0 },
            target: fs::read_link(&path).ok(),
        };
        let inside = Path::new("/").join(path.strip_prefix(root)?);
        tree.insert(inside, found);
        if meta.is_dir() {
            collect(root, &path, device, tree)?;
        }
    }
    Ok(())
}
