//! Processes as the kernel shows them: the census that a server cannot get wrong.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

/// A process at the moment it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// `R`, `S`, `D`, `Z` and so on: proc(5), field 3 of `stat`.
    pub state: char,
    /// When it started, in clock ticks since boot. With the id, it names a process for ever.
    pub started: u64,
    /// Its command line.
    pub arguments: Vec<String>,
}

impl Process {
    /// The process with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is not as known");
        // The name is in parentheses and may hold anything, so the fields begin after the last one.
        let (_, fields) = stat.rsplit_once(") ").ok_or_else(wrong)?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse().ok()).ok_or_else(wrong);
        let raw = fs::read(format!("/proc/{pid}/cmdline"))?;
        let words = raw.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(Self {
            pid,
            parent: number(1)? as u32,
            group: number(2)? as u32,
            state: fields.first().and_then(|f| f.chars().next()).ok_or_else(wrong)?,
            started: number(19)?,
            arguments: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        })
    }

    /// Whether it still is there and no zombie.
    pub fn lives(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now.started == self.started && now.state != 'Z')
    }

    /// Whether it is gone or about to go, and nothing keeps it: SIGKILL was sent to it, also when it had no time to
    /// die of it yet.
    pub fn is_ended(&self) -> bool {
        if !self.lives() {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let pending = |line: &str| {
            let set = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
            set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
        };
        let killed =
            status.lines().any(|line| pending(line) & (1 << (Signal::SIGKILL as u64 - 1)) != 0);
        // It no longer has a pending one when it has begun to exit, and then it has no memory of its own any more.
        killed || !status.lines().any(|line| line.starts_with("VmSize:"))
    }

    /// The path of what it runs, ending in ` (deleted)` when that is gone.
    ///
    /// # Errors
    /// When it is gone or somebody else's.
    pub fn exe(&self) -> io::Result<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid))
    }

    /// SHA-256 of what it runs, in hex: its build, also when the file is gone.
    ///
    /// # Errors
    /// As [`Self::exe`].
    pub fn build(&self) -> io::Result<String> {
        sha256(&PathBuf::from(format!("/proc/{}/exe", self.pid)))
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// As [`Self::exe`].
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// Its memory.
    ///
    /// # Errors
    /// As [`Self::exe`].
    pub fn memory(&self) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse().ok()
        };
        let missing =
            || io::Error::new(io::ErrorKind::InvalidData, "no Rss or Pss in smaps_rollup");
        let rss_kib = kib("Rss:").ok_or_else(missing)?;
        let pss_kib = kib("Pss:").ok_or_else(missing)?;
        Ok(Memory { rss_kib, pss_kib })
    }

    /// Sends a signal, unless the process has gone.
    ///
    /// # Errors
    /// When it is somebody else's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.lives() {
            kill(Pid::from_raw(self.pid as i32), signal)?;
        }
        Ok(())
    }
}

/// As `proc_pid_smaps(5)` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, pages shared with others counted whole.
    pub rss_kib: u64,
    /// Resident, each shared page divided by the number of its users.
    pub pss_kib: u64,
}

/// Every process there is that may be looked at.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that ends while we look is one that is not there.
    pids.filter_map(|pid| Process::of(pid).ok()).collect()
}

/// The children of a process that are no zombies.
pub fn children(pid: u32) -> Vec<Process> {
    all().into_iter().filter(|process| process.parent == pid && process.state != 'Z').collect()
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &std::path::Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 256 * 1024];
    loop {
        match file.read(&mut part)? {
            0 => break,
            read => hash.update(&part[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let own = Process::of(std::process::id()).expect("we are there");
        assert!(own.lives() && !own.is_ended());
        let exe = std::env::current_exe().expect("we run something");
        assert_eq!(own.build().expect("readable"), sha256(&exe).expect("readable"));
        assert!(own.descriptors().expect("readable") >= 3);
        let memory = own.memory().expect("readable");
        assert!(memory.rss_kib >= memory.pss_kib && memory.pss_kib > 0, "{memory:?}");
        assert!(children(own.parent).iter().any(|child| child.pid == own.pid));
    }

    #[test]
    fn one_that_was_killed_is_ended_at_once() {
        for _ in 0..20 {
            let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it runs");
            let sleeps = Process::of(child.id()).expect("it lives");
            assert!(!sleeps.is_ended());
            sleeps.signal(Signal::SIGKILL).expect("ours");
            assert!(sleeps.is_ended());
            child.wait().expect("it was ours");
        }
    }
}
