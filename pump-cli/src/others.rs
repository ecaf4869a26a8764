//! Ways that somebody else could change under root's hands.
//!
//! Root that runs a program or makes a folder at a path believes every folder on the way there. Whoever
//! can write one of them decides what is found at its end.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Links that are followed on one way, as many as the kernel follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// The bits of a mode by which group and others may write.
const OTHERS_WRITE: u32 = 0o022;

/// In a folder with this bit nobody removes or renames what belongs to another user.
const STICKY: u32 = 0o1000;

/// A place on a way that somebody else than root can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// The place.
    pub(crate) path: PathBuf,
    why: String,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.path.display(), self.why)
    }
}

/// The first place on the way to an absolute path, its end included, that somebody else than root can
/// change. What is not there yet is nobody's, if only root can make it.
///
/// A folder that everybody can write is passed when it has the sticky bit and what lies in it on the
/// way is root's; it is no place to end at.
///
/// # Errors
/// What the file system says, and when links lead round and round.
pub(crate) fn open_to_others(path: &Path) -> io::Result<Option<Open>> {
    let mut at = PathBuf::from("/");
    let mut ahead: Vec<OsString> = Vec::new();
    walk_later(path, &mut ahead);
    let mut links = 0;
    // Whether anybody may put something into the folder that was reached.
    let mut shared = match look(&at, &fs::metadata(&at)?) {
        Err(open) => return Ok(Some(open)),
        Ok(shared) => shared,
    };
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            shared = fs::metadata(&at)?.mode() & OTHERS_WRITE != 0;
            continue;
        }
        let next = at.join(name);
        let meta = match fs::symlink_metadata(&next) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let verdict = look(&next, &meta);
        if !meta.is_symlink() {
            match verdict {
                Err(open) => return Ok(Some(open)),
                Ok(open_for_all) => (at, shared) = (next, open_for_all),
            }
            continue;
        }
        if meta.uid() != 0 {
            return Ok(Some(foreign(&next, &meta)));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::other(format!("`{}` leads round and round", path.display())));
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
            shared = false;
        }
        walk_later(&target, &mut ahead);
    }
    Ok(shared.then(|| Open { path: at, why: "can be written by everybody".to_owned() }))
}

/// Puts the names of a path on top of those that are to be walked.
fn walk_later(path: &Path, ahead: &mut Vec<OsString>) {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    ahead.extend(names.collect::<Vec<_>>().into_iter().rev());
}

/// Whether anybody may put something into a folder, or why it is not root's alone.
fn look(path: &Path, meta: &fs::Metadata) -> Result<bool, Open> {
    if meta.uid() != 0 {
        return Err(foreign(path, meta));
    }
    let shared = meta.mode() & OTHERS_WRITE != 0;
    if shared && meta.mode() & STICKY == 0 {
        let why = format!("can be written by others (mode {:04o})", meta.mode() & 0o7777);
        return Err(Open { path: path.to_owned(), why });
    }
    Ok(shared)
}

fn foreign(path: &Path, meta: &fs::Metadata) -> Open {
    let uid = nix::unistd::Uid::from_raw(meta.uid());
    let name = match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => format!("`{}`", user.name),
        _ => format!("uid {uid}"),
    };
    Open { path: path.to_owned(), why: format!("belongs to {name}") }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn a_way_is_open_where_somebody_else_can_write() {
        if !nix::unistd::geteuid().is_root() {
            // Only root has something to lose, and only root can give folders away.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(folder.path()).unwrap();
        let make = |name: &str, mode: u32, uid: u32| {
            let path = place.join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(uid), None).unwrap();
        };
        make("own", 0o755, 0);
        make("own/inside", 0o700, 0);
        make("group", 0o775, 0);
        make("group/own", 0o755, 0);
        make("theirs", 0o755, 65534);
        make("theirs/own", 0o755, 0);
        make("shared", 0o1777, 0);
        make("shared/own", 0o755, 0);
        make("shared/theirs", 0o755, 65534);
        symlink("../theirs/own", place.join("own/aside")).unwrap();
        symlink("inside", place.join("own/along")).unwrap();
        symlink("round", place.join("own/round")).unwrap();
        let opened = |name: &str| {
            let found = open_to_others(&place.join(name)).unwrap();
            found.map(|open| open.path.strip_prefix(&place).unwrap().to_owned())
        };
        for (name, want) in [
            ("own", None),
            ("own/inside", None),
            ("own/inside/missing/more", None),
            ("own/along", None),
            ("own/../own/./along", None),
            ("shared/own", None),
            ("group", Some("group")),
            ("group/own", Some("group")),
            ("theirs/own", Some("theirs")),
            ("own/aside", Some("theirs")),
            ("shared", Some("shared")),
            ("shared/missing", Some("shared")),
            ("shared/theirs", Some("shared/theirs")),
            ("shared/own/../missing", Some("shared")),
        ] {
            assert_eq!(opened(name), want.map(PathBuf::from), "{name}");
        }
        assert!(open_to_others(&place.join("own/round")).is_err());
    }
}
