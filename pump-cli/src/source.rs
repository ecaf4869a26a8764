//! Where releases come from: `/etc/pump/upgrade.toml`.
//!
//! ```toml
//! source = "https://releases.example"    # or "file:///srv/pump", or "/srv/pump"
//! channel = "stable"                     # or "beta"
//! mirrors = ["https://mirror.example"]   # asked in this order when the source fails
//! ca = "/etc/pump/ca.pem"                # authorities besides those of the system
//! proxy = "http://proxy.example:3128"    # instead of what the environment says
//!
//! [fetch]                                # what may take how long, in seconds
//! connect_seconds = 10
//! silent_seconds = 30
//! metadata_seconds = 120
//! bundle_seconds = 3600
//! ```
//!
//! None is compiled in: whoever runs a server decides whose code it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use pump_control::{ExitStatus, Layout};
use pump_release::Channel;
use serde::Deserialize;
use url::{Host, Url};

use crate::policy::{self, Policy};
use crate::report::Failure;

/// Largest `upgrade.toml`, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where to look, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Where releases are.
    pub(crate) address: Address,
    /// Which line of them to follow.
    pub(crate) channel: Channel,
    /// Where else they are, in the order to ask.
    pub(crate) mirrors: Vec<Address>,
    /// How long what may take.
    pub(crate) patience: Patience,
    /// Why metadata that has expired is to be accepted, if so. Only the command line says that.
    pub(crate) accept_expired: Option<String>,
}

/// How long what may take, and by whose word a server is who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// A connection.
    pub(crate) connect: Duration,
    /// A silence in the middle of an answer.
    pub(crate) silent: Duration,
    /// All metadata together; it is some kilobytes.
    pub(crate) metadata: Duration,
    /// A bundle; it is some megabytes. A slower line is better served by a copy.
    pub(crate) bundle: Duration,
    /// Authorities besides those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// The proxy, instead of the environment's.
    pub(crate) proxy: Option<Url>,
}

/// Most mirrors. Each may cost all the time there is.
const MAX_MIRRORS: usize = 16;

/// Longest that anything may be told to take, in seconds: a day.
const MAX_SECONDS: u64 = 24 * 3600;

/// `upgrade.toml` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    source: Option<String>,
    #[serde(default)]
    channel: Channel,
    #[serde(default)]
    mirrors: Vec<String>,
    ca: Option<PathBuf>,
    proxy: Option<String>,
    #[serde(default)]
    fetch: Fetch,
    window: Option<policy::Windows>,
    time_zone: Option<policy::Zone>,
    #[serde(default)]
    security_any_time: bool,
    pin: Option<policy::Pin>,
    bake_seconds: Option<policy::BakeSeconds>,
    lock_seconds: Option<policy::LockSeconds>,
    metrics_file: Option<policy::AbsolutePath>,
    notify: Option<policy::Notify>,
}

/// Its table `fetch`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetch {
    connect_seconds: Option<u64>,
    silent_seconds: Option<u64>,
    metadata_seconds: Option<u64>,
    bundle_seconds: Option<u64>,
}

/// What the file says about when and how to upgrade. Without a file, nothing.
///
/// # Errors
/// Exit 78 when the file is wrong.
pub(crate) fn policy(layout: &Layout) -> Result<Policy, Failure> {
    let (file, _) = read(&layout.upgrade_config())?;
    Ok(Policy::from(policy::Written {
        window: file.window,
        time_zone: file.time_zone,
        security_any_time: file.security_any_time,
        pin: file.pin,
        bake_seconds: file.bake_seconds,
        lock_seconds: file.lock_seconds,
        metrics_file: file.metrics_file,
        notify: file.notify,
    }))
}

