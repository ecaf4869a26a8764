//! Whether a library that this process has loaded was replaced since: by a package that mends it, say.
//!
//! A worker comes and goes, and has the new one as soon as it is followed by the next. The master is one process for
//! months, so a roll that finds it with an old library ends with the master, too, also onto the same build.

use std::fs;

/// What the kernel adds to the name of a file that is no more (proc(5), `/proc/PID/maps`).
const DELETED: &str = " (deleted)";

/// Whether one was. Where that cannot be read, none was.
pub(super) fn were_replaced() -> bool {
    fs::read_to_string("/proc/self/maps").is_ok_and(|maps| names_a_replaced_one(&maps))
}

fn names_a_replaced_one(maps: &str) -> bool {
    let mut gone = maps.lines().filter_map(|line| line.strip_suffix(DELETED)?.rsplit('/').next());
    gone.any(|name| name.ends_with(".so") || name.contains(".so."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_no_more_is_told_from_one_that_is_there_and_from_memory() {
        let usual = "7f0-7f1 r-xp 00000000 fe:00 7 /usr/lib/x86_64-linux-gnu/libm.so.6\n\
                     7f2-7f3 rw-s 00000000 00:01 8 /memfd:state (deleted)\n\
                     7f4-7f5 r-xp 00000000 fe:00 9 /opt/pump/releases/a/bin/pumpd (deleted)\n\
                     7f6-7f7 rw-p 00000000 00:00 0 [heap]\n";
        assert!(!names_a_replaced_one(usual));
        let after = usual.replace("libm.so.6", "libm.so.6 (deleted)");
        assert!(names_a_replaced_one(&after));
    }
}
