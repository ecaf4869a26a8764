//! What this build says of itself.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use pump_control::constants::{ACCEPTS, MAGIC, UNIT};
use pump_release::{ReleaseInfo, Schema};
use semver::Version;
use sha2::{Digest, Sha256};

/// The version of this build: what the release was named, or the workspace's.
pub(crate) const VERSION: &str = match option_env!("PUMP_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The numbers that decide what this build may run beside. The hash of the file, which takes a while to
/// compute, is left out.
pub(crate) fn ours() -> &'static ReleaseInfo {
    static OURS: OnceLock<ReleaseInfo> = OnceLock::new();
    OURS.get_or_init(|| describe([0; 32]))
}

/// `pumpd release-info`: all of it, with the SHA-256 of the file that runs.
pub(crate) fn of_file() -> io::Result<ReleaseInfo> {
    let mut file = File::open("/proc/self/exe")?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(describe(hash.finalize().into())),
            length => hash.update(&buffer[..length]),
        }
    }
}

fn describe(build: [u8; 32]) -> ReleaseInfo {
    let schema = pump_store::SCHEMA;
    crate::faults::info(ReleaseInfo {
        version: Version::parse(VERSION).expect("the version was given to the build as semver"),
        build: build.into(),
        magic: magic(),
        accepts: ACCEPTS.to_vec(),
        unit: UNIT,
        schema: Schema { version: schema.version, compat: schema.compat },
    })
}

/// The magic, or the one that a build for tests was given.
fn magic() -> u32 {
    match option_env!("PUMP_MAGIC") {
        Some(magic) => magic.parse().expect("the magic was given to the build as a number"),
        None => MAGIC,
    }
}
