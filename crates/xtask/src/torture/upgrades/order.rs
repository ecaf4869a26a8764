//! Whether what is published would survive a power cut: a kill keeps what the kernel has in memory, a power
//! cut does not, so this is read off a recorded run.
//!
//! What is renamed was written and synced before, and so was all that is in it; the folder it is in is synced
//! afterwards, before anything else is published.

use std::path::{Path, PathBuf};

use super::trace::{Call, behind, quoted};

/// What is wrong with the order, in words, and how many publications there were.
pub(super) fn check(what: &str, calls: &[Call], root: &Path) -> (Vec<String>, usize) {
    let calls: Vec<&Call> = calls.iter().filter(|call| call.well).collect();
    let mut reasons = Vec::new();
    let mut published = 0;
    for (at, call) in calls.iter().enumerate() {
        if !call.name.starts_with("rename") {
            continue;
        }
        let [from, to] = &quoted(call)[..] else { continue };
        if !to.starts_with(root) {
            continue;
        }
        published += 1;
        let (before, after) = (&calls[..at], &calls[at + 1..]);
        for path in unsynced(before, from) {
            reasons.push(format!(
                "{what}: `{}` becomes `{}` while `{}` is not on disk",
                from.display(),
                to.display(),
                path.display()
            ));
        }
        let folder = to.parent().unwrap_or(root);
        let next = after.iter().position(|call| call.name.starts_with("rename"));
        let until = &after[..next.unwrap_or(after.len())];
        if !until.iter().any(|call| call.name == "fsync" && behind(call).as_deref() == Some(folder))
        {
            reasons.push(format!(
                "{what}: `{}` is published, and its folder is not synced before what comes next",
                to.display()
            ));
        }
    }
    (reasons, published)
}

/// Files and folders at or below a path that were changed after they were last synced.
fn unsynced(calls: &[&Call], path: &Path) -> Vec<PathBuf> {
    let mut dirty: Vec<PathBuf> = Vec::new();
    let touch = |dirty: &mut Vec<PathBuf>, changed: &Path| {
        if changed.starts_with(path) && !dirty.iter().any(|it| it == changed) {
            dirty.push(changed.to_owned());
        }
    };
    let mut synced = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        match call.name.as_str() {
            "write" | "pwrite64" | "ftruncate" | "fallocate" => {
                if let Some(path) = behind(call) {
                    touch(&mut dirty, &path);
                }
            }
            "openat" if call.changes => {
                for made in quoted(call) {
                    touch(&mut dirty, &made);
                    // The name is in the folder.
                    if let Some(folder) = made.parent() {
                        touch(&mut dirty, folder);
                    }
                }
            }
            "mkdir" => {
                for made in quoted(call) {
                    if let Some(folder) = made.parent() {
                        touch(&mut dirty, folder);
                    }
                }
            }
            // What is gone again is not published.
            "unlink" => {
                for gone in quoted(call) {
                    dirty.retain(|path| *path != gone);
                }
            }
            "fsync" | "fdatasync" => synced.extend(behind(call).map(|path| (at, path))),
            _ => {}
        }
    }
    let last_change = |path: &Path| {
        calls.iter().rposition(|call| match call.name.as_str() {
            "write" | "pwrite64" | "ftruncate" | "fallocate" => {
                behind(call).as_deref() == Some(path)
            }
            "openat" if call.changes => {
                quoted(call).iter().any(|made| made == path || made.parent() == Some(path))
            }
            "mkdir" => quoted(call).iter().any(|made| made.parent() == Some(path)),
            _ => false,
        })
    };
    dirty.retain(|path| {
        let changed = last_change(path);
        !synced.iter().any(|(at, it)| it == path && Some(*at) > changed)
    });
    dirty
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::upgrades::trace;

    const WELL: [&str; 6] = [
        r#"7 openat(AT_FDCWD, "/p/.tmp/file", O_WRONLY|O_CREAT, 0600) = 3</p/.tmp/file>"#,
        r#"7 write(3</p/.tmp/file>, "words", 5) = 5"#,
        r#"7 fsync(3</p/.tmp/file>) = 0"#,
        r#"7 fsync(4</p/.tmp>) = 0"#,
        r#"7 rename("/p/.tmp", "/p/whole") = 0"#,
        r#"7 fsync(5</p>) = 0"#,
    ];

    fn wrong(lines: &[&str]) -> Vec<String> {
        let root = Path::new("/p");
        let (wrong, published) = check("a run", &trace::read(&lines.join("\n"), root), root);
        assert_eq!(published, 1);
        wrong
    }

    #[test]
    fn b02_whatever_is_not_on_disk_when_it_is_published_is_found() {
        assert_eq!(wrong(&WELL), [""; 0]);
        for (missing, what) in
            [(2, "`/p/.tmp/file` is not on disk"), (3, "`/p/.tmp` is not"), (5, "folder is not")]
        {
            let mut lines = WELL.to_vec();
            lines.remove(missing);
            let found = wrong(&lines);
            assert!(
                found.len() == 1 && found[0].contains(what),
                "without line {missing}: {found:?}"
            );
        }
        let late = [WELL[0], WELL[2], WELL[1], WELL[3], WELL[4], WELL[5]];
        assert!(
            wrong(&late)[0].contains("`/p/.tmp/file` is not on disk"),
            "written after it was synced"
        );
    }
}
