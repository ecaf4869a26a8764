//! Signed metadata and bundles, from web servers, folders and files made by `pump bundle`.
//!
//! What is signed is checked by tough (TUF 1.0): a chain of roots from the trusted one, thresholds,
//! expiry, hashes and sizes, with limits on all of them. That nothing is older than what was seen is
//! checked by [`crate::trust::floor`]; what tough keeps only saves time ([`crate::trust::cache`]).
//! Mirrors are asked in their order, and each has to prove all of it: one that lies costs time only.

mod carrier;
mod copy;
mod download;
mod http;
mod progress;
mod refusal;

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use pump_control::{ExitStatus, Layout};
use pump_release::{Artifact, Channel, Index, InvalidIndex, MAX_INDEX};
use tough::error::Error as Tough;
use tough::{ExpirationEnforcement, IntoVec, Limits, Repository, RepositoryLoader, TargetName};

use crate::report::{Failure, Report};
use crate::source::{Address, Patience, Wish};
use crate::trust::TrustRoot;
use crate::trust::cache::Cache;
use crate::trust::floor::Floors;
use crate::trust::until;

use carrier::Carrier;
pub(crate) use download::Fetched;
use refusal::{refusal, too_slow};

/// Largest bundle, in bytes.
const MAX_BUNDLE: u64 = 1024 * 1024 * 1024;

/// How many roots are followed from the trusted one: a change every month for twenty years.
const MAX_ROOTS: u64 = 256;

/// What to do about what is signed and still wrong.
const TELL: &str = "try another mirror, or tell the publisher";

/// When this was written: a clock that says less is wrong. 2026-11-01, in seconds.
const WRITTEN: i64 = 1_793_491_200;

/// How far a publisher's clock and ours may be apart.
const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(24);

/// What a source offers, checked.
pub(crate) struct Catalogue {
    /// The releases of the channel.
    pub(crate) index: Index,
    /// What was waived, as a sentence for the history.
    pub(crate) waived: Option<String>,
    /// The index as it was signed.
    signed_index: Vec<u8>,
    /// Where the metadata is from, and then the other mirrors.
    addresses: Vec<Address>,
    repository: Repository,
    runtime: tokio::runtime::Runtime,
    patience: Patience,
}

/// Fetches and checks what a source offers, from the first mirror that proves it.
///
/// # Errors
/// Exit 40, 41 or 42 when it may not be believed, exit 75 when it cannot be reached, exit 50 when the
/// clock is impossible.
pub(crate) fn catalogue(
    layout: &Layout,
    wish: &Wish,
    trust: &TrustRoot,
    report: Report,
) -> Result<Catalogue, Failure> {
    refuse_impossible_clock(Timestamp::now())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the network runtime")?;
    let addresses: Vec<Address> =
        std::iter::once(&wish.address).chain(&wish.mirrors).cloned().collect();
    let mut refused: Option<Failure> = None;
    for (at, address) in addresses.iter().enumerate() {
        match one(layout, wish, address, trust, &runtime) {
            Ok((repository, (index, signed_index), waived)) => {
                let mut addresses = addresses;
                addresses[..=at].rotate_right(1);
                let patience = wish.patience.clone();
                return Ok(Catalogue {
                    index,
                    waived,
                    signed_index,
                    addresses,
                    repository,
                    runtime,
                    patience,
                });
            }
            Err(failure) => {
                if at + 1 < addresses.len() {
                    report.warn(format_args!("{failure}; trying the next mirror"));
                }
                // That somebody forged something matters more than that somebody is away.
                let graver = refused.as_ref().is_none_or(|first| {
                    first.exit == ExitStatus::Temporary && failure.exit != ExitStatus::Temporary
                });
                if graver {
                    refused = Some(failure);
                }
            }
        }
    }
    Err(refused.expect("there is at least one address"))
}

/// The repository, the index with its bytes, and what was waived.
type Believed = (Repository, (Index, Vec<u8>), Option<String>);

