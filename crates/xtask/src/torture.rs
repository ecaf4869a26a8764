//! `cargo xtask torture`: rolls a server again and again under every kind of client, and counts what
//! they lose.
//!
//! A cluster of its own, two builds in turn, no canary. Nothing here believes the server: clients see
//! their sockets, notes are looked for afterwards, workers are counted in /proc and resets by the kernel.
//! For root all of it happens in a network namespace of its own, so that the kernel counts nothing else.
//!
//! Ends with 1, and says why, when something was lost. Times are told and never a reason.

mod bare;
mod crowd;
mod fleet;
mod network;
mod size;
mod still;
mod table;
pub(crate) mod upgrades;
mod verdict;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use pump_test::{Setup, TestCluster, fake};

use crate::demo::keep;
use crate::{figures, workspace};

use network::Network;

pub(crate) use bare::{Args as BareArgs, run as bare};

/// How long the fleet is at work in a short run.
const SHORT: Duration = Duration::from_secs(50);

/// And in a long one at most, whether each class has made its million requests by then or not.
const LONG: Duration = Duration::from_secs(100 * 60);

/// And the mix that other servers were measured with, at most: nine rolls.
const USUAL: Duration = Duration::from_secs(60);

/// Flags of `cargo xtask torture`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Until each class of clients has made a million requests.
    #[arg(long)]
    long: bool,
    /// As `--long`, with another number of requests.
    #[arg(long, value_name = "N", hide = true)]
    each: Option<u64>,
    /// How long the fleet is at work at most, in seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Roll no more than so many times.
    #[arg(long)]
    rolls: Option<u64>,
    /// Only clients of this class, for whoever looks for something.
    #[arg(long, value_name = "CLASS", hide = true)]
    only: Option<String>,
    /// How many event streams there are.
    #[arg(long)]
    streams: Option<usize>,
    /// Only the fleet: no figures about times, memory and throughput.
    #[arg(long)]
    fleet_only: bool,
    /// Roll this `pumpd` instead of building one.
    #[arg(long, value_name = "FILE", hide = true)]
    pumpd: Option<PathBuf>,
}

/// What else is tortured than a cluster.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Kill `pump`, and fail its disk, at every change it makes.
    Upgrades(upgrades::Args),
}

/// What all parts need.
struct Builds {
    old: PathBuf,
    new: PathBuf,
    network: Network,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(What::Upgrades(args)) = &args.what {
        return upgrades::run(args);
    }
    if cfg!(debug_assertions) {
        return optimised();
    }
    let begun = Instant::now();
    let folder = tempfile::Builder::new().prefix("pump-torture-").tempdir()?;
    let old = folder.path().join("pumpd");
    match &args.pumpd {
        Some(path) => keep(path, &old)?,
        None => keep(&figures::build()?, &old)?,
    }
    let new = fake::other_build(&old, folder.path(), "pumpd-next")?;
    // Before there is a second thread: it and all children are born into it.
    let network = Network::enter()?;
    let builds = Builds { old, new, network };
    if let Some(why) = &builds.network.missing {
        print(&format!("resets are those of the whole machine: {why}"));
    }

    let long = args.long || args.each.is_some();
    let lasts = args.seconds.map_or(if long { LONG } else { SHORT }, Duration::from_secs);
    let mut usual = size::Size::USUAL;
    let mut size = if long { size::Size::LONG } else { size::Size::SHORT };
    size.each = args.each.or(size.each);
    for size in [&mut usual, &mut size] {
        size.streams = args.streams.unwrap_or(size.streams);
        size.only.clone_from(&args.only);
    }
    let fleet = fleet::run(&builds, &size, lasts, args.rolls)?;
    print(&table::fleet("All kinds of clients", &fleet));
    let mut reasons = verdict::of_fleet(&fleet);
    if !args.fleet_only {
        let usual = fleet::run(&builds, &usual, USUAL, Some(9))?;
        print(&table::fleet("The mix that other servers were measured with", &usual));
        reasons.extend(verdict::of_fleet(&usual));
        let still = still::measure(&builds)?;
        let crowds = crowd::measure(&builds, long)?;
        let workers = crowd::by_workers(&builds)?;
        let bare = bare::compare(&builds)?;
        print(&table::figures(&still, &crowds, &workers, &bare));
        reasons.extend(verdict::of_crowds(&crowds));
        reasons.extend(verdict::of_still(&still));
    }
    print(&format!("The torture took {} s.", begun.elapsed().as_secs()));
    for reason in &reasons {
        print(&format!("NO   {reason}"));
    }
    if reasons.is_empty() {
        print("yes  nothing was lost");
    }
    Ok(if reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same once more, as optimised as what it is compared with: clients that cost little leave the
/// processor to the server, and the bare server is no slower than it is.
fn optimised() -> anyhow::Result<ExitCode> {
    let words = ["run", "--release", "--quiet", "--package", "xtask", "--"];
    let status = Command::new(env!("CARGO"))
        .args(words)
        .args(std::env::args_os().skip(1))
        .current_dir(workspace())
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A cluster that rolls at once: no canary, nothing watched.
fn cluster(builds: &Builds, workers: u32) -> anyhow::Result<TestCluster> {
    let more = "[limits]\nconnections_per_worker = 30000\nidle_seconds = 600\nbody_bytes = 2097152\n\
                [roll]\ncanary_seconds = 0\nwatch_seconds = 0\n";
    TestCluster::try_start(Setup {
        pumpd: Some(builds.old.clone()),
        workers,
        listen: vec![builds.network.listen(), "unix:run/http.sock".to_owned()],
        more: more.to_owned(),
        ..Setup::default()
    })
}

fn say(step: &str, text: &str) {
    print(&format!("{step:>11}  {text}"));
}

#[expect(clippy::print_stdout, reason = "the one place where the torture prints")]
pub(crate) fn print(text: &str) {
    println!("{text}");
}
