//! `pumpd backup`, `verify-backup`, `restore` and `rehearse`: copies of the database.
//!
//! `pump` keeps the copies where the service's user cannot go, and hands them in and takes them out by
//! standard input and output. A copy is worked on within the data folder.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use pump_control::ExitStatus;
use pump_control::answers::{Copied, Rehearsed, Restored};
use pump_store::{Copy, Step};
use sha2::{Digest as _, Sha256};

use super::data::free;
use super::{Done, Failed, now, print_json, store};
use crate::cli::Copying;
use crate::config::Config;
use crate::confine;
use crate::master::DataLock;

/// What has to stay free on the disk of the data besides a copy, in bytes.
const ROOM_TO_SPARE: u64 = 64 * 1024 * 1024;

/// A migrated copy, with its log, may be so many times as large as the copy.
const GROWS_AT_MOST: u64 = 2;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// `pumpd backup`. With `-` the copy goes to standard output, and what is said to standard error.
pub(crate) fn backup(args: &Copying) -> Done {
    let config = config(args)?;
    let failed = |error| store(error, &config);
    let data = &config.data_dir;
    need(data, pump_store::state(data).map_err(failed)?.bytes)?;
    let outward = is_dash(&args.file);
    let mut told = Instant::now();
    let tell = |step: Step| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            say(outward, &serde_json::json!({ "copying": { "done": step.done, "of": step.of } }));
        }
    };
    let copy = Copy::make(data, tell).map_err(failed)?;
    let found = copy.look().map_err(failed)?;
    let sha256 = if outward {
        // Unbuffered: standard output is a file, and what it is told twice is no copy.
        let mut out =
            File::from(rustix::io::dup(std::io::stdout()).map_err(io("standard output"))?);
        copy.hand_out(&mut out, Path::new("standard output")).map_err(failed)?
    } else {
        publish(&copy, &args.file, &config)?
    };
    copy.end().map_err(failed)?;
    say(outward, &copied(&found, &sha256));
    Ok(ExitStatus::Done)
}

/// `pumpd verify-backup`
pub(crate) fn verify(args: &Copying) -> Done {
    let config = config(args)?;
    let (copy, found, sha256) = take_in(args, &config, 1)?;
    copy.end().map_err(|error| store(error, &config))?;
    print_json(&copied(&found, &sha256))
}

/// `pumpd restore`
pub(crate) fn restore(args: &Copying) -> Done {
    let config = config(args)?;
    let data = &config.data_dir;
    // Held to the end, so that no master is started meanwhile.
    let _lock = DataLock::take(data).map_err(|error| {
        Failed::new(ExitStatus::Preflight, error.into()).hint("run `pump stop` first")
    })?;
    let (copy, found, sha256) = take_in(args, &config, 1)?;
    let url = config.public_url();
    let replaced = pump_store::restore(data, copy, &found, &url, now());
    let replaced = replaced.map_err(|error| match error {
        pump_store::Error::Busy { .. } => {
            store(error, &config).hint("somebody still uses the database: run `pump stop` first")
        }
        other => store(other, &config),
    })?;
    print_json(&Restored { replaced, copied: copied(&found, &sha256) })
}

/// `pumpd rehearse`
pub(crate) fn rehearse(args: &Copying) -> Done {
    let config = config(args)?;
    let failed = |error| store(error, &config);
    let (copy, found, _) = take_in(args, &config, GROWS_AT_MOST)?;
    copy.suits(&found).map_err(failed)?;
    let seen = copy.rehearse(found, &config.public_url(), now()).map_err(failed)?;
    copy.end().map_err(failed)?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    print_json(&Rehearsed {
        from: seen.migrated.from,
        to: seen.migrated.to,
        rows: seen.rows,
        expand_millis: millis(seen.expand),
        fill_millis: millis(seen.fill),
        check_millis: millis(seen.check),
        before_bytes: seen.before.bytes,
        after_bytes: seen.bytes,
    })
}

/// The configuration. From here on nothing but its data folder and the copy's is opened.
fn config(args: &Copying) -> Result<Config, Failed> {
    let config = super::read_file(&args.config)?;
    confine::helper(&config.data_dir, (!is_dash(&args.file)).then_some(&args.file));
    Ok(config)
}

