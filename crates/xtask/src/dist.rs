//! `cargo xtask dist`: makes a release, a bundle offered by a signed source.
//!
//! Builds `pump` and `pumpd`, asks the built `pumpd` what it is, packs both with the units and the
//! manual pages, and offers the bundle in a folder that any web server can carry. A folder that offers
//! releases already goes on offering them. Without keys in the key folder it makes some, which are
//! for tests and say so: see docs/decisions/0003-trust-root.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use jiff::Timestamp;
use pump_release::{Channel, ReleaseInfo, TARGET};
use pump_repository::{Bundle, Entry, Expiry, Keys, Offer, Source, sha256};

use crate::workspace;

pub(crate) mod rules;

use rules::Told;

/// Flags of `cargo xtask dist`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The version to build. Without it, that of the workspace.
    #[arg(long)]
    pub(crate) version: Option<semver::Version>,
    /// The magic number to build with, for trying out what differing ones do.
    #[arg(long, hide = true)]
    pub(crate) magic: Option<u32>,
    /// The folder of the source; made if missing.
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    pub(crate) out: PathBuf,
    /// The channel that offers the release.
    #[arg(long, default_value_t = Channel::Stable)]
    pub(crate) channel: Channel,
    /// The folder with the keys and their `root.json`. Without one there, keys for tests are made.
    #[arg(long, value_name = "DIR", default_value = "target/dist-keys")]
    pub(crate) key_dir: PathBuf,
    /// For how many days the signatures hold. Without it 90 for files, 7 for the time stamp.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires: Option<i64>,
    /// What a human has written about releases: from where they may be gone to, and which are withdrawn.
    #[arg(long, value_name = "FILE", default_value = "packaging/releases.toml")]
    pub(crate) rules: PathBuf,
    /// Build nothing: sign anew what is offered, with what the rules say now.
    #[arg(long)]
    pub(crate) sign_only: bool,
    /// The release mends a hole that somebody may use.
    #[arg(long)]
    pub(crate) security: bool,
    /// Where to read what changed.
    #[arg(long, value_name = "URL")]
    pub(crate) notes_url: Option<String>,
    /// Pack the `pump` and `pumpd` of this folder instead of building.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) binaries: Option<PathBuf>,
    /// Take units, licence and rules of the tree that these programs were built from.
    #[arg(long, value_name = "DIR", hide = true, requires = "binaries")]
    pub(crate) tree: Option<PathBuf>,
}