/// What the flags and the file say together; a flag wins.
///
/// # Errors
/// Exit 2 when nobody names a source, exit 78 when the file is wrong.
pub(crate) fn wish(
    layout: &Layout,
    source: Option<&str>,
    channel: Option<Channel>,
) -> Result<Wish, Failure> {
    let path = layout.upgrade_config();
    let (file, text) = match read(&path) {
        Ok(read) => read,
        // With both flags given, a file that cannot be read is nobody's concern.
        Err(_) if source.is_some() && channel.is_some() => (File::default(), String::new()),
        Err(failure) => return Err(failure),
    };
    let address = match (source, &file.source) {
        (Some(flag), _) => flag.parse().map_err(|why| {
            Failure::new(ExitStatus::Usage, format!("`--source {flag}` {why}"))
                .hint("run `pump upgrade --help`")
        })?,
        (None, Some(found)) => found.parse().map_err(|why| {
            let line = line_of(&text, text.find(found.as_str()).unwrap_or(0));
            wrong(&path, line, &format!("`source = \"{found}\"` {why}"))
        })?,
        (None, None) => {
            let line = r#"source = "https://RELEASES.EXAMPLE""#;
            return Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "no release source is set, and none is compiled in: `{}` {}",
                    path.display(),
                    if text.is_empty() { "is not there" } else { "has no `source`" }
                ),
            )
            .hint(format!("write the line `{line}` into `{}`", path.display())));
        }
    };
    if file.mirrors.len() > MAX_MIRRORS {
        let line = line_of(&text, text.find("mirrors").unwrap_or(0));
        return Err(wrong(&path, line, &format!("more than {MAX_MIRRORS} `mirrors`")));
    }
    let mirrors = file.mirrors.iter().map(|found| {
        found.parse().map_err(|why| {
            let line = line_of(&text, text.find(found.as_str()).unwrap_or(0));
            wrong(&path, line, &format!("the mirror `{found}` {why}"))
        })
    });
    // Whoever names a source means that one.
    let mirrors = match source {
        Some(_) => Vec::new(),
        None => mirrors.collect::<Result<_, _>>()?,
    };
    let patience = patience(&file, &path, &text)?;
    let channel = channel.unwrap_or(file.channel);
    Ok(Wish { address, channel, mirrors, patience, accept_expired: None })
}

/// The same for a source in one file, unpacked in a folder. The file's limits and channel hold.
///
/// # Errors
/// As [`wish`], but for the source.
pub(crate) fn bundled(
    layout: &Layout,
    file: &Path,
    folder: &Path,
    channel: Option<Channel>,
    accept_expired: Option<String>,
) -> Result<Wish, Failure> {
    let place = folder.to_string_lossy();
    let wish = wish(layout, Some(&place), channel)?;
    let address = Address::Bundle { file: file.to_owned(), folder: folder.to_owned() };
    Ok(Wish { address, accept_expired, ..wish })
}

fn patience(file: &File, path: &Path, text: &str) -> Result<Patience, Failure> {
    let Fetch { connect_seconds, silent_seconds, metadata_seconds, bundle_seconds } = file.fetch;
    let limit = |name: &str, found: Option<u64>, usual| match found.unwrap_or(usual) {
        seconds @ 1..=MAX_SECONDS => Ok(Duration::from_secs(seconds)),
        seconds => {
            let line = line_of(text, text.find(name).unwrap_or(0));
            Err(wrong(path, line, &format!("`{name} = {seconds}` is not from 1 to {MAX_SECONDS}")))
        }
    };
    let proxy = match file.proxy.as_deref().map(Url::parse) {
        None => None,
        Some(Ok(url)) if ["http", "https"].contains(&url.scheme()) && url.has_host() => Some(url),
        Some(_) => {
            let line = line_of(text, text.find("proxy").unwrap_or(0));
            return Err(wrong(path, line, "`proxy` is no http:// or https:// URL"));
        }
    };
    Ok(Patience {
        proxy,
        connect: limit("connect_seconds", connect_seconds, 10)?,
        silent: limit("silent_seconds", silent_seconds, 30)?,
        metadata: limit("metadata_seconds", metadata_seconds, 120)?,
        bundle: limit("bundle_seconds", bundle_seconds, 3600)?,
        ca: file.ca.clone(),
    })
}

fn read(path: &Path) -> Result<(File, String), Failure> {
    let text = match fs::metadata(path) {
        Ok(file) if file.len() > MAX_FILE => {
            return Err(wrong(path, 1, &format!("the file has more than {MAX_FILE} bytes")));
        }
        Ok(_) => fs::read_to_string(path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(Failure::new(
                ExitStatus::Configuration,
                format!("could not read `{}`: {error}", path.display()),
            )
            .hint(format!("run `ls -l {}`", path.display())));
        }
    };
    let file = toml::from_str(&text).map_err(|error| {
        let line = line_of(&text, error.span().map_or(0, |span| span.start));
        let found = text.lines().nth(line - 1).unwrap_or_default().trim();
        wrong(path, line, &format!("`{found}`: {}", error.message()))
    })?;
    Ok((file, text))
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn wrong(path: &Path, line: usize, what: &str) -> Failure {
    Failure::new(ExitStatus::Configuration, format!("`{}`, line {line}: {what}", path.display()))
        .hint(
            "allowed are `source` and `mirrors`, https:// or file:// URLs or folders, `channel`, `stable` or \
             `beta`, `ca`, the tables `fetch` and `notify`, `window`, `time_zone`, `security_any_time`, `pin`, \
             `bake_seconds`, `lock_seconds` and `metrics_file`",
        )
}

/// A place that carries releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A web server.
    Web(Url),
    /// A folder of this machine.
    Folder(PathBuf),
    /// A file that `pump bundle` made.
    Bundle {
        /// The file.
        file: PathBuf,
        /// Where it was unpacked to.
        folder: PathBuf,
    },
}

