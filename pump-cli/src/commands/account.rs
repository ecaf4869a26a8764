//! `pump account`: accounts, made by the daemon's binary as the service's user.

use std::io::Read;

use anyhow::Context as _;
use pump_control::ExitStatus;
use serde_json::json;

use crate::context::Context;
use crate::daemon::{Daemon, Identity};
use crate::report::{Ended, Failure};

/// Longest password that is read, in bytes. The daemon has its own, lower limit.
pub(crate) const MAX_PASSWORD: u64 = 4096;

/// What to do with accounts.
#[derive(Debug, clap::Args)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Create an account. Prints its password when it made one.
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The name, as in `@NAME@DOMAIN`.
    name: String,
    /// Read the password from standard input instead of making one.
    #[arg(long)]
    password_stdin: bool,
}

pub(crate) fn run(args: AccountArgs, context: &Context<'_>) -> Ended {
    let What::Create(args) = args.what;
    context.need_root("creating an account")?;
    context.need_installed()?;
    let password = if args.password_stdin { Some(read(std::io::stdin())?) } else { None };
    let made = Daemon::current(&context.layout).create_account(
        Identity::of_data(&context.layout),
        &context.layout.config(),
        &args.name,
        password.as_deref(),
    )?;
    context.report.value(&json!({ "account": made.handle, "password": made.password }));
    context.report.say(format_args!("account `{}` was created", made.handle));
    if let Some(password) = made.password {
        context.report.say("its password is shown this once:");
        context.report.result(password);
    }
    Ok(ExitStatus::Done)
}

/// The first line of what is read.
///
/// # Errors
/// Exit 2 when there is none.
pub(crate) fn read(from: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    from.take(MAX_PASSWORD).read_to_string(&mut text).context("could not read the password")?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => {
            Err(Failure::new(ExitStatus::Usage, "the password is empty")
                .hint("write it as one line"))
        }
    }
}
