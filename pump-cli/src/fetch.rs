//! Signed metadata and bundles, from a web server or a folder.
//!
//! What is signed is checked by tough (TUF 1.0): a chain of roots from the trusted one, thresholds,
//! expiry, hashes and sizes, with limits on all of them. That nothing is older than what was seen is
//! checked by [`crate::trust::floor`], so tough's own cache lives in a folder that goes with the run.

mod http;

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use anyhow::Context;
use futures_core::Stream;
use indicatif::{ProgressBar, ProgressStyle};
use pump_control::{ExitStatus, Layout};
use pump_release::{Artifact, Channel, Index, InvalidIndex, MAX_INDEX};
use tough::error::Error as Tough;
use tough::{
    FilesystemTransport, IntoVec, Repository, RepositoryLoader, TargetName, Transport,
    TransportError, TransportErrorKind, TransportStream,
};
use url::Url;

use crate::report::{Failure, Report};
use crate::source::{Address, Wish};
use crate::trust::TrustRoot;
use crate::trust::floor::Floors;

/// How long all metadata together may take. It is some kilobytes.
const METADATA_WITHIN: Duration = Duration::from_secs(120);

/// How long a bundle may take. It is some megabytes; a slower line is better served by a copy.
const BUNDLE_WITHIN: Duration = Duration::from_secs(3600);

/// Largest bundle, in bytes.
const MAX_BUNDLE: u64 = 1024 * 1024 * 1024;

/// What to do about what is signed and still wrong.
const TELL: &str = "try another mirror, or tell the publisher";

/// What a source offers, checked.
pub(crate) struct Catalogue {
    /// The releases of the channel.
    pub(crate) index: Index,
    address: Address,
    repository: Repository,
    runtime: tokio::runtime::Runtime,
}

/// Fetches and checks what a source offers.
///
/// # Errors
/// Exit 40, 41 or 42 when it may not be believed, exit 75 when it cannot be reached.
pub(crate) fn catalogue(
    layout: &Layout,
    wish: &Wish,
    trust: &TrustRoot,
) -> Result<Catalogue, Failure> {
    let Wish { address, channel } = wish;
    let mut floors = Floors::read(layout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the network runtime")?;
    let (metadata, targets) = (address.below("metadata")?, address.below("targets")?);
    let transport = Carrier::new(address)?;
    let loaded = runtime.block_on(async {
        let loader = RepositoryLoader::new(&trust.bytes, metadata, targets).transport(transport);
        tokio::time::timeout(METADATA_WITHIN, loader.load()).await
    });
    let repository = match loaded {
        Ok(Ok(repository)) => repository,
        Ok(Err(error)) => return Err(refusal(&error, address)),
        Err(_) => return Err(too_slow(address, METADATA_WITHIN)),
    };
    trust.may_speak_for(&repository.root().signed, address)?;
    floors.raise(trust, &repository)?;
    let index = runtime.block_on(index(&repository, address, *channel))?;
    Ok(Catalogue { index, address: address.clone(), repository, runtime })
}

async fn index(
    repository: &Repository,
    address: &Address,
    channel: Channel,
) -> Result<Index, Failure> {
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
    let bytes = match tokio::time::timeout(METADATA_WITHIN, read).await {
        Ok(Ok(Some(bytes))) => bytes,
        Ok(Ok(None)) => {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!("`{address}` has no channel `{channel}`"),
            )
            .hint("name another with `--channel`, or check the source in `upgrade.toml`"));
        }
        Ok(Err(error)) => return Err(refusal(&error, address)),
        Err(_) => return Err(too_slow(address, METADATA_WITHIN)),
    };
    Index::parse(&bytes, channel).map_err(|error| match error {
        InvalidIndex::Format { .. } => Failure::new(ExitStatus::PathNeeded, error.to_string())
            .hint("install a newer `pump` first, by the way it was installed"),
        error => Failure::new(ExitStatus::Signature, error.to_string()).hint(TELL),
    })
}

impl Catalogue {
    /// Fetches a bundle into a file that is gone when it is dropped. Its hash has been checked.
    ///
    /// # Errors
    /// Exit 40 when it is not what was signed, exit 75 when it does not arrive.
    pub(crate) fn download(
        &self,
        artifact: &Artifact,
        layout: &Layout,
        report: Report,
    ) -> Result<File, Failure> {
        let name = TargetName::new(artifact.name.as_str())
            .map_err(|error| refusal(&error, &self.address))?;
        // Two signed files speak of the bundle, and have to say the same.
        let listed = self.repository.targets().signed.targets.get(&name);
        let agreed = listed.is_some_and(|listed| {
            listed.length == artifact.size
                && *listed.hashes.sha256 == artifact.sha256.as_bytes()[..]
        });
        if !agreed || artifact.size > MAX_BUNDLE {
            return Err(Failure::new(
                ExitStatus::Signature,
                format!("the signed metadata contradicts itself about `{}`", artifact.name),
            )
            .hint(TELL));
        }
        let mut file = tempfile::tempfile_in(layout.upgrade_data())
            .context("could not make a file for the bundle")?;
        let bar = progress(artifact, report);
        let read = async {
            let Some(mut stream) = self.repository.read_target(&name).await? else {
                return Ok(Ok(()));
            };
            while let Some(part) = poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_next(cx)).await
            {
                let part = part?;
                if let Err(error) = file.write_all(&part) {
                    return Ok(Err(error));
                }
                bar.inc(part.len() as u64);
            }
            Ok(Ok(()))
        };
        let ended =
            self.runtime.block_on(async { tokio::time::timeout(BUNDLE_WITHIN, read).await });
        bar.finish_and_clear();
        match ended {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                return Err(Failure::new(
                    ExitStatus::Preflight,
                    format!("could not keep the bundle: {error}; nothing was changed"),
                )
                .hint(format!(
                    "make room in `{}` and run it again",
                    layout.upgrade_data().display()
                )));
            }
            Ok(Err(error)) => return Err(refusal(&error, &self.address)),
            Err(_) => return Err(too_slow(&self.address, BUNDLE_WITHIN)),
        }
        file.rewind().context("could not read the bundle again")?;
        Ok(file)
    }
}

