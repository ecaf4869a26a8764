//! The six questions of an installation, their defaults, and the command that answers them all.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dialoguer::{Confirm, Input};
use pump_control::ExitStatus;
use pump_model::{Domain, LocalName};

use super::{InstallArgs, YesNo, upgrades};
use crate::address::Address;
use crate::commands::account;
use crate::context::Context;
use crate::host::quoted;
use crate::passage::Asked;
use crate::report::Failure;

/// Ports that are tried for a default, the first free one is offered.
const PORTS: std::ops::Range<u16> = 8000..8020;

/// What to install.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// The name that accounts carry.
    pub(super) domain: String,
    /// Where to listen.
    pub(super) listen: Vec<Address>,
    /// The base of published ids, if it is not the usual one.
    pub(super) public_url: Option<String>,
    /// Where the database goes.
    pub(super) data_dir: PathBuf,
    /// What people call the site.
    pub(super) site_name: String,
    /// The first account.
    pub(super) account: Option<String>,
    /// Its password, when the administrator chose one.
    pub(super) password: Option<String>,
    /// Whether the timer is started.
    pub(super) auto_upgrade: bool,
    /// Where releases come from.
    pub(super) source: Option<String>,
    /// The root of trust to record.
    pub(super) trust_root: Option<PathBuf>,
}

impl Answers {
    /// Takes the flags, asks what is missing, and takes defaults where nobody can be asked.
    ///
    /// # Errors
    /// Exit 2 for an answer that is missing or no answer.
    pub(super) fn gather(args: &InstallArgs, context: &Context<'_>) -> Result<Self, Failure> {
        let asks = context.host.can_ask && !args.yes && !context.report.json;
        let domain = domain(args, asks)?;
        let listen = listen(args, asks)?;
        let data_dir = data_dir(args, context, asks)?;
        let site_name = match &args.site_name {
            Some(name) => name.clone(),
            None => text(asks, "Name of the site", &domain, anything)?,
        };
        let account = account_name(args, asks, context)?;
        let password = args.password_file.as_deref().map(password_of).transpose()?;
        let auto_upgrade = auto_upgrade(args, context, asks)?;
        Ok(Self {
            domain,
            listen,
            public_url: args.public_url.clone(),
            data_dir,
            site_name,
            account,
            password,
            auto_upgrade,
            source: args.source.as_deref().map(upgrades::whole_source).transpose()?,
            trust_root: args.trust_root.clone(),
        })
    }

    /// The command that gives these answers without being asked, for the release `from` there.
    pub(super) fn command(&self, from: &Path, context: &Context<'_>) -> String {
        // What `install.sh` fetched is gone when this is read, and what a package brought needs no name.
        let named = !from.starts_with(std::env::temp_dir()) && !context.layout.is_packaged();
        let from = named.then_some(from);
        let words: Vec<String> = self.words(from).iter().map(|word| quoted(word)).collect();
        format!("{} {}", crate::service::command(context), words.join(" "))
    }

    /// The same for the journal, so that what is cut can be begun anew.
    pub(super) fn asked(&self, from: &Path, context: &Context<'_>) -> Asked {
        let from = std::path::absolute(from).unwrap_or_else(|_| from.to_owned());
        Asked { words: self.words(Some(&from)), ..context.asked() }
    }

    fn words(&self, from: Option<&Path>) -> Vec<String> {
        let mut words: Vec<String> = vec!["install".into()];
        let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
        if let Some(from) = from {
            flag("--from", &from.to_string_lossy());
        }
        flag("--domain", &self.domain);
        for address in &self.listen {
            flag("--listen", &address.to_string());
        }
        if let Some(url) = &self.public_url {
            flag("--public-url", url);
        }
        flag("--data-dir", &self.data_dir.to_string_lossy());
        flag("--site-name", &self.site_name);
        if let Some(account) = &self.account {
            flag("--account", account);
        }
        if let Some(source) = &self.source {
            flag("--source", source);
        }
        if let Some(root) = &self.trust_root {
            flag("--trust-root", &root.to_string_lossy());
        }
        flag("--auto-upgrade", if self.auto_upgrade { "yes" } else { "no" });
        words.push("--yes".into());
        words
    }
}

fn domain(args: &InstallArgs, asks: bool) -> Result<String, Failure> {
    let valid = |text: &str| text.parse::<Domain>().map(drop).map_err(|why| why.to_string());
    if let Some(domain) = &args.domain {
        return given("--domain", domain, valid);
    }
    if asks {
        let question = "Domain that accounts carry, as in @alice@DOMAIN";
        return text(asks, question, &host_name(), valid);
    }
    // No default: every id that is ever published carries it, so nobody should get it by accident.
    Err(Failure::new(ExitStatus::Usage, "the domain is missing, and it cannot change later")
        .hint("give it, as in `pump install --domain social.example`"))
}

fn account_name(
    args: &InstallArgs,
    asks: bool,
    context: &Context<'_>,
) -> Result<Option<String>, Failure> {
    let valid =
        |text: &str| LocalName::for_new_account(text).map(drop).map_err(|why| why.to_string());
    if let Some(name) = &args.account {
        return given("--account", name, valid).map(Some);
    }
    if !asks {
        return Ok(None);
    }
    // Whoever typed `sudo`, if that can be the name of an account.
    let login = context.host.login.as_deref().filter(|name| valid(name).is_ok());
    let or_none = |text: &str| if text.is_empty() { Ok(()) } else { valid(text) };
    let name = text(asks, "First account (empty for none)", login.unwrap_or(""), or_none)?;
    Ok((!name.is_empty()).then_some(name))
}