impl Address {
    /// Whether it is on this machine: what is said there nobody else can say.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Folder(_) | Self::Bundle { .. } => true,
            Self::Web(url) => match url.host() {
                Some(Host::Ipv4(ip)) => ip.is_loopback(),
                Some(Host::Ipv6(ip)) => ip.is_loopback(),
                // A name is whatever a resolver says it is.
                Some(Host::Domain(_)) | None => false,
            },
        }
    }

    /// A folder below it, as a URL with a slash at its end.
    ///
    /// # Errors
    /// When a folder's path has no URL.
    pub(crate) fn below(&self, name: &str) -> anyhow::Result<Url> {
        match self {
            Self::Web(url) => {
                let mut url = url.clone();
                let path = format!("{}/{name}/", url.path().trim_end_matches('/'));
                url.set_path(&path);
                Ok(url)
            }
            Self::Folder(path) | Self::Bundle { folder: path, .. } => {
                Url::from_directory_path(path.join(name))
                    .map_err(|()| anyhow::anyhow!("`{}` has no URL", path.display()))
            }
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        let url = Url::parse(text).map_err(|_| "is neither a URL nor an absolute path")?;
        match url.scheme() {
            "https" | "http" if url.query().is_some() || url.fragment().is_some() => {
                Err("has a query or a fragment: files are looked for below it")
            }
            "https" | "http" => Ok(Self::Web(url)),
            "file" => {
                url.to_file_path().map(Self::Folder).map_err(|()| "names no folder of this machine")
            }
            _ => Err("is no https://, http:// or file:// URL"),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Web(url) => {
                // A password belongs into no log and no history.
                let mut url = url.clone();
                let _ = url.set_password(None);
                f.write_str(url.as_str())
            }
            Self::Folder(path) | Self::Bundle { file: path, .. } => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Layout) {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        fs::create_dir_all(layout.upgrade_config().parent().unwrap()).unwrap();
        fs::write(layout.upgrade_config(), text).unwrap();
        (place, layout)
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_is_allowed() {
        for (text, line, says) in [
            ("source = \"/srv\"\nchanel = \"beta\"\n", 2, "unknown field `chanel`"),
            ("source = \"/srv\"\n\nchannel = \"nightly\"\n", 3, "nightly"),
            ("source = 7\n", 1, "expected a string"),
            ("\nsource = \"ftp://example\"\n", 2, "no https://"),
            ("source = \"releases.example\"\n", 1, "neither a URL nor an absolute path"),
            ("source = \n", 1, "source ="),
        ] {
            let (_place, layout) = file(text);
            let failure = wish(&layout, None, None).unwrap_err();
            assert_eq!(failure.exit, ExitStatus::Configuration, "{text}");
            assert!(failure.error.contains(&format!("line {line}:")), "{}", failure.error);
            assert!(failure.error.contains(says), "{} should say {says}", failure.error);
            assert!(failure.hint.unwrap().contains("`stable` or `beta`"));
        }
    }

    #[test]
    fn without_a_source_the_line_to_write_is_told() {
        for text in ["", "channel = \"beta\"\n"] {
            let (_place, layout) = file(text);
            let failure = wish(&layout, None, None).unwrap_err();
            assert_eq!(failure.exit, ExitStatus::Usage);
            assert!(failure.hint.unwrap().contains(r#"source = "https://"#));
        }
    }

    #[test]
    fn files_are_looked_for_below_the_source() {
        let (_place, layout) =
            file("source = \"https://releases.example/pump\"\nchannel = \"beta\"");
        let wish = wish(&layout, None, None).unwrap();
        assert_eq!(wish.channel, Channel::Beta);
        assert_eq!(
            wish.address.below("metadata").unwrap().as_str(),
            "https://releases.example/pump/metadata/"
        );
    }

    #[test]
    fn only_what_nobody_else_can_answer_for_is_local() {
        for (text, local) in [
            ("/srv/pump", true),
            ("file:///srv/pump", true),
            ("http://127.0.0.1:8000/", true),
            ("http://[::1]/", true),
            ("http://localhost/", false),
            ("https://releases.example/", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
