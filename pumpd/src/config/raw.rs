//! The file's shape, and what is allowed in it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;
use pump_control::constants::{CANARY, HARD_STOP, MAX_CANARY, MAX_PARALLEL};
use pump_model::Domain;
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::error::{ConfigError, Source};
use super::{Address, Config, Limits, Roll};

/// Most workers that a configuration may ask for.
const MAX_WORKERS: usize = 256;

/// Most addresses to listen on.
const MAX_LISTEN: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    domain: Spanned<String>,
    public_url: Option<Spanned<String>>,
    site_name: Option<Spanned<String>>,
    listen: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    trusted_proxies: Vec<Spanned<String>>,
    data_dir: Option<Spanned<PathBuf>>,
    runtime_dir: Option<Spanned<PathBuf>>,
    workers: Option<Spanned<usize>>,
    #[serde(default)]
    open_registration: bool,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    roll: RawRoll,
    #[serde(default)]
    test: RawTest,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    body_bytes: Option<Spanned<u64>>,
    head_bytes: Option<Spanned<u64>>,
    header_seconds: Option<Spanned<u64>>,
    idle_seconds: Option<Spanned<u64>>,
    connections_per_worker: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRoll {
    ready_seconds: Option<Spanned<u64>>,
    drain_seconds: Option<Spanned<u64>>,
    hard_stop_seconds: Option<Spanned<u64>>,
    linger_seconds: Option<Spanned<u64>>,
    watch_seconds: Option<Spanned<u64>>,
    canary_seconds: Option<Spanned<u64>>,
    parallel: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTest {
    generation_header: bool,
}

impl Raw {
    pub(super) fn check(self, source: &Source<'_>) -> Result<Config, ConfigError> {
        let domain = domain(&self.domain, source)?;
        let public_url = match &self.public_url {
            Some(url) => public_url(url, source)?,
            None => default_url(&domain, &self.domain, source)?,
        };
        let site_name = match self.site_name {
            None => domain.to_string(),
            Some(name) => {
                let length = name.get_ref().chars().count();
                if !(1..=100).contains(&length) || name.get_ref().contains(char::is_control) {
                    let text = "`site_name` is empty, longer than 100 characters, or has control \
                                characters in it";
                    return Err(source.at(name.span(), text.to_owned()));
                }
                name.into_inner()
            }
        };
        let workers = match &self.workers {
            Some(workers) => {
                let range = 1..=MAX_WORKERS as u64;
                let number = workers.get_ref().to_owned() as u64;
                in_range("workers", number, workers.span(), range, source)? as usize
            }
            None => available_parallelism().map_or(2, usize::from).clamp(2, MAX_WORKERS),
        };
        let limits = self.limits.check(source)?;
        let roll = self.roll.check(source)?;
        Ok(Config {
            domain,
            public_url,
            site_name,
            listen: listen(self.listen, source)?,
            trusted_proxies: trusted_proxies(&self.trusted_proxies, source)?,
            data_dir: folder("data_dir", self.data_dir, "/var/lib/pump", source)?,
            runtime_dir: folder("runtime_dir", self.runtime_dir, "/run/pump", source)?,
            workers,
            open_registration: self.open_registration,
            limits,
            roll,
            generation_header: self.test.generation_header,
        })
    }
}

impl RawLimits {
    fn check(&self, source: &Source<'_>) -> Result<Limits, ConfigError> {
        let get = |key, value, default, range| number(key, value, default, range, source);
        let seconds = |key, value, default| get(key, value, default, 1..=3600);
        Ok(Limits {
            body_bytes: get("limits.body_bytes", &self.body_bytes, 1 << 20, 1 << 10..=1 << 30)?
                as usize,
            // Hyper reads heads into a buffer that may not be smaller than 8 KiB.
            head_bytes: get("limits.head_bytes", &self.head_bytes, 64 << 10, 8 << 10..=1 << 20)?
                as usize,
            header: Duration::from_secs(seconds(
                "limits.header_seconds",
                &self.header_seconds,
                10,
            )?),
            idle: Duration::from_secs(seconds("limits.idle_seconds", &self.idle_seconds, 75)?),
            connections_per_worker: get(
                "limits.connections_per_worker",
                &self.connections_per_worker,
                4096,
                1..=1 << 20,
            )? as usize,
        })
    }
}

impl RawRoll {
    fn check(&self, source: &Source<'_>) -> Result<Roll, ConfigError> {
        let seconds = |key, value, default, range| {
            number(key, value, default, range, source).map(Duration::from_secs)
        };
        let drain = seconds("roll.drain_seconds", &self.drain_seconds, 30, 1..=600)?;
        let least = drain.as_secs();
        let parallel = number("roll.parallel", &self.parallel, 1, 1..=MAX_PARALLEL as u64, source)?;
        Ok(Roll {
            ready: seconds("roll.ready_seconds", &self.ready_seconds, 20, 1..=600)?,
            drain,
            hard_stop: seconds(
                "roll.hard_stop_seconds",
                &self.hard_stop_seconds,
                HARD_STOP.as_secs(),
                least..=86_400,
            )?,
            linger: seconds("roll.linger_seconds", &self.linger_seconds, 5, 0..=300)?,
            watch: seconds("roll.watch_seconds", &self.watch_seconds, 2, 0..=600)?,
            canary: seconds(
                "roll.canary_seconds",
                &self.canary_seconds,
                CANARY.as_secs(),
                0..=MAX_CANARY.as_secs(),
            )?,
            parallel: parallel as usize,
        })
    }
}

fn number(
    key: &str,
    value: &Option<Spanned<u64>>,
    default: u64,
    range: RangeInclusive<u64>,
    source: &Source<'_>,
) -> Result<u64, ConfigError> {
    match value {
        Some(value) => in_range(key, *value.get_ref(), value.span(), range, source),
        None => Ok(default),
    }
}

fn in_range(
    key: &str,
    value: u64,
    place: std::ops::Range<usize>,
    range: RangeInclusive<u64>,
    source: &Source<'_>,
) -> Result<u64, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (range.start(), range.end());
    Err(source.at(place, format!("`{key}` is {value}, and {least} to {most} is allowed")))
}