/// A copy that somebody has kept, looked at; with its hash.
fn take_in(
    args: &Copying,
    config: &Config,
    times: u64,
) -> Result<(Copy, pump_store::Copied, [u8; 32]), Failed> {
    let name = if is_dash(&args.file) { Path::new("standard input") } else { &args.file };
    let file = match is_dash(&args.file) {
        true => rustix::io::dup(std::io::stdin()).map(File::from).map_err(io("standard input"))?,
        false => File::open(&args.file)
            .with_context(|| format!("could not open `{}`", name.display()))
            .map_err(|error| Failed::new(ExitStatus::Usage, error))?,
    };
    // A pipe has no length; then a full disk is met on the way.
    let length = file.metadata().map_or(0, |it| it.len());
    need(&config.data_dir, length.saturating_mul(times))?;
    let mut hashing = Hashing { file, hash: Sha256::new() };
    let failed = |error| store(error, config);
    let copy = Copy::take_in(&config.data_dir, &mut hashing).map_err(failed)?;
    let found = copy.look().map_err(|error| match error {
        // The copy's own path says nothing to anybody: it is gone when this is read.
        pump_store::Error::Corrupt { reason, .. } => {
            let text = format!("`{}` is no backup that can be used: {reason}", name.display());
            Failed::new(ExitStatus::Preflight, anyhow::anyhow!(text))
                .hint("`pump backup list` shows the others")
        }
        other => store(other, config),
    })?;
    Ok((copy, found, hashing.hash.finalize().into()))
}

/// What is read goes through here, so that the hash is of the very bytes that were looked at.
struct Hashing {
    file: File,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// Writes a copy to a file that is there whole or not at all.
fn publish(copy: &Copy, file: &Path, config: &Config) -> Result<[u8; 32], Failed> {
    let name = file.file_name().context("the file has no name");
    let name = name.map_err(|error| Failed::new(ExitStatus::Usage, error))?.to_string_lossy();
    let partial = file.with_file_name(format!(".{name}.partial"));
    let made = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial);
    let writing = |source: std::io::Error| {
        let text = format!("could not write `{}`: {source}", file.display());
        Failed::new(ExitStatus::Preflight, anyhow::anyhow!(text))
    };
    let mut out = made.map_err(writing)?;
    let mut write = || {
        let hash = copy.hand_out(&mut out, &partial).map_err(|error| store(error, config))?;
        out.sync_all().map_err(writing)?;
        fs::rename(&partial, file).map_err(writing)?;
        let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(writing)?;
        folder.sync_all().map_err(writing)?;
        Ok(hash)
    };
    write().inspect_err(|_: &Failed| {
        // The first error is the one that matters.
        let _ = fs::remove_file(&partial);
    })
}

/// Refuses when there is no room for so many bytes more.
fn need(data: &Path, bytes: u64) -> Result<(), Failed> {
    let (needed, free) = (bytes.saturating_add(ROOM_TO_SPARE), free(data)?);
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let text = format!(
        "a copy of the database needs {} MiB in `{}` for a while, and {} MiB are free; nothing was \
         changed",
        mib(needed),
        data.display(),
        mib(free)
    );
    let hint = format!("make room on the disk of `{}`", data.display());
    Err(Failed::new(ExitStatus::Preflight, anyhow::anyhow!(text)).hint(hint))
}

fn copied(found: &pump_store::Copied, sha256: &[u8; 32]) -> Copied {
    Copied {
        version: found.schema.version,
        compat: found.schema.compat,
        bytes: found.bytes,
        sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        accounts: found.accounts,
        notes: found.notes,
        activities: found.activities,
    }
}

fn is_dash(file: &PathBuf) -> bool {
    file == Path::new("-")
}

fn io(what: &'static str) -> impl Fn(rustix::io::Errno) -> Failed {
    move |error| {
        let text = format!("{what} cannot be used: {error}");
        Failed::new(ExitStatus::Usage, anyhow::anyhow!(text))
    }
}

/// A line of JSON on standard output, or on standard error where the other one carries the copy.
fn say(on_stderr: bool, value: &impl serde::Serialize) {
    let line = pump_control::encode(value);
    // Who does not listen is not told; the copy is made all the same.
    let _ = match on_stderr {
        true => std::io::stderr().write_all(&line),
        false => std::io::stdout().write_all(&line),
    };
}
