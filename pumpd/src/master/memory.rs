//! Whether the kernel, or the system's allocator, had no memory for a process that has died.
//!
//! A process that is killed for want of memory looks like any that somebody has killed. The control group
//! that master and workers share counts such deaths, so one that comes with a count is told by its name.
//! Without control groups, or with their files out of sight, nothing is said.

use std::fs;
use std::path::PathBuf;

use super::child::Death;

/// Where control groups are mounted: file-hierarchy(7), cgroups(7).
const GROUPS: &str = "/sys/fs/cgroup";

/// What a process writes that was refused memory: Rust's allocator, strerror(3), SQLite, ld.so(8).
const WORDS: [&str; 4] = [
    "memory allocation of ",
    "annot allocate memory",
    "out of memory",
    "failed to map segment from shared object",
];

/// How many processes of our control group were killed for want of memory.
#[derive(Debug)]
pub(crate) struct Killed {
    counter: Option<PathBuf>,
    seen: u64,
}

impl Default for Killed {
    fn default() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let counter = counter(&groups);
        let mut killed = Self { counter, seen: 0 };
        killed.has_grown();
        killed
    }
}

impl Killed {
    /// Says of a death that it came of a want of memory, if it did.
    pub(crate) fn explain(&mut self, death: &mut Death) -> bool {
        let why = self.why(death);
        if let Some(why) = why {
            death.how = format!("{}: {why}", death.how);
        }
        why.is_some()
    }

    fn why(&mut self, death: &Death) -> Option<&'static str> {
        let killed = death.signal == Some(libc::SIGKILL) && self.has_grown();
        let said = death.output.iter().any(|line| WORDS.iter().any(|words| line.contains(words)));
        if killed {
            Some("the kernel had no memory left for this service and killed it (`MemoryMax=`)")
        } else {
            said.then_some("there was no more memory for it")
        }
    }

    /// Whether somebody was killed since this was asked the last time.
    fn has_grown(&mut self) -> bool {
        let text = self.counter.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let count = text.as_deref().and_then(count).unwrap_or(self.seen);
        std::mem::replace(&mut self.seen, count) < count
    }
}

/// Where the deaths of our control group are counted, from `/proc/self/cgroup`: cgroups(7).
fn counter(groups: &str) -> Option<PathBuf> {
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let path = path.trim_start_matches('/');
        let file = match controllers {
            "" => PathBuf::from(GROUPS).join(path).join("memory.events"),
            of if of.split(',').any(|one| one == "memory") => {
                PathBuf::from(GROUPS).join("memory").join(path).join("memory.oom_control")
            }
            _ => return None,
        };
        file.exists().then_some(file)
    };
    groups.lines().find_map(line)
}

/// `oom_kill 3`, in either version's file.
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(signal: Option<i32>, line: &str) -> Death {
        let output = vec![line.to_owned()];
        Death { code: None, signal, how: String::new(), output, answer: Vec::new() }
    }

    #[test]
    fn a_kill_counts_only_when_the_kernel_has_counted_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("memory.events");
        let is = |count: u64| fs::write(&file, format!("low 0\noom 9\noom_kill {count}\n"));
        is(2).expect("ours");
        let mut killed = Killed { counter: Some(file.clone()), seen: 0 };
        assert!(killed.has_grown());
        assert_eq!(killed.why(&death(Some(9), "")), None, "somebody else did that");
        is(3).expect("ours");
        assert_eq!(killed.why(&death(Some(15), "")), None, "that was no kill");
        assert!(killed.why(&death(Some(9), "")).is_some());
        assert_eq!(killed.why(&death(Some(9), "")), None, "it was told");
        fs::remove_file(&file).expect("ours");
        assert_eq!(killed.why(&death(Some(9), "")), None);
        assert!(killed.why(&death(Some(6), "memory allocation of 9 bytes failed")).is_some());
    }

    #[test]
    fn strange_texts_name_no_counter() {
        for text in ["", ":", "::", "0::/nowhere-at-all", "7:memory:/nowhere-at-all", "\0"] {
            assert_eq!(counter(text), None, "{text:?}");
        }
        assert_eq!(count("oom_kill x"), None);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
    }
}
