//! The publisher's side of releases: bundles, and the signed files that offer them.
//!
//! A source is plain files that any web server or folder can carry:
//!
//! ```text
//! metadata/timestamp.json, N.snapshot.json, N.targets.json, N.root.json     signed (TUF)
//! targets/SHA256.index-stable.json, SHA256.index-beta.json                  what a channel offers
//! targets/SHA256.pump-VERSION-TARGET.tar.zst                                bundles
//! targets/*.minisig                   for the first install, by hand or by install.sh
//! stable.sha256, beta.sha256          hash and path of the newest bundle, unsigned, for install.sh
//! ```
//!
//! `cargo xtask dist` makes them from a build, and the tests of `pump` from whatever a hostile source
//! could offer. Nothing here is linked into `pump` or `pumpd`.

mod bundle;
mod forge;
mod keys;
mod minisign;
mod source;

pub use bundle::{Bundle, Entry};
pub use forge::Forgery;
pub use keys::{Keys, Quorum};
pub use minisign::Minisign;
pub use source::{Expiry, Offer, Source};

use pump_release::Digest;
use sha2::Digest as _;

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    hash.into()
}
