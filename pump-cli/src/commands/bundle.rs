//! `pump bundle`: a source in one file, for a machine without a network.
//!
//! It can be made on any machine: what is remembered of the source is remembered where that machine
//! upgrades from it, if it does, and otherwise nowhere. The copy is read again before it is handed out, by
//! the same checks that it will meet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};
use pump_release::{
    Artifact, Channel, Choice, Index, Release, ReleaseInfo, Standing, TARGET, Wanted, choose, plan,
};
use semver::Version;
use serde_json::json;

use crate::context::Context;
use crate::fetch;
use crate::lock;
use crate::portable;
use crate::releases::Releases;
use crate::report::{Ended, Failure};
use crate::source::{self, Address, Wish};
use crate::trust;

/// Flags of `pump bundle`.
#[derive(Debug, clap::Args)]
pub(crate) struct BundleArgs {
    /// The file to make.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The version to go to, instead of the newest of the channel.
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    /// The version that the other machine has. Without it, that of this one if it has any. Every release on
    /// the way is put into the file.
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Option<Version>,
    /// The channel: `stable` or `beta`.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<Channel>,
    /// Where releases come from, instead of what `upgrade.toml` says.
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) source: Option<String>,
    /// Trust this root, instead of the recorded or the compiled-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_root: Option<PathBuf>,
}

pub(crate) fn run(args: BundleArgs, context: &Context<'_>) -> Ended {
    let wish = source::wish(&context.layout, args.source.as_deref(), args.channel)?;
    let trust = trust::find(&context.layout, args.trust_root.as_deref(), &wish.address)?;
    let scratch = tempfile::tempdir().context("could not make a temporary folder")?;
    let here = context.layout.is_private() || context.host.is_root();
    let state = match here && context.layout.upgrade_data().is_dir() {
        true => context.layout.clone(),
        false => Layout::private(scratch.path().join("state")),
    };
    std::fs::create_dir_all(state.upgrade_data()).context("could not make a temporary folder")?;
    let _lock = lock::take(&state)?;

    let catalogue = fetch::catalogue(&state, &wish, &trust, context.report)?;
    let wanted = args.to.clone().map_or(Wanted::Newest, Wanted::Version);
    let choice = choose(&catalogue.index, None, &wanted, TARGET);
    let Choice::Take { release, artifact } = choice else {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!("the channel `{}` has no such release for {TARGET}", wish.channel),
        )
        .hint("leave `--to` away for the newest, or name another `--channel`"));
    };
    let from = from(&args, context, &catalogue.index)?;
    let artifacts = on_the_way(&catalogue.index, from.as_ref(), release, artifact);
    let copy = scratch.path().join("source");
    std::fs::create_dir(&copy).context("could not make a temporary folder")?;
    catalogue.copy(wish.channel, &artifacts, &copy, &state, context.report)?;
    read_again(&copy, &wish, &trust, &artifacts, context)?;
    let size = portable::pack(&copy, &args.output)?;

    let names: Vec<&str> = artifacts.iter().map(|it| it.name.as_str()).collect();
    context.report.result(format_args!(
        "`{}` has {} ({} KiB); use it with `pump upgrade --bundle {0}`, until {:.0}",
        args.output.display(),
        names.join(", "),
        size / 1024,
        catalogue.until(),
    ));
    context.report.value(&json!({
        "result": "bundled", "file": args.output, "releases": names, "bytes": size,
        "until": catalogue.until(), "exit": 0,
    }));
    Ok(ExitStatus::Done)
}

/// What the other machine runs, if that is known.
fn from(
    args: &BundleArgs,
    context: &Context<'_>,
    index: &Index,
) -> Result<Option<ReleaseInfo>, Failure> {
    let Some(version) = &args.from else {
        return Ok(Releases::of(&context.layout).current().ok().flatten().map(|it| it.info));
    };
    let found = index.releases.iter().find(|it| it.version.cmp_precedence(version).is_eq());
    match found.and_then(|it| it.artifact(TARGET).map(|artifact| it.info(artifact))) {
        Some(info) => Ok(Some(info)),
        None => Err(Failure::new(
            ExitStatus::Usage,
            format!("the channel does not offer {version}, so the way from it is not known"),
        )
        .hint("leave `--from` away to pack the last release only")),
    }
}

/// The bundles of every hop, of the way without a wait and of the shorter one.
fn on_the_way<'a>(
    index: &'a Index,
    from: Option<&ReleaseInfo>,
    release: &'a Release,
    artifact: &'a Artifact,
) -> Vec<&'a Artifact> {
    let mut found = vec![artifact];
    if let Some(from) = from {
        let standing = Standing::running(from.clone(), from.clone());
        for zero_downtime in [true, false] {
            // Where there is no way the machine itself will say so, and why.
            if let Ok(plan) = plan(index, &standing, release, TARGET, zero_downtime) {
                found.extend(plan.hops.iter().map(|hop| hop.artifact));
            }
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|it| seen.insert(it.name.clone()));
    found
}

/// Reads the copy as its user will.
fn read_again(
    copy: &Path,
    wish: &Wish,
    trust: &trust::TrustRoot,
    artifacts: &[&Artifact],
    context: &Context<'_>,
) -> Result<(), Failure> {
    let scratch = tempfile::tempdir().context("could not make a temporary folder")?;
    let state = Layout::private(scratch.path());
    std::fs::create_dir_all(state.upgrade_data()).context("could not make a temporary folder")?;
    let address = Address::Folder(copy.to_owned());
    let wish = Wish { address, mirrors: Vec::new(), ..wish.clone() };
    let found = fetch::catalogue(&state, &wish, trust, context.report)?;
    for artifact in artifacts {
        found.download(artifact, &state, context.report)?;
    }
    Ok(())
}