impl Args {
    /// A release of `version` into `out`, everything else as it is by default.
    pub(crate) fn new(version: semver::Version, out: &Path, key_dir: &Path) -> Self {
        Self {
            version: Some(version),
            magic: None,
            out: out.to_owned(),
            channel: Channel::Stable,
            key_dir: key_dir.to_owned(),
            expires: None,
            rules: PathBuf::from("packaging/releases.toml"),
            sign_only: false,
            security: false,
            notes_url: None,
            binaries: None,
            tree: None,
        }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// What the built `pumpd` says about itself.
    pub(crate) info: ReleaseInfo,
    /// The folder to give as `--source`.
    pub(crate) source: PathBuf,
    /// The file to give as `--trust-root`.
    pub(crate) trust_root: PathBuf,
    /// The bundle.
    pub(crate) bundle: PathBuf,
    /// Size of the bundle, in bytes.
    pub(crate) bundle_size: u64,
}

/// Makes a release and says where it is.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.sign_only {
        return sign_only(args);
    }
    let made = make(args)?;
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    {
        println!("release     {} for {TARGET}", made.info.name());
        println!("bundle      {} ({} KiB)", made.bundle.display(), made.bundle_size / 1024);
        println!("source      {}", made.source.display());
        println!("trust root  {}", made.trust_root.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Signs what is offered anew: the time stamp before it expires, and rules that have changed.
fn sign_only(args: &Args) -> anyhow::Result<ExitCode> {
    let told = Told::read(&workspace().join(&args.rules))?;
    let now = Timestamp::now();
    let source = Source::new(&args.out, Keys::open(&args.key_dir)?);
    source.sign_again_with(now, expiry(args, now), |release| told.apply(release))?;
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    {
        println!("signed anew   {}", source.dir().display());
    }
    Ok(ExitCode::SUCCESS)
}

fn expiry(args: &Args, now: Timestamp) -> Expiry {
    match args.expires {
        Some(days) => Expiry::in_days(now, days),
        None => Expiry::usual(now),
    }
}

/// Makes a release.
///
/// # Errors
/// When a build fails, when what was built is not what was asked for, or when a file cannot be
/// written.
pub(crate) fn make(args: &Args) -> anyhow::Result<Made> {
    let binaries = match &args.binaries {
        Some(folder) => folder.clone(),
        None => build(args)?,
    };
    let pumpd = read(&binaries.join("pumpd"))?;
    anyhow::ensure!(
        !pump_test::fake::can_fail(&binaries.join("pumpd"))?,
        "this `pumpd` can be told to fail by the end of its file: a release is built without the feature \
         `faults` and without debug assertions"
    );
    let info = ask(&binaries.join("pumpd"))?;
    anyhow::ensure!(
        info.build == sha256(&pumpd),
        "`pumpd release-info` names another build than the file's own hash"
    );
    if let Some(version) = &args.version {
        anyhow::ensure!(&info.version == version, "built {} instead of {version}", info.version);
    }
    let tree = args.tree.clone().unwrap_or_else(workspace);
    let mut entries = vec![
        Entry::program("bin/pumpd", pumpd),
        Entry::program("bin/pump", read(&binaries.join("pump"))?),
        Entry::file("LICENSE", read(&tree.join("LICENSE"))?),
        // Who wrote the crates in the programs, and under what.
        Entry::file("COPYRIGHT", read(&workspace().join("debian/copyright"))?),
    ];
    entries.extend(files(&tree.join("systemd"), "systemd")?);
    entries.extend(manual_pages(&binaries.join("pump"))?);

    let now = Timestamp::now();
    // Roots outlive releases: they change by a ceremony, not by a build.
    let root_expires = Expiry::in_days(now, 365).targets;
    let source = Source::new(&args.out, Keys::open_or_make(&args.key_dir, root_expires)?);
    let bundle = Bundle::pack(&info, entries)?;
    let expiry = expiry(args, now);
    let told = Told::read(&workspace().join(&args.rules))?;
    let offer = Offer {
        channel: args.channel,
        info: &info,
        target: TARGET,
        bundle: &bundle,
        rules: told.rules(&info.version),
        security: args.security || told.security(&info.version),
        notes_url: args.notes_url.clone().or_else(|| told.notes_url(&info.version)),
    };
    source.offer(&offer, now, expiry)?;
    // What is said of others may have changed since they were offered.
    source.sign_again_with(now, expiry, |release| told.apply(release))?;
    offer_to_script(&source, args.channel, &bundle.sha256, &info, &binaries.join("pump"))?;
    let name = format!("pump-{}-{TARGET}.tar.zst", info.version);
    Ok(Made {
        bundle: std::path::absolute(source.file_of(&bundle.sha256, &name))?,
        bundle_size: bundle.bytes.len() as u64,
        source: std::path::absolute(source.dir())?,
        trust_root: std::path::absolute(source.trust_root())?,
        info,
    })
}

/// Offers `install.sh`, and the newest release's `pump` for it: few machines can unpack zstd, and `pump`
/// can. The list that names it has the form of the one that names the bundle.
fn offer_to_script(
    source: &Source,
    channel: Channel,
    bundle: &pump_release::Digest,
    info: &ReleaseInfo,
    pump: &Path,
) -> anyhow::Result<()> {
    let newest = source.dir().join(format!("{channel}.sha256"));
    if !fs::read_to_string(&newest).is_ok_and(|line| line.starts_with(&bundle.to_string())) {
        // An older version was made again.
        return Ok(());
    }
    let key = source.minisign()?;
    let script = fs::read_to_string(workspace().join("packaging/install.sh"))?;
    let with_key =
        script.replacen("\nMINISIGN_KEY=\n", &format!("\nMINISIGN_KEY={}\n", key.public()), 1);
    anyhow::ensure!(with_key != script, "`install.sh` has no line for the key");
    fs::write(source.dir().join("install.sh"), with_key).context("could not offer `install.sh`")?;
    let archive = format!("pump-{}-{TARGET}.tar.zst", info.version);
    key.sign_file(&source.file_of(bundle, &archive), &archive)?;
    let bytes = read(pump)?;
    let hash = sha256(&bytes);
    let name = format!("pump-{}-{TARGET}", info.version);
    let place = source.file_of(&hash, &name);
    fs::write(&place, bytes).context("could not offer `pump`")?;
    key.sign_file(&place, &name)?;
    let list = source.dir().join(format!("{channel}-pump.sha256"));
    fs::write(list, format!("{hash}  targets/{hash}.{name}\n")).context("could not offer `pump`")
}

/// Builds both programs and returns the folder they are in.
///
/// # Errors
/// When cargo fails.
pub(crate) fn build(args: &Args) -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo.args(["build", "--release", "--quiet", "--package", "pump-cli", "--package", "pumpd"]);
    // Only the programs' own crates read these, so the next version costs two links.
    match &args.version {
        Some(version) => cargo.env("PUMP_VERSION", version.to_string()),
        None => cargo.env_remove("PUMP_VERSION"),
    };
    match args.magic {
        Some(magic) => cargo.env("PUMP_MAGIC", magic.to_string()),
        None => cargo.env_remove("PUMP_MAGIC"),
    };
    let status = cargo.status().context("could not run cargo")?;
    anyhow::ensure!(status.success(), "the release build failed");
    Ok(target.join("release"))
}

fn ask(pumpd: &Path) -> anyhow::Result<ReleaseInfo> {
    let asked = Command::new(pumpd)
        .arg("release-info")
        .output()
        .with_context(|| format!("could not run `{}`", pumpd.display()))?;
    anyhow::ensure!(
        asked.status.success(),
        "`pumpd release-info` failed: {}",
        String::from_utf8_lossy(&asked.stderr).trim()
    );
    serde_json::from_slice(&asked.stdout).context("`pumpd release-info` printed something else")
}

fn manual_pages(pump: &Path) -> anyhow::Result<Vec<Entry>> {
    let folder = tempfile::tempdir()?;
    let made = Command::new(pump)
        .args(["--quiet", "generate", "man"])
        .arg(folder.path())
        .status()
        .with_context(|| format!("could not run `{}`", pump.display()))?;
    anyhow::ensure!(made.success(), "`pump generate man` failed");
    files(folder.path(), "share/man/man1")
}

/// The files of a folder and its folders, for a folder of the release.
fn files(folder: &Path, under: &str) -> anyhow::Result<Vec<Entry>> {
    let listed = fs::read_dir(folder)
        .with_context(|| format!("could not read the folder `{}`", folder.display()))?;
    let mut entries = Vec::new();
    for entry in listed {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("an odd file name")?;
        let inside = format!("{under}/{name}");
        if path.is_dir() {
            entries.extend(files(&path, &inside)?);
        } else if !name.starts_with('.') {
            entries.push(Entry::file(inside, read(&path)?));
        }
    }
    Ok(entries)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read `{}`", path.display()))
}