fn listen(args: &InstallArgs, asks: bool) -> Result<Vec<Address>, Failure> {
    let texts = if args.listen.is_empty() {
        let question = match proxy() {
            Some(proxy) => format!("Listen where ({proxy} is here and can be put in front)"),
            None => "Listen where (address:port, or unix:/run/pump/http.sock)".to_owned(),
        };
        let valid = |text: &str| {
            let wrong = parts(text).find_map(|part| part.parse::<Address>().err());
            wrong.map_or(Ok(()), |why| Err(why.to_string()))
        };
        let answer = text(asks, &question, &free_address().to_string(), valid)?;
        parts(&answer).map(str::to_owned).collect()
    } else {
        args.listen.clone()
    };
    texts
        .iter()
        .map(|text| {
            text.parse::<Address>().map_err(|error| {
                Failure::new(ExitStatus::Usage, error.to_string())
                    .hint("give one such as `--listen 127.0.0.1:8000`")
            })
        })
        .collect()
}

fn data_dir(args: &InstallArgs, context: &Context<'_>, asks: bool) -> Result<PathBuf, Failure> {
    let usual = context.layout.data();
    let dir = match &args.data_dir {
        Some(dir) => dir.clone(),
        None => text(asks, "Folder for the data", &usual.to_string_lossy(), anything)?.into(),
    };
    // In a list of paths of a unit a space parts, a quote joins and a backslash escapes.
    let special = |c: char| c.is_whitespace() || c.is_control() || "\"'\\".contains(c);
    if dir.is_absolute() && !dir.to_string_lossy().contains(special) {
        return Ok(dir);
    }
    Err(Failure::new(
        ExitStatus::Usage,
        format!(
            "the data folder `{}` is not an absolute path without spaces, quotes and backslashes",
            dir.display()
        ),
    )
    .hint(format!("give one such as `--data-dir {}`", usual.display())))
}

fn auto_upgrade(args: &InstallArgs, context: &Context<'_>, asks: bool) -> Result<bool, Failure> {
    if context.layout.is_private() {
        return Ok(false);
    }
    if context.layout.is_packaged() {
        return match args.auto_upgrade {
            Some(YesNo::Yes) => Err(Failure::new(
                ExitStatus::PackageManager,
                "upgrades come with the package here, so no timer of pump's looks for them",
            )
            .hint(
                "leave `--auto-upgrade` away and let unattended-upgrades or dnf-automatic do it",
            )),
            _ => Ok(false),
        };
    }
    let knows_source = args.source.is_some() || context.layout.upgrade_config().exists();
    let wanted = match args.auto_upgrade {
        Some(answer) => answer == YesNo::Yes,
        // Without a source there is nothing to look at, so nothing to ask.
        None if !knows_source => return Ok(false),
        None if asks => Confirm::new()
            .with_prompt("Upgrade automatically, when it needs no downtime")
            .default(true)
            .interact()
            .context("could not ask")?,
        None => true,
    };
    if wanted && !knows_source {
        return Err(Failure::new(
            ExitStatus::Usage,
            "automatic upgrades need to know where releases come from",
        )
        .hint("add `--source URL`, or `--auto-upgrade no`"));
    }
    Ok(wanted)
}

fn password_of(file: &Path) -> Result<String, Failure> {
    let open = std::fs::File::open(file)
        .with_context(|| format!("could not open the password file `{}`", file.display()))?;
    account::read(open)
}

/// The addresses of one answer.
fn parts(answer: &str) -> impl Iterator<Item = &str> {
    answer.split([',', ' ']).filter(|part| !part.is_empty())
}

/// Whether an answer will do, or why not.
type Verdict = Result<(), String>;

fn anything(_answer: &str) -> Verdict {
    Ok(())
}

/// An answer that was given as a flag.
fn given(flag: &str, answer: &str, valid: impl Fn(&str) -> Verdict) -> Result<String, Failure> {
    valid(answer).map_err(|why| {
        Failure::new(ExitStatus::Usage, format!("`{flag} {answer}`: {why}"))
            .hint("run `pump install --help`")
    })?;
    Ok(answer.to_owned())
}

/// Asks until the answer will do, or takes the default where nobody can be asked.
fn text(
    asks: bool,
    question: &str,
    default: &str,
    valid: impl Fn(&str) -> Verdict,
) -> Result<String, Failure> {
    if !asks {
        return Ok(default.to_owned());
    }
    let mut input = Input::<String>::new()
        .with_prompt(question)
        .allow_empty(true)
        .validate_with(|answer: &String| valid(answer.trim()));
    if !default.is_empty() {
        input = input.default(default.to_owned());
    }
    let answer = input.interact_text().context("could not ask")?;
    Ok(answer.trim().to_owned())
}

/// The machine's name, as a first guess at the domain, if it is more than one word.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    if name.contains('.') { name } else { String::new() }
}

/// A web server that is installed here and could stand in front.
fn proxy() -> Option<&'static str> {
    [("nginx", "/usr/sbin/nginx"), ("Caddy", "/usr/bin/caddy"), ("Apache", "/usr/sbin/apache2")]
        .into_iter()
        .find(|(_, program)| Path::new(program).exists())
        .map(|(name, _)| name)
}

/// An address that is free now, for a proxy on this machine.
fn free_address() -> SocketAddr {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    PORTS
        .map(at)
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap_or_else(|| at(PORTS.start))
}
