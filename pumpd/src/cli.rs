//! The command line of `pumpd`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::release_info::VERSION;

/// The daemon of pump: a master and workers that serve a social site.
///
/// Operators use `pump`; these commands are what `pump` and systemd run.
#[derive(Debug, Parser)]
#[command(name = "pumpd", version = VERSION, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: start workers, and replace them when one dies or a restart is asked for
    Master {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "/etc/pump/pumpd.toml")]
        config: PathBuf,
        #[command(flatten)]
        resumed: Resumed,
    },
    /// Keep the master's descriptors and start it again when it dies, where there is no systemd
    #[command(hide = true)]
    Hold {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = "/etc/pump/pumpd.toml")]
        config: PathBuf,
    },
    /// Accept connections; started by the master only
    #[command(hide = true)]
    Worker {
        /// The descriptor on which the master speaks
        #[arg(long, value_name = "NUMBER")]
        channel: i32,
    },
    /// Print what this build is, as one line of JSON
    ReleaseInfo,
    /// Check the configuration, and print it as one line of JSON; nothing else is opened
    Check(Configured),
    /// Create the database, or bring it to this build's schema while others use it
    Migrate(Migrate),
    /// Print what the database is and what is left to do there, as one line of JSON
    Database(Configured),
    /// Copy the database while others use it, and check the copy
    Backup(Copying),
    /// Check a copy of the database: it is opened, and every page and index looked at
    VerifyBackup(Copying),
    /// Put a copy in the place of the database; the master has to be stopped
    Restore(Copying),
    /// Migrate and check a copy as this build would the database, and print how long it took
    Rehearse(Copying),
    /// Manage accounts
    #[command(subcommand)]
    Account(Account),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Make an account, and print its password unless one is given
    Create {
        /// The name: 1 to 30 letters, digits and underscores
        name: String,
        #[command(flatten)]
        configured: Configured,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
}

/// How much of a migration is done.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub(crate) configured: Configured,
    /// Only the short part that has to be there before this build serves
    #[arg(long, conflicts_with = "contract")]
    pub(crate) expand: bool,
    /// The last part, too: take away what only older builds need. They are refused from then on
    #[arg(long)]
    pub(crate) contract: bool,
}

/// A copy of the database.
#[derive(Debug, Args)]
pub(crate) struct Copying {
    /// The copy; `-` for standard output, or input
    pub(crate) file: PathBuf,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/pump/pumpd.toml")]
    pub(crate) config: PathBuf,
}

/// What a master is told that takes the place of another one. All numbers are of descriptors.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Resumed {
    /// Try to take this state over, touch nothing, and end
    #[arg(long, hide = true, value_name = "STATE", conflicts_with = "resume")]
    pub(crate) rehearse: Option<i32>,
    /// Go on from this state
    #[arg(long, hide = true, value_name = "STATE")]
    pub(crate) resume: Option<i32>,
    /// The build that this process was before, and is again if this one fails
    #[arg(long, hide = true, value_name = "BUILD", requires = "resume")]
    pub(crate) before: Option<i32>,
    /// The master that this process became has failed, by this signal
    #[arg(
        long,
        hide = true,
        value_name = "SIGNAL",
        requires = "resume",
        conflicts_with = "before"
    )]
    pub(crate) returned: Option<i32>,
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct Configured {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/pump/pumpd.toml")]
    pub(crate) config: PathBuf,
    /// Take the configuration's text from standard input; FILE is only named in messages
    #[arg(long, hide = true)]
    pub(crate) stdin: bool,
}
