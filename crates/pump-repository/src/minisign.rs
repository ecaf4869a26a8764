//! Signatures that a person can check with Debian's `minisign`, for the first install.
//!
//! They say who made a file and what it is called; they do not expire and do not say that there is nothing newer.
//! From the first install on the metadata of the source does (TUF). The format is that of minisign 0.11, "prehashed":
//! Ed25519 over BLAKE2b-512 of the file, and again over that signature with the trusted comment
//! (<https://jedisct1.github.io/minisign/>, "Signature format").

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};

use crate::keys::write_private;
use crate::{Keys, sha256};

/// What a public key begins with: the algorithm.
const OF_A_KEY: &[u8; 2] = b"Ed";

/// What a signature of a hash begins with.
const OF_A_HASH: &[u8; 2] = b"ED";

/// A key that signs files.
pub struct Minisign {
    pair: Ed25519KeyPair,
    id: [u8; 8],
}

impl Keys {
    /// The key for files, `minisign.key`, made when it is missing; what others check with is in
    /// `minisign.pub` beside it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn minisign(&self) -> anyhow::Result<Minisign> {
        let path: PathBuf = self.dir().join("minisign.key");
        if !path.exists() {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
            write_private(&path, made.as_ref())?;
        }
        let bytes =
            fs::read(&path).with_context(|| format!("could not read `{}`", path.display()))?;
        let pair = Ed25519KeyPair::from_pkcs8(&bytes)
            .map_err(|error| anyhow::anyhow!("`{}` is no key: {error}", path.display()))?;
        let hash = sha256(pair.public_key().as_ref());
        let id = hash.as_bytes()[..8].try_into().context("a hash has 32 bytes")?;
        let key = Minisign { pair, id };
        let public =
            format!("untrusted comment: the key of this source of releases\n{}\n", key.public());
        let path = self.dir().join("minisign.pub");
        fs::write(&path, public)
            .with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(key)
    }
}

impl Minisign {
    /// The public key, as `minisign -P` takes it.
    pub fn public(&self) -> String {
        let bytes = [&OF_A_KEY[..], &self.id, self.pair.public_key().as_ref()].concat();
        STANDARD.encode(bytes)
    }

    /// The text of a signature. The trusted comment names the file, so that none passes for another.
    pub fn sign(&self, bytes: &[u8], name: &str) -> String {
        let hash = Blake2b512::digest(bytes);
        let signature = self.pair.sign(&hash);
        let comment = format!("file:{name} sha256:{}", sha256(bytes));
        let global = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let signed = [&OF_A_HASH[..], &self.id, signature.as_ref()].concat();
        format!(
            "untrusted comment: check with `minisign -Vm FILE -P {}`\n{}\ntrusted comment: {comment}\n{}\n",
            self.public(),
            STANDARD.encode(signed),
            STANDARD.encode(global.as_ref())
        )
    }

    /// Writes the signature of a file beside it, as `FILE.minisig`. `name` is what the file is offered as.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sign_file(&self, path: &Path, name: &str) -> anyhow::Result<()> {
        let bytes =
            fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".minisig");
        fs::write(&beside, self.sign(&bytes, name))
            .with_context(|| format!("could not write `{}`", beside.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use jiff::Timestamp;

    use super::*;

    #[test]
    fn debians_minisign_agrees() {
        let tool = Path::new("/usr/bin/minisign");
        if !tool.exists() {
            // `cargo xtask test` installs it.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::make(&folder.path().join("keys"), Timestamp::MAX).unwrap();
        let (key, file) = (keys.minisign().unwrap(), folder.path().join("file"));
        fs::write(&file, "words").unwrap();
        key.sign_file(&file, "what-it-is-called").unwrap();
        let check = || {
            let mut command = Command::new(tool);
            command.args(["-V", "-Q", "-P", &key.public(), "-m"]).arg(&file);
            command.output().unwrap()
        };
        let ran = check();
        assert!(ran.status.success(), "{ran:?}");
        assert!(
            String::from_utf8_lossy(&ran.stdout).contains("file:what-it-is-called "),
            "{ran:?}"
        );
        fs::write(&file, "other words").unwrap();
        assert!(!check().status.success());
        fs::write(&file, "words").unwrap();
        let signature = folder.path().join("file.minisig");
        let text = fs::read_to_string(&signature).unwrap();
        fs::write(&signature, text.replace("what-it-is", "what-it-was")).unwrap();
        assert!(!check().status.success(), "the trusted comment is signed, too");
        assert_eq!(keys.minisign().unwrap().public(), key.public(), "it is made once");
    }
}
