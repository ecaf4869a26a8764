//! What an installation looks at before it touches anything.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context as _;
use pump_control::{Checked, ExitStatus, Layout};
use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::answers::Answers;
use super::program::Release;
use super::steps;
use crate::address::Address;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::others;
use crate::report::Failure;

/// Folders that the service's sandbox hides, so data there would be out of its reach.
const HIDDEN: [&str; 7] = ["/home", "/root", "/run", "/tmp", "/var/tmp", "/dev", "/proc"];

/// Longest path of a unix socket, its final zero byte included (unix(7)).
const MAX_SOCKET_PATH: usize = 108;

/// Refuses where our names are taken by something that is not ours.
///
/// # Errors
/// Exit 50.
pub(super) fn refuse_strangers(layout: &Layout) -> Result<(), Failure> {
    let program = layout.program();
    let ours = |path: &Path| {
        fs::read_link(path).is_ok_and(|target| target == layout.current().join("bin/pump"))
    };
    let link = layout.pump_link();
    if !layout.is_packaged() && link.symlink_metadata().is_ok() && !ours(&link) {
        return Err(stranger(&link));
    }
    // A folder of that name without ours in it is somebody else's.
    let anything = fs::read_dir(&program).is_ok_and(|mut entries| entries.next().is_some());
    if anything && !layout.releases().is_dir() {
        return Err(stranger(&program));
    }
    Ok(())
}

/// Refuses where something has to be written and the disk is mounted for reading. Afterwards nothing is written
/// below `/usr` any more.
///
/// # Errors
/// Exit 50.
pub(super) fn refuse_read_only(layout: &Layout) -> Result<(), Failure> {
    if layout.is_packaged() {
        return Ok(());
    }
    for path in [layout.pump_link(), layout.program(), layout.units()] {
        let above = path.ancestors().skip(1).find(|above| above.is_dir());
        let above = above.unwrap_or(Path::new("/"));
        if access(above, Access::WRITE_OK) == Err(Errno::ROFS) {
            let name = above.display();
            return Err(Failure::new(
                ExitStatus::Preflight,
                format!(
                    "`{name}` is mounted for reading only, and `{}` has to be made; nothing was changed",
                    path.display()
                ),
            )
            .hint(format!(
                "mount `{name}` for writing while this runs, or put the packages into the machine's image"
            )));
        }
    }
    Ok(())
}

fn stranger(path: &Path) -> Failure {
    Failure::new(
        ExitStatus::Preflight,
        format!("`{}` is there and was not made by pump, which would replace it", path.display()),
    )
    .hint(format!("move `{}` away", path.display()))
}

/// Has the release's own daemon check the configuration that would be written.
///
/// # Errors
/// Exit 78 with the daemon's sentence, 50 for a data folder or a path that would not work.
pub(super) fn check(
    answers: &Answers,
    release: &Release,
    context: &Context<'_>,
) -> Result<Checked, Failure> {
    data_folder(&answers.data_dir, context)?;
    refuse_open_way(&answers.data_dir, context)?;
    socket_paths(answers, context)?;
    if !context.layout.is_private()
        && let Some(address) = answers
            .listen
            .iter()
            .find(|address| matches!(address, Address::Tcp(tcp) if tcp.port() == 0))
    {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!("`{address}` has port 0, which systemd does not listen on"),
        )
        .hint("name a port, as in `--listen 127.0.0.1:8000`"));
    }
    let text = steps::configuration(answers, &context.layout);
    Daemon::at(release.pumpd()).check_text(&context.layout.config(), &text)
}

fn data_folder(dir: &Path, context: &Context<'_>) -> Result<(), Failure> {
    let refuse = |why: String| {
        Failure::new(ExitStatus::Preflight, format!("data cannot go to `{}`: {why}", dir.display()))
            .hint(format!(
                "choose another folder, as in `--data-dir {}`",
                context.layout.data().display()
            ))
    };
    if !context.layout.is_private()
        && let Some(hidden) = HIDDEN.iter().find(|hidden| dir.starts_with(hidden))
    {
        return Err(refuse(format!("the service's sandbox hides what is below `{hidden}`")));
    }
    let above = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let meta =
        fs::metadata(above).with_context(|| format!("could not look at `{}`", above.display()))?;
    if !meta.is_dir() {
        return Err(refuse(format!("`{}` is no folder", above.display())));
    }
    if let Err(errno) = nix::unistd::access(above, nix::unistd::AccessFlags::W_OK) {
        return Err(refuse(format!("`{}` cannot be written: {}", above.display(), errno.desc())));
    }
    // Root may write where the service may not: the way there has to be open to it.
    if !context.layout.is_private() {
        let user = nix::unistd::User::from_name(pump_control::USER).ok().flatten();
        let closed = above.ancestors().find(|path| {
            fs::metadata(path).is_ok_and(|meta| {
                let own = user.as_ref().is_some_and(|user| meta.uid() == user.uid.as_raw());
                !own && meta.mode() & 0o001 == 0
            })
        });
        if let Some(closed) = closed {
            return Err(refuse(format!(
                "the service's user cannot enter `{}` (mode {:04o})",
                closed.display(),
                fs::metadata(closed).map_or(0, |meta| meta.mode() & 0o7777)
            )));
        }
        if above == dir && user.is_none_or(|user| meta.uid() != user.uid.as_raw()) {
            return Err(refuse(format!(
                "it exists and belongs to uid {}, so the service's user cannot write there",
                meta.uid()
            )));
        }
    }
    Ok(())
}

/// Refuses a data folder below one that somebody else can write, the service's user included: they could
/// put a link in its place, and root would give away what it leads to.
///
/// # Errors
/// Exit 50.
pub(super) fn refuse_open_way(dir: &Path, context: &Context<'_>) -> Result<(), Failure> {
    let (false, Some(above)) = (context.layout.is_private(), dir.parent()) else { return Ok(()) };
    let found = others::open_to_others(above)
        .with_context(|| format!("could not look at the way to `{}`", dir.display()))?;
    let Some(open) = found else { return Ok(()) };
    Err(Failure::new(
        ExitStatus::Preflight,
        format!(
            "data cannot go to `{}`: {open}, so that another than root decides what is there",
            dir.display()
        ),
    )
    .hint(format!(
        "run `chown root:root {0}` and `chmod go-w {0}`, or choose another data folder",
        crate::host::quoted(&open.path.to_string_lossy())
    )))
}

fn socket_paths(answers: &Answers, context: &Context<'_>) -> Result<(), Failure> {
    let control = context.layout.control_socket();
    let listened = answers.listen.iter().filter_map(|address| match address {
        Address::Unix(path) => Some(path.as_path()),
        Address::Tcp(_) => None,
    });
    for path in listened.chain([control.as_path()]) {
        let length = path.as_os_str().len();
        if length >= MAX_SOCKET_PATH {
            return Err(Failure::new(
                ExitStatus::Preflight,
                format!(
                    "`{}` has {length} bytes, and a unix socket's path fewer than {MAX_SOCKET_PATH}",
                    path.display()
                ),
            )
            .hint("choose a shorter folder"));
        }
    }
    Ok(())
}
