//! `pump generate`: files for a release or a package, made from what this program knows anyway.
//!
//! Manual pages come from the command line's definition: one page for `pump`, which carries the table of exit
//! codes, and one for each command.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use pump_control::{ExitStatus, Layout};
use pump_release::{FileList, ListedFile, ReleaseInfo};

use crate::cli::Cli;
use crate::context::Context;
use crate::report::{Ended, Failure};
use crate::{bundle, inspect, packages, units};

/// What to make.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Manual pages (section 1) into a folder.
    Man {
        /// The folder, made if missing.
        dir: PathBuf,
    },
    /// The units that a package ships into a folder.
    Units {
        /// The folder, made if missing.
        dir: PathBuf,
    },
    /// `RELEASE.json` and `FILES` beside the programs of an unpacked release.
    Release {
        /// The folder that has `bin/pump` and `bin/pumpd`.
        dir: PathBuf,
    },
    /// What a package of rpm provides, for the `RELEASE.json` whose path is read from standard input.
    Provides,
}

pub(crate) fn run(args: GenerateArgs, context: &Context<'_>) -> Ended {
    match args.what {
        What::Man { dir } => {
            make(&dir, pages().context("could not make the manual pages")?)?;
            context.report.say(format_args!("manual pages are in `{}`", dir.display()));
        }
        What::Units { dir } => {
            let units = units::packaged().map(|(name, text)| (name.to_owned(), text.into_bytes()));
            make(&dir, units)?;
            context.report.say(format_args!("units are in `{}`", dir.display()));
        }
        What::Release { dir } => {
            let info = release(&dir)?;
            context.report.say(format_args!("`{}` is {}", dir.display(), info.name()));
        }
        What::Provides => {
            // As rpm calls what finds dependencies.
            let path =
                std::io::read_to_string(std::io::stdin()).context("could not read a path")?;
            let folder = Path::new(path.trim()).parent().unwrap_or(Path::new("."));
            let info = bundle::read_info(folder).map_err(anyhow::Error::from)?;
            packages::provides(&info).lines().for_each(|line| context.report.result(line));
        }
    }
    Ok(ExitStatus::Done)
}

fn make(dir: &Path, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)
        .with_context(|| format!("could not make the folder `{}`", dir.display()))?;
    files.into_iter().try_for_each(|(name, text)| write(&dir.join(name), &text))
}

/// Says in a folder what is in it. The build is the hash of the file, so nothing may strip it afterwards.
fn release(dir: &Path) -> Result<ReleaseInfo, Failure> {
    // The program is asked in another folder than this one.
    let dir = &std::path::absolute(dir).context("there is no folder to work in")?;
    let info = inspect::ask(&Layout::pumpd_in(dir))?;
    let mut text = serde_json::to_vec(&info).context("could not write `RELEASE.json`")?;
    text.push(b'\n');
    write(&dir.join("RELEASE.json"), &text)?;
    let mut list = FileList::default();
    for (path, mode) in [("bin/pump", 0o755), ("bin/pumpd", 0o755), ("RELEASE.json", 0o644)] {
        let file = dir.join(path);
        let sha256 = std::fs::File::open(&file)
            .and_then(bundle::hash)
            .with_context(|| format!("could not read `{}`", file.display()))?;
        list.insert(path, ListedFile { mode, sha256 });
    }
    write(&dir.join("FILES"), list.to_string().as_bytes())?;
    Ok(info)
}

/// The pages with their file names.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut whole = Cli::command();
    whole.build();
    let mut pages = vec![("pump.1".to_owned(), top(&whole)?)];
    for command in whole.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("pump-{}", command.get_name());
        let mut page = Vec::new();
        Man::new(command.clone()).render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    Ok(pages)
}

fn top(whole: &clap::Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(whole.clone()).render(&mut page)?;
    let mut codes = Roff::new();
    codes.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in ExitStatus::TABLE {
        codes.control("TP", ["4"]);
        codes.text([bold(status.code().to_string())]);
        codes.text([roman(*meaning)]);
    }
    codes.to_writer(&mut page)?;
    Ok(page)
}

fn write(path: &Path, page: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, page).with_context(|| format!("could not write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    #[test]
    fn every_command_has_a_page_and_every_exit_code_is_told() {
        let pages = pages().expect("pages are made in memory");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["pump.1", "pump-install.1", "pump-upgrade.1", "pump-status.1"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        for name in &names {
            let place = format!("/usr/local/share/man/man1/{name}");
            let listed = manifest::entries().iter().any(|entry| entry.path == place);
            assert!(listed, "`{place}` is not in packaging/files.list, so man(1) will not find it");
        }
        let top = String::from_utf8(pages[0].1.clone()).expect("a page is text");
        for (status, meaning) in ExitStatus::TABLE {
            assert!(top.contains(&format!("\\fB{}\\fR", status.code())), "{status:?}");
            assert!(top.contains(&meaning.replace('-', "\\-")), "{status:?}: {meaning}");
        }
    }
}
