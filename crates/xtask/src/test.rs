//! `cargo xtask test`: every check and every test, and nothing else decides whether main is green.
//!
//! Formatting, lints and documents first, then the tests of the workspace, then, for root, those on
//! machines with a real systemd. A step that fails does not keep the later ones from running. What
//! was run and what was skipped is listed at the end; the last lines are cargo's own summaries.

mod archive;
mod bare_root;
mod packages;
mod releases;
mod step;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::copyright;
use step::{Ended, Steps};

/// Flags of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the long proofs too: ignored tests whose name begins with `long_`.
    #[arg(long)]
    long: bool,

    /// Only the tests on booted machines, and of them those whose names have this in them.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    booted: Option<String>,

    /// Only what the archive of a distribution asks of packages, of those that were packed last, and of it what has
    /// this in its name: `cargo xtask test --archive source`.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["long", "booted"]
    )]
    archive: Option<String>,
}

/// Test files whose tests need a machine that boots.
const BOOTED: [&str; 4] = ["--test", "booted*", "--test", "machine"];

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = nix::unistd::geteuid().is_root();
    let mut steps = Steps::default();
    if let Some(name) = &args.archive {
        steps.run("the Debian packages that tests need", || packages::install(true));
        archive(name, &mut steps);
        return steps.tell();
    }
    if let Some(name) = &args.booted {
        // What tries things from within a process is a build for tests.
        steps.cargo("programs", &["build", "--quiet", "--workspace", "--bins"]);
        booted(root, args.long, name, &mut steps);
        return steps.tell();
    }
    if root {
        steps.run("the Debian packages that tests need", || packages::install(args.long));
    } else {
        steps.skip("the Debian packages that tests need", "installing them needs root");
    }
    steps.cargo("formatting", &["fmt", "--all", "--check"]);
    steps.cargo(
        "lints",
        &["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    );
    let words = ["doc", "--quiet", "--workspace", "--no-deps"];
    steps.cargo_with("documents", &words, ("RUSTDOCFLAGS", "--deny warnings"));
    steps.run("licences of the crates", copyright::check);
    // Tests that start the programs find them beside themselves.
    steps.cargo("programs", &["build", "--quiet", "--workspace", "--bins"]);
    steps.cargo("tests of the workspace", &["test", "--workspace", "--no-fail-fast"]);
    // In a process of its own, because it enters a network of its own.
    steps.cargo("clients of every kind against rolls", &["xtask", "torture"]);
    let upgrades = ["xtask", "torture", "upgrades"];
    steps.cargo("pump killed, and its disk full, at its changes", &upgrades);
    proxied(&mut steps);
    booted(root, args.long, "", &mut steps);
    if args.long {
        let words = ["test", "--workspace", "--no-fail-fast", "--", "--ignored", "long_"];
        steps.cargo("long proofs", &words);
        steps.cargo("a million requests of each kind", &["xtask", "torture", "--long"]);
        let upgrades = [&upgrades[..], &["--long"]].concat();
        steps.cargo("pump killed, and its disk full, at every change", &upgrades);
    } else {
        steps.skip("long proofs", "they run with `--long`");
    }
    steps.tell()
}

/// What a distribution asks of packages before it takes them.
fn archive(name: &str, steps: &mut Steps) {
    for (what, work) in archive::STEPS.into_iter().filter(|(what, _)| what.contains(name)) {
        steps.run(what, work);
    }
}

/// What needs a web server in front.
fn proxied(steps: &mut Steps) {
    let what = "tests behind nginx";
    if Path::new("/usr/sbin/nginx").exists() {
        let words = ["test", "--package", "pumpd", "--test", "it", "--", "--ignored", "nginx"];
        steps.cargo(what, &words);
    } else {
        steps.skip(what, "there is no nginx");
    }
}

/// What needs a machine that boots.
fn booted(root: bool, long: bool, name: &str, steps: &mut Steps) {
    let what = "tests on booted machines";
    if !root {
        steps.skip(what, "booting a machine needs root");
        return;
    }
    let made = steps.run("two releases to install and upgrade to", || {
        releases::make().context("could not make the releases")
    });
    if made == Ended::Well {
        if name.is_empty() {
            steps.run("packages that are packed twice are the same", releases::pack_again);
        }
        let words = ["test", "--workspace", "--no-fail-fast"];
        // Two at a time: each machine runs a server of its own, and some a load.
        let how = ["--", "--ignored", "--test-threads=2", name];
        // The wide matrix of machines.
        let skipped: &[&str] = if long { &[] } else { &["--skip", "matrix_"] };
        let words = [&words[..], &BOOTED, &how, skipped].concat();
        // Every name has nothing in it.
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        steps.cargo(what, &words);
        if long && name.is_empty() {
            archive("", steps);
            let source = "packages that are built twice from source, offline, are the same";
            steps.run(source, releases::build_twice);
        }
        if long {
            let newer = "tests on booted machines of the next Debian";
            steps.cargo_with(newer, &words, ("PUMP_TEST_SUITE", "trixie"));
        }
    } else {
        steps.skip(what, "there are no releases to install");
    }
}
