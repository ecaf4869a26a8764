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
    /// Create the database, or bring it to this build's schema
    Migrate(Configured),
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
