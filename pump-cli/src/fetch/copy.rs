//! A copy of a source: the metadata that was believed and the bundles that are wanted, and no more.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use pump_control::Layout;
use pump_release::{Artifact, Channel, Digest};
use sha2::Digest as _;
use tough::{IntoVec, Transport, TransportErrorKind};

use super::carrier::Carrier;
use super::refusal;
use super::{Catalogue, MAX_ROOTS};
use crate::report::{Failure, Report};

impl Catalogue {
    /// Copies into an empty folder what a client of this channel needs, from the first root on, and these
    /// bundles.
    ///
    /// # Errors
    /// As [`Catalogue::download`]. A source that changes meanwhile is found out when the copy is read.
    pub(crate) fn copy(
        &self,
        channel: Channel,
        artifacts: &[&Artifact],
        into: &Path,
        layout: &Layout,
        report: Report,
    ) -> Result<(), Failure> {
        let address = &self.addresses[0];
        let carrier = Carrier::new(address, &self.patience)?;
        let (metadata, targets) = (into.join("metadata"), into.join("targets"));
        for folder in [&metadata, &targets] {
            fs::create_dir(folder).context("could not make a folder for the copy")?;
        }
        let from = address.below("metadata")?;
        let fetch = |name: &str| -> Result<bool, Failure> {
            let url = from.join(name).context("an odd name")?;
            let bytes = self.runtime.block_on(async {
                match carrier.fetch(url).await {
                    Ok(stream) => stream.into_vec().await,
                    Err(error) => Err(error),
                }
            });
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == TransportErrorKind::FileNotFound => return Ok(false),
                Err(error) => return Err(refusal::carried(&error, address)),
            };
            fs::write(metadata.join(name), bytes).context("could not write the copy")?;
            Ok(true)
        };
        let repository = &self.repository;
        let root = repository.root().signed.version.get();
        for version in root.saturating_sub(MAX_ROOTS).max(1)..=root {
            // Whoever takes the copy may know any of them; the first ones may be gone.
            fetch(&format!("{version}.root.json"))?;
        }
        fetch("timestamp.json")?;
        let prefix = |version: u64| match repository.root().signed.consistent_snapshot {
            true => format!("{version}."),
            false => String::new(),
        };
        fetch(&format!("{}snapshot.json", prefix(repository.snapshot().signed.version.get())))?;
        fetch(&format!("{}targets.json", prefix(repository.targets().signed.version.get())))?;

        let hash: [u8; 32] = sha2::Sha256::digest(&self.signed_index).into();
        let name = self.file_name(&Digest::from(hash).to_string(), &channel.index_name());
        fs::write(targets.join(name), &self.signed_index).context("could not write the copy")?;
        for artifact in artifacts {
            report.say(format_args!("fetching {}", artifact.name));
            let fetched = self.download(artifact, layout, report)?;
            let name = self.file_name(&artifact.sha256.to_string(), &artifact.name);
            let mut to =
                fs::File::create(targets.join(name)).context("could not write the copy")?;
            io::copy(&mut super::reader(fetched.file()), &mut to)
                .context("could not write the copy")?;
            fetched.used();
        }
        Ok(())
    }

    /// What a target is called where it lies.
    pub(super) fn file_name(&self, sha256: &str, name: &str) -> String {
        match self.repository.root().signed.consistent_snapshot {
            true => format!("{sha256}.{name}"),
            false => name.to_owned(),
        }
    }
}
