//! `pump verify`: whether what is installed is what was signed.
//!
//! Every release is held against its own list: content, modes, owners, and nothing else beside. With
//! `--signed` the list itself, and what the release says it is, are held against what the publisher has
//! signed, which asks the source.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};
use pump_release::{Index, TARGET};
use serde_json::json;

use crate::bundle;
use crate::context::Context;
use crate::fetch;
use crate::lock;
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::service;
use crate::source;
use crate::tree::{self, Finding};
use crate::trust;

/// Flags of `pump verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Only this release, as `pump status` names it. Without it, all that are installed.
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<String>,
    /// Ask the source, too, whether this is what the publisher has signed.
    #[arg(long)]
    pub(crate) signed: bool,
    /// Where releases come from, instead of what `upgrade.toml` says.
    #[arg(long, value_name = "URL|DIR", requires = "signed")]
    pub(crate) source: Option<String>,
    /// Trust this root, instead of the recorded or the compiled-in one.
    #[arg(long, value_name = "FILE", requires = "signed")]
    pub(crate) trust_root: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: VerifyArgs, context: &Context<'_>) -> Ended {
    let releases = wanted(&args, context)?;
    let index = match args.signed {
        true => Some(signed(&args, context)?),
        false => None,
    };
    let owner = match context.layout.is_private() {
        // Whoever made the place.
        true => fs::metadata(context.layout.root()).context("could not look at the place")?.uid(),
        false => 0,
    };
    let mut wrong = Vec::new();
    for release in &releases {
        let (mut findings, files) = match tree::findings(&release.path, owner) {
            Ok(found) => found,
            Err(error) => (vec![Finding { path: "FILES".into(), found: error.to_string() }], 0),
        };
        let said = index.as_ref().map(|index| held_against(index, release, &mut findings));
        for Finding { path, found } in &findings {
            context.report.result(format_args!("{}: `{path}` {found}", release.name));
        }
        let end = match (findings.len(), said) {
            (0, None | Some(Signed::Yes)) => format!("{files} files are as they were packed"),
            (0, Some(Signed::NotOffered)) => {
                format!("{files} files are as they were packed; the channel offers it no more")
            }
            (1, _) => "1 thing is not as it was packed".to_owned(),
            (count, _) => format!("{count} things are not as they were packed"),
        };
        context.report.result(format_args!("{}: {end}", release.name));
        context.report.value(&json!({
            "release": release.name, "files": files, "findings": findings,
            "signed": said.map(|it| it == Signed::Yes),
        }));
        if !findings.is_empty() {
            wrong.push(release.name.clone());
        }
    }
    if wrong.is_empty() {
        return Ok(ExitStatus::Done);
    }
    Err(Failure::new(
        ExitStatus::Signature,
        format!(
            "{} is not what was installed: somebody or a disk has changed it",
            wrong.join(", ")
        ),
    )
    .hint(format!(
        "look who could write there; `{} upgrade --to VERSION` fetches and unpacks a release again",
        service::command(context)
    )))
}

fn wanted(args: &VerifyArgs, context: &Context<'_>) -> Result<Vec<Installed>, Failure> {
    let all = Releases::of(&context.layout).all();
    let Some(name) = &args.release else {
        if all.is_empty() {
            return Err(context.not_installed(&Layout::pumpd_in(&context.layout.current())));
        }
        return Ok(all);
    };
    let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
    let known = names.join(", ");
    match all.iter().find(|it| it.name == *name || it.info.version.to_string() == *name) {
        Some(found) => Ok(vec![found.clone()]),
        None => Err(Failure::new(
            ExitStatus::Usage,
            format!("no release `{name}` is installed; there are {known}"),
        )
        .hint("name one of them, or none for all")),
    }
}

/// What the source offers, believed as for an upgrade.
fn signed(args: &VerifyArgs, context: &Context<'_>) -> Result<Index, Failure> {
    if context.layout.is_packaged() && args.source.is_none() {
        return Err(Failure::new(
            ExitStatus::PackageManager,
            "the program comes from packages, whose signatures the package manager has checked",
        )
        .hint("run `dpkg --verify pumpd pump` or `rpm --verify pumpd pump`"));
    }
    context.need_root("asking the source")?;
    let wish = source::wish(&context.layout, args.source.as_deref(), None)?;
    let trust = trust::find(&context.layout, args.trust_root.as_deref(), &wish.address)?;
    let _lock = lock::take(&context.layout)?;
    Ok(fetch::catalogue(&context.layout, &wish, &trust, context.report)?.index)
}

/// What the publisher has to say about a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signed {
    /// It is theirs, as far as nothing was found.
    Yes,
    /// It is not offered any more.
    NotOffered,
}

fn held_against(index: &Index, release: &Installed, findings: &mut Vec<Finding>) -> Signed {
    let mut add = |path: &str, found: &str| {
        findings.push(Finding { path: path.to_owned(), found: found.to_owned() });
    };
    let version = &release.info.version;
    let offered = index.releases.iter().find(|it| it.version.cmp_precedence(version).is_eq());
    let artifact = offered.and_then(|it| it.artifact(TARGET));
    let (Some(offered), Some(artifact)) = (offered, artifact) else { return Signed::NotOffered };
    if artifact.build != release.info.build {
        // Another build of the same version was offered before.
        return Signed::NotOffered;
    }
    if offered.info(artifact) != release.info {
        add("RELEASE.json", "says something else than the signed metadata");
    }
    let list = File::open(release.path.join("FILES")).and_then(bundle::hash).ok();
    if artifact.files.is_some() && list != artifact.files {
        add("FILES", "is not the list that was signed");
    }
    // The program itself is named by the signed metadata, whatever the list says.
    let pumpd = File::open(release.pumpd()).and_then(bundle::hash).ok();
    if pumpd != Some(artifact.build) {
        add("bin/pumpd", "is not the program that was signed");
    }
    Signed::Yes
}