/// What one mirror offers.
fn one(
    layout: &Layout,
    wish: &Wish,
    address: &Address,
    trust: &TrustRoot,
    runtime: &tokio::runtime::Runtime,
) -> Result<Believed, Failure> {
    trust.may_speak_for(&trust.root, address)?;
    let mut floors = Floors::read(layout)?;
    let cache = Cache::open(layout, trust).map_err(|error| not_kept(layout, &error))?;
    let carrier = Carrier::new(address, &wish.patience)?;
    let limit = wish.patience.metadata;
    let load = |enforced: ExpirationEnforcement| {
        let anchor = cache.root().unwrap_or_else(|| trust.bytes.clone());
        let (metadata, targets) = (address.below("metadata")?, address.below("targets")?);
        let loaded = runtime.block_on(async {
            let loader = RepositoryLoader::new(&anchor, metadata, targets)
                .transport(carrier.clone())
                .expiration_enforcement(enforced)
                .limits(Limits { max_root_updates: MAX_ROOTS, ..Limits::default() })
                .datastore(cache.folder());
            tokio::time::timeout(limit, loader.load()).await
        });
        anyhow::Ok(loaded)
    };
    let waive = wish.accept_expired.as_deref();
    let enforced = match waive {
        Some(_) => ExpirationEnforcement::Unsafe,
        None => ExpirationEnforcement::Safe,
    };
    let mut loaded = load(enforced)?;
    // Where there is a floor it decides what is older: it knows when a publisher starts counting afresh.
    if floors.knows(trust) && matches!(&loaded, Ok(Err(error)) if refusal::is_older(error)) {
        cache.empty().map_err(|error| not_kept(layout, &error.into()))?;
        loaded = load(enforced)?;
    }
    // tough takes a next root that could not be fetched for one that does not exist.
    if let Some(why) = carrier.failed_on_a_root() {
        return Err(refusal::unreachable(address, &why));
    }
    let repository = match loaded {
        Ok(Ok(repository)) => repository,
        Ok(Err(error @ Tough::ExpiredMetadata { .. })) => {
            let found = load(ExpirationEnforcement::Unsafe)?;
            let until = found.ok().and_then(Result::ok).map(|found| until(&found));
            return Err(refusal::expired(&error, address, until, floors.seen(trust)));
        }
        Ok(Err(error)) => return Err(refusal(&error, address)),
        Err(_) => return Err(too_slow(address, limit)),
    };
    trust.may_speak_for(&repository.root().signed, address)?;
    let now = Timestamp::now();
    let expired = waive.is_some() && until(&repository) < now;
    floors.raise(trust, &repository, (!expired).then_some(now))?;
    let index = runtime.block_on(index(&repository, address, wish.channel, limit))?;
    refuse_a_clock_behind(&index.0, now)?;
    cache.keep().map_err(|error| not_kept(layout, &error))?;
    let waived = waive.filter(|_| expired).map(|reason| {
        format!("metadata that expired on {:.0} was accepted: {reason}", until(&repository))
    });
    Ok((repository, index, waived))
}

/// What the disk cannot keep now it could keep less of a release.
fn not_kept(layout: &Layout, error: &anyhow::Error) -> Failure {
    Failure::new(ExitStatus::Preflight, format!("{error:#}; nothing was changed")).hint(format!(
        "`df {0}` and `ls -ld {0}` tell what is wrong there",
        layout.upgrade_data().display()
    ))
}

/// Expiry means nothing without a clock.
fn refuse_impossible_clock(now: Timestamp) -> Result<(), Failure> {
    if now.as_second() >= WRITTEN {
        return Ok(());
    }
    Err(clock(format!("the clock of this machine says {now:.0}, before this `pump` was written")))
}

fn refuse_a_clock_behind(index: &Index, now: Timestamp) -> Result<(), Failure> {
    if index.generated.duration_since(now) <= CLOCKS_APART {
        return Ok(());
    }
    Err(clock(format!(
        "the clock of this machine says {now:.0}, and what the publisher has signed was made on {:.0}",
        index.generated
    )))
}

fn clock(found: String) -> Failure {
    let error =
        format!("{found}; whether something has expired cannot be told; nothing was changed");
    Failure::new(ExitStatus::Preflight, error)
        .hint("set the clock, by `timedatectl set-ntp true` for example, and try again")
}