fn domain(found: &Spanned<String>, source: &Source<'_>) -> Result<Domain, ConfigError> {
    found.get_ref().parse().map_err(|_| {
        let found_text = found.get_ref();
        let text = format!(
            "`domain` is `{found_text}`, and a host name such as `social.example` is allowed"
        );
        source.at(found.span(), text)
    })
}

fn default_url(
    domain: &Domain,
    found: &Spanned<String>,
    source: &Source<'_>,
) -> Result<Url, ConfigError> {
    let text = format!("https://{domain}/");
    Url::parse(&text).map_err(|_| {
        source.at(found.span(), format!("`domain` is `{domain}`, which makes no address"))
    })
}

fn public_url(found: &Spanned<String>, source: &Source<'_>) -> Result<Url, ConfigError> {
    let allowed = "an address such as `https://social.example`, without path, query or user";
    let good = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    Url::parse(found.get_ref()).ok().filter(good).ok_or_else(|| {
        let text = format!("`public_url` is `{}`, and {allowed} is allowed", found.get_ref());
        source.at(found.span(), text)
    })
}

fn listen(
    found: Option<Spanned<Vec<Spanned<String>>>>,
    source: &Source<'_>,
) -> Result<Vec<Address>, ConfigError> {
    let Some(found) = found else {
        return Ok(vec![Address::Tcp(([127, 0, 0, 1], 8000).into())]);
    };
    let place = found.span();
    let found = found.into_inner();
    if found.is_empty() || found.len() > MAX_LISTEN {
        let count = found.len();
        let text = format!("`listen` has {count} addresses, and 1 to {MAX_LISTEN} are allowed");
        return Err(source.at(place, text));
    }
    let mut addresses = Vec::new();
    for text in found {
        let address = text.get_ref().parse::<Address>().map_err(|_| {
            let message = format!(
                "`listen` has `{}`, and an IP address with a port (`127.0.0.1:8000`, `[::1]:8000`) \
                 or `unix:/path` is allowed",
                text.get_ref()
            );
            source.at(text.span(), message)
        })?;
        if addresses.contains(&address) {
            return Err(source.at(text.span(), format!("`listen` has `{address}` twice")));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn trusted_proxies(
    found: &[Spanned<String>],
    source: &Source<'_>,
) -> Result<Vec<IpNet>, ConfigError> {
    let net = |text: &Spanned<String>| {
        let parsed = text.get_ref().parse::<IpNet>().ok();
        parsed.or_else(|| text.get_ref().parse::<IpAddr>().ok().map(IpNet::from)).ok_or_else(|| {
            let message = format!(
                "`trusted_proxies` has `{}`, and an IP address or a network (`10.0.0.0/8`) is \
                 allowed",
                text.get_ref()
            );
            source.at(text.span(), message)
        })
    };
    found.iter().map(net).collect()
}

fn folder(
    key: &str,
    found: Option<Spanned<PathBuf>>,
    default: &str,
    source: &Source<'_>,
) -> Result<PathBuf, ConfigError> {
    match found {
        None => Ok(PathBuf::from(default)),
        Some(path) if path.get_ref().is_absolute() => Ok(path.into_inner()),
        Some(path) => {
            let found = path.get_ref().display();
            let text = format!("`{key}` is `{found}`, and an absolute path is allowed");
            Err(source.at(path.span(), text))
        }
    }
}