fn progress(artifact: &Artifact, report: Report) -> ProgressBar {
    if report.json || report.quiet {
        return ProgressBar::hidden();
    }
    // Draws on standard error, and only when that is a terminal.
    let bar = ProgressBar::new(artifact.size);
    let style = "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(
        ProgressStyle::with_template(style)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    );
    bar.set_message("fetching");
    bar
}

/// Carries files from where the address says, and from nowhere else.
#[derive(Clone, Debug)]
enum Carrier {
    Folder,
    Web(http::Web),
}

impl Carrier {
    fn new(address: &Address) -> anyhow::Result<Self> {
        Ok(match address {
            Address::Folder(_) => Self::Folder,
            Address::Web(_) => Self::Web(http::Web::new()?),
        })
    }
}

#[tough::async_trait]
impl Transport for Carrier {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        match self {
            Self::Folder => FilesystemTransport.fetch(url).await,
            Self::Web(web) => web.fetch(url).await,
        }
    }
}

fn too_slow(address: &Address, limit: Duration) -> Failure {
    let error = format!("`{address}` did not send all within {} s", limit.as_secs());
    Failure::new(ExitStatus::Temporary, error).hint("try again later, or from a nearer mirror")
}

/// What a fault of the signed files means for the operator.
fn refusal(error: &Tough, address: &Address) -> Failure {
    let fail = |exit, text: String| Failure::new(exit, text);
    let untouched = "nothing was changed";
    match error {
        Tough::ExpiredMetadata { role, .. } => fail(
            ExitStatus::Expired,
            format!(
                "the {role} metadata of `{address}` has expired, so what it offers may be an old \
                 state that somebody plays back; {untouched}"
            ),
        )
        .hint(
            "check this machine's clock with `date`, then try another mirror or ask the publisher",
        ),
        Tough::OlderMetadata { .. }
        | Tough::OlderSnapshotInTimestamp { .. }
        | Tough::SnapshotRoleMissing { .. }
        | Tough::SnapshotRoleRollback { .. } => {
            fail(ExitStatus::Older, format!("`{address}`: {error}; {untouched}"))
        }
        Tough::VerifyMetadata { role, .. } => fail(
            ExitStatus::Signature,
            format!(
                "the {role} metadata of `{address}` is not signed by keys that are trusted here; \
                 {untouched}"
            ),
        )
        .hint("check that the source and the trust root are of the same publisher"),
        other => match arrival(other) {
            Arrival::Missing(url) => fail(
                ExitStatus::Temporary,
                format!("`{address}` does not have `{url}`; {untouched}"),
            )
            .hint("check the source in `upgrade.toml`, or try again later"),
            Arrival::Failed(why) => {
                fail(ExitStatus::Temporary, format!("could not fetch from `{address}`: {why}"))
                    .hint("check the network and try again")
            }
            Arrival::Wrong(why) => fail(
                ExitStatus::Signature,
                format!("what `{address}` sent is not what was signed: {why}; {untouched}"),
            )
            .hint("try again; if it stays so, try another mirror or tell the publisher"),
        },
    }
}

/// How a file came.
enum Arrival {
    Missing(String),
    Failed(String),
    Wrong(String),
}

/// tough reports a wrong hash or size as a fault of the transport whose cause it is.
fn arrival(error: &Tough) -> Arrival {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut carried = None;
    while let Some(error) = cause {
        if let Some(Tough::HashMismatch { context, .. }) = error.downcast_ref() {
            let file = context.rsplit('/').next().unwrap_or(context);
            return Arrival::Wrong(format!("`{file}` has another hash"));
        }
        if let Some(Tough::MaxSizeExceeded { max_size, .. }) = error.downcast_ref() {
            return Arrival::Wrong(format!("a file has more than its {max_size} bytes"));
        }
        if let Some(found) = error.downcast_ref::<TransportError>() {
            carried = Some(found);
        }
        cause = error.source();
    }
    match carried {
        Some(error) if error.kind() == TransportErrorKind::FileNotFound => {
            Arrival::Missing(error.url().to_owned())
        }
        Some(error) => Arrival::Failed(
            std::error::Error::source(error).map_or_else(|| error.to_string(), chain),
        ),
        None => Arrival::Wrong(error.to_string()),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A file as a reader that ends where the file ends, for what unpacks it.
pub(crate) fn reader(file: &File) -> impl Read + '_ {
    std::io::BufReader::new(file)
}