async fn index(
    repository: &Repository,
    address: &Address,
    channel: Channel,
    limit: Duration,
) -> Result<(Index, Vec<u8>), Failure> {
    let name = channel.index_name();
    let target = TargetName::new(name.as_str()).map_err(|error| refusal(&error, address))?;
    let listed = repository.targets().signed.targets.get(&target);
    if listed.is_some_and(|listed| listed.length > MAX_INDEX) {
        return Err(Failure::new(
            ExitStatus::Signature,
            format!("`{name}` has more than {MAX_INDEX} bytes"),
        )
        .hint(TELL));
    }
    let read = async {
        match repository.read_target(&target).await? {
            Some(stream) => stream.into_vec().await.map(Some),
            None => Ok(None),
        }
    };
    let bytes = match tokio::time::timeout(limit, read).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!("`{address}` has no channel `{channel}`"),
            )
            .hint("name another with `--channel`, or check the source in `upgrade.toml`"));
        }
        Ok(Err(error)) => return Err(refusal(&error, address)),
        Err(_) => return Err(too_slow(address, limit)),
    };
    match Index::parse(&bytes, channel) {
        Ok(index) => Ok((index, bytes)),
        Err(error @ InvalidIndex::Format { .. }) => {
            Err(Failure::new(ExitStatus::PathNeeded, error.to_string())
                .hint("install a newer `pump` first, by the way it was installed"))
        }
        Err(error) => Err(Failure::new(ExitStatus::Signature, error.to_string()).hint(TELL)),
    }
}

impl Catalogue {
    /// Until when all of it holds.
    pub(crate) fn until(&self) -> Timestamp {
        until(&self.repository)
    }

    /// Fetches a bundle, from the mirror that gave the metadata and then from the others, and goes on
    /// where an earlier run was cut. Its hash has been checked.
    ///
    /// # Errors
    /// Exit 40 when it is not what was signed, exit 75 when it does not arrive, exit 50 when there is no
    /// room for it.
    pub(crate) fn download(
        &self,
        artifact: &Artifact,
        layout: &Layout,
        report: Report,
    ) -> Result<Fetched, Failure> {
        self.agrees(artifact)?;
        let folder = layout.upgrade_data().join("parts");
        let mut fetched = Fetched::open(&folder, artifact.sha256)
            .map_err(|error| download::no_room(&folder, &error))?;
        let mut refused: Option<Failure> = None;
        for (at, address) in self.addresses.iter().enumerate() {
            let carrier = Carrier::new(address, &self.patience)?;
            let url = self.url_of(address, artifact)?;
            let bar = progress::Progress::new(artifact, report);
            let ended = self.runtime.block_on(async {
                let fetch = fetched.fetch(&carrier, &url, artifact.size, &bar);
                tokio::time::timeout(self.patience.bundle, fetch).await
            });
            bar.finish();
            let failure = match ended {
                Ok(Ok(())) => return Ok(fetched),
                Ok(Err(download::Fault::Disk(error))) => {
                    return Err(download::no_room(&folder, &error));
                }
                Ok(Err(download::Fault::Wrong(why))) => refusal::not_what_was_signed(address, &why),
                Ok(Err(download::Fault::Carried(error) | download::Fault::Cut(error))) => {
                    refusal::carried(&error, address)
                }
                Err(_) => too_slow(address, self.patience.bundle),
            };
            if at + 1 < self.addresses.len() {
                report.warn(format_args!("{failure}; trying the next mirror"));
            }
            if refused.is_none() || failure.exit != ExitStatus::Temporary {
                refused = Some(failure);
            }
        }
        Err(refused.expect("there is at least one address"))
    }

    /// Two signed files speak of the bundle, and have to say the same.
    fn agrees(&self, artifact: &Artifact) -> Result<(), Failure> {
        let name = TargetName::new(artifact.name.as_str())
            .map_err(|error| refusal(&error, &self.addresses[0]))?;
        let listed = self.repository.targets().signed.targets.get(&name);
        let agreed = listed.is_some_and(|listed| {
            listed.length == artifact.size
                && *listed.hashes.sha256 == artifact.sha256.as_bytes()[..]
        });
        if agreed && artifact.size <= MAX_BUNDLE && pump_release::safe_path(&artifact.name) {
            return Ok(());
        }
        Err(Failure::new(
            ExitStatus::Signature,
            format!("the signed metadata contradicts itself about `{}`", artifact.name),
        )
        .hint(TELL))
    }

    fn url_of(&self, address: &Address, artifact: &Artifact) -> Result<url::Url, Failure> {
        let mut url = address.below("targets")?;
        let name = self.file_name(&artifact.sha256.to_string(), &artifact.name);
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(name.split('/'));
            }
            Err(()) => return Err(anyhow::anyhow!("`{address}` can have no files").into()),
        }
        Ok(url)
    }
}

/// A file as a reader that ends where the file ends, for what unpacks it.
pub(crate) fn reader(file: &File) -> impl Read + '_ {
    std::io::BufReader::new(file)
}
