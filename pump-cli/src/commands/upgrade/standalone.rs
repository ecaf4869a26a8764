//! `pump upgrade --self`: a `pump` that was copied by hand becomes the newest one.
//!
//! One that belongs to a release comes and goes with it, and one that a package brought with that package; both
//! are refused. What is left is a file in somebody's folder, such as the one that makes bundles for machines
//! without a network. It takes itself out of the release that the signed index names, by the checks that any
//! upgrade makes, and what was seen of the publisher is remembered, so that nothing older passes for new the next
//! time. Written beside itself, on disk, and renamed: a cut leaves the old program or the new one. See
//! docs/decisions/0020.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};
use pump_release::{Choice, ReleaseInfo, TARGET, Wanted, choose};
use rustix::fs::{Access, access};
use semver::Version;
use serde_json::json;

use super::UpgradeArgs;
use crate::context::Context;
use crate::report::{Ended, Failure};
use crate::{atomic_file, bundle, cli, fetch, lock, ownership, source, tool, trust};

/// Where a user's programs remember things, below the user's home (XDG Base Directory Specification).
const STATE: &str = ".local/state/pump";

pub(super) fn run(args: &UpgradeArgs, context: &Context<'_>) -> Ended {
    let program = ours(context)?;
    let wish = source::wish(&context.layout, args.source.as_deref(), args.channel)?;
    let trust = trust::find(&context.layout, args.trust_root.as_deref(), &wish.address)?;
    let scratch = tempfile::tempdir().context("could not make a temporary folder")?;
    let state = state(context, scratch.path());
    fs::create_dir_all(state.upgrade_data())
        .with_context(|| format!("could not make `{}`", state.upgrade_data().display()))?;
    let _lock = lock::take(&state)?;
    let catalogue = fetch::catalogue(&state, &wish, &trust, context.report)?;
    let wanted = args.to.clone().map_or(Wanted::Newest, Wanted::Version);
    let Choice::Take { release, artifact } = choose(&catalogue.index, None, &wanted, TARGET) else {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!("the channel `{}` has no such release for {TARGET}", wish.channel),
        )
        .hint("leave `--to` away for the newest, or name another `--channel`"));
    };
    let here: Version = cli::version().parse().context("this build has no version")?;
    let (there, shown) = (&release.version, program.display());
    let newer = there.cmp_precedence(&here).is_gt();
    let same = there.cmp_precedence(&here).is_eq();
    if same || (args.to.is_none() && !newer) {
        let text = format!("`{shown}` is {here}, nothing to do");
        context.report.say(&text);
        context.report.value(&json!({ "result": "nothing-to-do", "text": text, "exit": 0 }));
        return Ok(ExitStatus::Done);
    }
    if args.check || args.dry_run {
        let exit = if args.check { ExitStatus::UpdateAvailable } else { ExitStatus::Done };
        let text = format!("{there} is available, `{shown}` is {here}");
        context.report.result(&text);
        context.report.value(
            &json!({ "result": "available", "available": there, "text": text, "exit": exit }),
        );
        return Ok(exit);
    }
    let info = release.info(artifact);
    context.report.say(format_args!("fetching {}", artifact.name));
    let fetched = catalogue.download(artifact, &state, context.report)?;
    let folder = scratch.path().join("release");
    fs::create_dir(&folder).context("could not make a temporary folder")?;
    let found = bundle::unpack(fetch::reader(fetched.file()), &folder, artifact.installed_size);
    let new = checked(found.map_err(|error| not_signed(&error.to_string()))?, &info, &folder)?;
    atomic_file::publish(&program, &new, 0o755)
        .with_context(|| format!("could not replace `{shown}`"))?;
    fetched.used();
    let text = format!("`{shown}` is {there} now, and was {here}");
    context.report.say(&text);
    context.report.value(
        &json!({ "result": "upgraded", "from": here, "to": there, "text": text, "exit": 0 }),
    );
    Ok(ExitStatus::Done)
}

/// The file of this program, if it is nobody else's to replace.
fn ours(context: &Context<'_>) -> Result<PathBuf, Failure> {
    let program =
        context.host.program.clone().context("it cannot be told which file this program is")?;
    let release = program.parent().and_then(Path::parent).map(|it| it.join("RELEASE.json"));
    if release.is_some_and(|it| it.exists()) {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("`{}` belongs to a release and is replaced with it", program.display()),
        )
        .hint("run `pump upgrade`"));
    }
    if let Some(owner) = ownership::owner_of(&program) {
        let command =
            if owner.manager == "dpkg" { "apt-get install --only-upgrade" } else { "dnf upgrade" };
        return Err(Failure::new(
            ExitStatus::PackageManager,
            format!(
                "`{}` belongs to the package `{}` of {}",
                program.display(),
                owner.package,
                owner.manager
            ),
        )
        .hint(format!("run `sudo {command} {}`", owner.package)));
    }
    let folder = program.parent().unwrap_or(Path::new("/"));
    if access(folder, Access::WRITE_OK).is_err() {
        return Err(Failure::new(
            ExitStatus::NeedsRoot,
            format!(
                "this user (uid {}) may not write into `{}`",
                context.host.uid,
                folder.display()
            ),
        )
        .hint(format!("run `{}`", context.host.with_sudo())));
    }
    Ok(program)
}

/// Where it is remembered what was seen of the publisher.
fn state(context: &Context<'_>, scratch: &Path) -> Layout {
    let here = context.layout.is_private() || context.host.is_root();
    if here && context.layout.upgrade_data().is_dir() {
        return context.layout.clone();
    }
    match std::env::home_dir().filter(|home| home.is_absolute() && home.is_dir()) {
        Some(home) => Layout::private(home.join(STATE)),
        None => Layout::private(scratch.join("state")),
    }
}

/// The program of a release that is what was signed, and runs here.
fn checked(found: ReleaseInfo, wanted: &ReleaseInfo, folder: &Path) -> Result<Vec<u8>, Failure> {
    if found != *wanted {
        return Err(not_signed(&format!("it holds {} instead of {}", found.name(), wanted.name())));
    }
    bundle::verify(folder).map_err(|error| not_signed(&error.to_string()))?;
    let path = folder.join("bin/pump");
    let told = tool::command(&path).arg("--version").output();
    let told = told.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    let wants = format!("pump {}", wanted.version);
    if told.as_ref().ok() != Some(&wants) {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("the new program does not run here ({told:?} instead of `{wants}`); nothing was changed"),
        )
        .hint("tell the publisher; `--to VERSION` takes another release"));
    }
    Ok(fs::read(&path).context("could not read what was unpacked")?)
}

fn not_signed(why: &str) -> Failure {
    Failure::new(
        ExitStatus::Signature,
        format!("the bundle is not what was signed: {why}; nothing was changed"),
    )
    .hint("try another mirror, or tell the publisher")
}
