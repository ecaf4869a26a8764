//! A recorded run, and the points in it.
//!
//! strace counts calls per thread. What the first thread does is met by following it alone; what children do,
//! and threads that were started for reading files, by following all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Calls by which something changes. `openat` does only where it makes a file, `write` only where it is to a
/// file below the place or to a socket.
pub(super) const CALLS: &[&str] = &[
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "openat",
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "sendto",
    "sendmsg",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "utimensat",
    "fsync",
    "fdatasync",
    "copy_file_range",
    "sendfile",
    "execve",
];

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process that makes the call is killed as it enters it.
    Kill,
    /// The call fails, as on a full or a broken disk.
    Disk,
}

impl Fault {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Disk => "disk",
        }
    }
}

/// One call of a recorded run.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) thread: u32,
    pub(super) name: String,
    /// All that strace shows between the parentheses, and what came of it.
    pub(super) rest: String,
    /// The how-manieth call of this name in its thread.
    pub(super) number: u32,
    /// Whether something changes by it.
    pub(super) changes: bool,
    /// Whether it went well.
    pub(super) well: bool,
}

/// One place to fail at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) call: String,
    pub(super) when: u32,
    /// Whether children and further threads are followed.
    pub(super) all: bool,
}

/// Reads what `strace -f -y -o` has written of a run in a place.
pub(super) fn read(text: &str, root: &Path) -> Vec<Call> {
    let root = root.to_string_lossy();
    let mut counts: BTreeMap<(u32, String), u32> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let (Ok(thread), Some((name, rest))) = (thread.parse(), rest.trim_start().split_once('('))
        else {
            continue;
        };
        if !CALLS.contains(&name) {
            continue;
        }
        let number = counts.entry((thread, name.to_owned())).or_default();
        *number += 1;
        let changes = match name {
            "openat" => rest.contains("O_CREAT") && rest.contains(&*root),
            "write" | "writev" => rest.split_once('<').is_some_and(|(_, to)| {
                to.starts_with(&*root) || to.starts_with("socket:") || to.starts_with("UNIX")
            }),
            // The program itself is one, too.
            "execve" => false,
            _ => true,
        };
        let well = !rest.contains(" = -1 ");
        calls.push(Call {
            thread,
            name: name.to_owned(),
            rest: rest.to_owned(),
            number: *number,
            changes,
            well,
        });
    }
    calls
}

/// Every point of a recorded run, in the order in which it comes to them, and how many calls they stand for:
/// of a row of writes into one file the first two, one in the middle and the last are taken, since between
/// them nothing is different but how much of it is there.
pub(super) fn points(calls: &[Call], fault: Fault) -> (Vec<Point>, usize) {
    let Some(first) = calls.first().map(|call| call.thread) else { return (Vec::new(), 0) };
    // A socket is not on a disk.
    let is_socket = |call: &Call| call.name.starts_with("send") || call.rest.contains("<socket:");
    let calls: Vec<&Call> = calls
        .iter()
        .filter(|call| call.changes && !(fault == Fault::Disk && is_socket(call)))
        .collect();
    let mut points: Vec<Point> = Vec::new();
    let same = |one: &&Call, other: &&Call| {
        one.name == "write" && other.name == "write" && behind(one) == behind(other)
    };
    for row in calls.chunk_by(same) {
        let length = row.len();
        for (at, call) in row.iter().enumerate() {
            let all = call.thread != first;
            let point = Point { call: call.name.clone(), when: call.number, all };
            let taken = at < 2 || at + 1 == length || at == length / 2;
            if taken && !points.contains(&point) {
                points.push(point);
            }
        }
    }
    (points, calls.len())
}

/// The words for strace that make it fail there.
pub(super) fn injection(point: &Point, fault: Fault) -> String {
    let how = match (fault, point.call.as_str()) {
        (Fault::Kill, _) => "signal=KILL",
        (_, "fsync" | "fdatasync" | "unlink" | "unlinkat" | "rmdir" | "chmod" | "fchmod") => {
            "error=EIO"
        }
        _ => "error=ENOSPC",
    };
    format!("inject={}:{how}:when={}", point.call, point.when)
}

/// The path behind the first descriptor of a call, as `-y` shows it.
pub(super) fn behind(call: &Call) -> Option<PathBuf> {
    let (_, rest) = call.rest.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// The paths in quotes, in their order.
pub(super) fn quoted(call: &Call) -> Vec<PathBuf> {
    call.rest.split('"').skip(1).step_by(2).map(PathBuf::from).collect()
}
