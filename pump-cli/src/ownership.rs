//! Who owns the files that make up pump on this machine.
//!
//! What a package manager owns is never written over: it would be undone, or break, with the next
//! run of that package manager. Where it brought a whole release, the service runs a copy of it that is
//! ours: [`layout`] says which of the two installations a machine has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pump_control::{ExitStatus, Layout};

use crate::context::Context;
use crate::report::Failure;
use crate::tool;

/// Where packages, ours or others', put the program.
const PACKAGED: [&str; 2] = ["/usr/lib/pump/pumpd", "/usr/bin/pump"];

/// A package manager that owns a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// `dpkg` or `rpm`.
    pub(crate) manager: &'static str,
    /// The package, as the manager names it.
    pub(crate) package: String,
    /// The file that was found.
    pub(crate) file: PathBuf,
}

/// The machine's installation: our own tree, or the one beside what a package brought. With both, our own
/// tree is the one that serves, until `pump adopt` hands it over.
pub(crate) fn layout() -> Layout {
    let own = Layout::system();
    let brought = Path::new(Layout::PAYLOAD).join("RELEASE.json").exists();
    if brought && own.current().symlink_metadata().is_err() { Layout::packaged() } else { own }
}

/// Refuses when a package manager owns pump here, or the file that runs now, and what the verb does is
/// that manager's to do.
///
/// # Errors
/// Exit 80, with the command of that package manager.
pub(crate) fn refuse_packaged(context: &Context<'_>, verb: &str) -> Result<(), Failure> {
    // Where a package brought all of a release, everything but removing it is done on our copy.
    if context.layout.is_private() || (context.layout.is_packaged() && verb != "uninstall") {
        return Ok(());
    }
    let running = context.host.program.iter().cloned();
    let Some(owner) = running.chain(PACKAGED.map(PathBuf::from)).find_map(|file| owner_of(&file))
    else {
        return Ok(());
    };
    // The command alone serves nobody, and the two go together.
    let both = match owner.package.as_str() {
        "pump" | "pumpd" => "pumpd pump",
        other => other,
    };
    let hint = match (owner.manager, verb) {
        ("dpkg", "uninstall") => format!("run `sudo apt remove {both}`"),
        ("dpkg", _) => format!("run `sudo apt install {both}`"),
        (_, "uninstall") => format!("run `sudo dnf remove {both}`"),
        (_, _) => format!("run `sudo dnf install {both}`"),
    };
    Err(Failure::new(
        ExitStatus::PackageManager,
        format!(
            "`{}` belongs to the package `{}` of {}, which would undo what pump writes",
            owner.file.display(),
            owner.package,
            owner.manager
        ),
    )
    .hint(hint))
}

/// What brings the server where a package has brought the command alone.
pub(crate) fn without_daemon(layout: &Layout) -> Option<&'static str> {
    if layout.is_private() || Path::new(PACKAGED[0]).exists() {
        return None;
    }
    Some(match owner_of(Path::new(PACKAGED[1]))?.manager {
        "dpkg" => "sudo apt install pumpd",
        _ => "sudo dnf install pumpd",
    })
}

/// The package manager that owns a file, if one does. A machine without dpkg and rpm has none.
pub(crate) fn owner_of(file: &Path) -> Option<Owner> {
    if !file.exists() {
        return None;
    }
    let dpkg = first_line(tool::command("dpkg-query").arg("-S").arg(file)).and_then(|line| {
        // `package, other:amd64: /path`
        let packages = line.rsplit_once(": ")?.0;
        Some(packages.split([',', ':']).next()?.trim().to_owned())
    });
    if let Some(package) = dpkg {
        return Some(Owner { manager: "dpkg", package, file: file.to_owned() });
    }
    let rpm = first_line(tool::command("rpm").args(["-qf", "--qf", "%{NAME}\\n"]).arg(file));
    rpm.map(|package| Owner { manager: "rpm", package, file: file.to_owned() })
}

/// The first line that a program prints, when it succeeds.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}
