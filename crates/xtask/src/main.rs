//! The chores of this workspace: `cargo xtask demo`, `test`, `dist`, `past`, `figures`, `torture`.
//!
//! Each is one module with its flags and a `run`. A chore ends with 0 only when all of it succeeded.

mod command;
mod copyright;
mod demo;
mod dist;
mod figures;
mod fuzz;
mod packages;
mod past;
mod repositories;
mod test;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// The chores of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Upgrade a server under load and show what clients saw.
    Demo(demo::Args),
    /// Run every check and every test.
    Test(test::Args),
    /// Make a release: a bundle and a signed source to serve it from.
    Dist(dist::Args),
    /// Make an apt repository of packages.
    AptRepo(repositories::apt::Args),
    /// Write which licences and people the crates name, for the packages.
    Copyright(copyright::Args),
    /// Make the Debian packages.
    Deb(packages::Args),
    /// Measure what the documents promise.
    Figures(figures::Args),
    /// Throw bytes at what reads bytes of others.
    Fuzz(fuzz::Args),
    /// Make the releases of the past again, from their commits.
    Past(past::Args),
    /// Make the packages for systems with rpm.
    Rpm(packages::Args),
    /// Make a repository for dnf of packages.
    RpmRepo(repositories::Flags),
    /// Roll a server again and again under every kind of client, and count what they lose.
    Torture(torture::Args),
    /// Put every crate into a folder, to build without a network.
    Vendor(packages::source_tree::Args),
    /// A web server that does nothing but answer, for `torture` to compare with.
    #[command(hide = true)]
    Bare(torture::BareArgs),
}

fn main() -> ExitCode {
    let ended = match Chore::parse() {
        Chore::Demo(args) => demo::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Dist(args) => dist::run(&args),
        Chore::AptRepo(args) => repositories::apt::make(&args).map(|made| made.tell()),
        Chore::Copyright(args) => copyright::run(&args),
        Chore::Deb(args) => packages::Kind::Deb.run(&args),
        Chore::Figures(args) => figures::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Past(args) => past::run(&args),
        Chore::Rpm(args) => packages::Kind::Rpm.run(&args),
        Chore::RpmRepo(args) => repositories::dnf::make(&args).map(|made| made.tell()),
        Chore::Torture(args) => torture::run(&args),
        Chore::Vendor(args) => packages::source_tree::run(&args),
        Chore::Bare(args) => torture::bare(&args),
    };
    ended.unwrap_or_else(|error| {
        #[expect(clippy::print_stderr, reason = "the last word of a chore")]
        {
            eprintln!("error: {error:#}");
        }
        ExitCode::FAILURE
    })
}

/// The folder of the workspace that this chore was built from.
pub(crate) fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("xtask lies two folders below the workspace").to_owned()
}
