//! `cargo xtask copyright`: writes `debian/copyright`, which names the licence and the people of every crate.
//!
//! The form is machine-readable (Debian's copyright format 1.0). Crates say their licence in their manifests, and who
//! wrote them in their licence files or else their manifests. All that cargo may ever fetch for this workspace is
//! listed, since the source package has all of it.

mod expression;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use serde::Deserialize;

use crate::command::said;
use crate::workspace;
use expression::Licence;

/// What is written.
const FILE: &str = "debian/copyright";

/// The paragraph of our own files.
const HEAD: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: pump
Source: https://github.com/pump-io/pump
Comment: Made by `cargo xtask copyright` from the manifests and licence files of the
 crates. What a crate took from others is told in its own folder.

Files: *
Copyright: 2026 the pump developers
License: Apache-2.0
";

/// What crates brought with them that is larger than they are: the crate, where it lies in it, whose it is, its licence.
const TAKEN: [(&str, &str, &str, &str); 1] = [(
    "libsqlite3-sys",
    "sqlite3/sqlite3*",
    "the authors of SQLite, who disclaim it",
    "public-domain",
)];

/// Licences whose text every Debian has, with the name of its file there.
const COMMON: [(&str, &str); 4] = [
    ("Apache-2.0", "Apache-2.0"),
    ("CC0-1.0", "CC0-1.0"),
    ("LGPL-2.1+", "LGPL-2.1"),
    ("MPL-2.0", "MPL-2.0"),
];

/// The widest line.
const WIDTH: usize = 78;

/// Flags of `cargo xtask copyright`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when the file is not as it would be written.
    #[arg(long)]
    check: bool,
}

/// Writes the file, or looks whether it is current.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.check {
        check()?;
    } else {
        fs::write(workspace().join(FILE), text()?)
            .with_context(|| format!("could not write `{FILE}`"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the file names the crates that `Cargo.lock` has.
///
/// # Errors
/// When it does not, or a crate says nothing that can be understood.
pub(crate) fn check() -> anyhow::Result<()> {
    let found = fs::read_to_string(workspace().join(FILE))
        .with_context(|| format!("could not read `{FILE}`"))?;
    anyhow::ensure!(
        found == text()?,
        "`{FILE}` names other crates than `Cargo.lock`; run `cargo xtask copyright`"
    );
    Ok(())
}

/// What `cargo metadata` prints, as far as it is used.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

/// One crate of it.
#[derive(Debug, Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: std::path::PathBuf,
    authors: Vec<String>,
}

/// The file as it has to be.
fn text() -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["metadata", "--format-version=1", "--locked"];
    let metadata = said(Command::new(cargo).args(words).current_dir(workspace()))?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).context("`cargo metadata` printed something else")?;
    // Crates of one project are one paragraph.
    let mut paragraphs: BTreeMap<(Vec<String>, String), Vec<String>> = BTreeMap::new();
    let mut used = BTreeSet::from(["Apache-2.0".to_owned()]);
    for one in metadata.packages.iter().filter(|one| one.source.is_some()) {
        let said =
            one.license.as_deref().with_context(|| format!("`{}` names no licence", one.name))?;
        let licence = Licence::parse(said)
            .with_context(|| format!("the licence of `{}` is `{said}`", one.name))?;
        used.extend(licence.names());
        paragraphs
            .entry((holders(one)?, licence.to_string()))
            .or_default()
            .push(format!("vendor/{}-{}/*", one.name, one.version));
    }
    let mut sorted: Vec<_> = paragraphs.into_iter().collect();
    for (_, files) in &mut sorted {
        files.sort();
    }
    sorted.sort_by(|(_, one), (_, other)| one.cmp(other));
    let mut text = HEAD.to_owned();
    for ((holders, licence), files) in sorted {
        text.push_str("\nFiles:");
        text.push_str(&wrapped(&files));
        text.push_str("\nCopyright: ");
        text.push_str(&holders.join("\n "));
        text.push_str(&format!("\nLicense: {licence}\n"));
    }
    // Of two paragraphs that fit a file the later one holds.
    for (name, below, holders, licence) in TAKEN {
        for one in metadata.packages.iter().filter(|one| one.name == name) {
            text.push_str(&format!(
                "\nFiles: vendor/{name}-{}/{below}\nCopyright: {holders}\nLicense: {licence}\n",
                one.version
            ));
            used.insert(licence.to_owned());
        }
    }
    for name in used {
        text.push_str(&format!("\nLicense: {name}\n{}", words_of(&name)?));
    }
    Ok(text)
}

/// Names on lines that are not too wide, each after the first one indented.
fn wrapped(names: &[String]) -> String {
    let mut text = String::new();
    let mut width = "Files:".len();
    for name in names {
        if width + 1 + name.len() > WIDTH {
            text.push('\n');
            width = 0;
        }
        text.push(' ');
        text.push_str(name);
        width += 1 + name.len();
    }
    text
}

/// Who has the copyright in a crate, a line each.
fn holders(of: &Crate) -> anyhow::Result<Vec<String>> {
    let folder = of.manifest_path.parent().context("a manifest lies in a folder")?;
    let mut found = BTreeSet::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("could not read `{}`", folder.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let told = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE"];
        if path.is_file() && told.iter().any(|word| name.starts_with(word)) {
            found.extend(holders_in(&path)?);
        }
    }
    if !found.is_empty() {
        return Ok(found.into_iter().collect());
    }
    let authors: Vec<String> = of.authors.iter().map(|it| it.trim().to_owned()).collect();
    Ok(if authors.is_empty() { vec![format!("the developers of {}", of.name)] } else { authors })
}

/// The lines of a licence file that say whose it is.
fn holders_in(path: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let holders = text.lines().filter_map(|line| {
        let line = line.trim_matches(|at: char| at.is_whitespace() || "/*#-".contains(at));
        let rest = line.strip_prefix("Copyright ").or_else(|| line.strip_prefix("COPYRIGHT "))?;
        let rest =
            ["(c)", "(C)", "©"].iter().fold(rest.to_owned(), |it, sign| it.replacen(sign, "", 1));
        let rest: Vec<&str> = rest.split_whitespace().collect();
        let rest = rest.join(" ");
        // The form that the Apache licence ends with, and sentences about copyright.
        let named = rest.starts_with(|at: char| at.is_ascii_digit() || at.is_uppercase());
        let form =
            rest.contains("[yyyy]") || rest.contains("{yyyy}") || rest.contains("AND PERMISSION");
        (named && !form && !rest.starts_with("Notice") && !rest.starts_with("License"))
            .then_some(rest)
    });
    Ok(holders.collect())
}

/// The words of a licence, as the format wants them.
fn words_of(name: &str) -> anyhow::Result<String> {
    if let Some((_, file)) = COMMON.iter().find(|(known, _)| *known == name) {
        return Ok(format!(
            " On Debian systems, the full text of this licence is in\n /usr/share/common-licenses/{file}.\n"
        ));
    }
    let (before, file) = match name.strip_suffix(" with LLVM exception") {
        Some(_) => {
            (" The Apache License 2.0, see there, with these exceptions:\n .\n", "LLVM-exception")
        }
        None => ("", name),
    };
    let path = workspace().join(format!("packaging/licenses/{file}.txt"));
    let text = fs::read_to_string(&path)
        .with_context(|| format!("no text of the licence `{name}` in `{}`", path.display()))?;
    let lines = text.lines().map(|line| match line.trim_end() {
        "" => " .\n".to_owned(),
        line => format!(" {line}\n"),
    });
    Ok(before.to_owned() + &lines.collect::<String>())
}
