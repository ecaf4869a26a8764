//! A number that stays with a machine and says nothing about it: which wave of a rollout it is in.
//!
//! machine-id(5) asks that the id itself is told to nobody, and that programs derive one of their own from
//! it; `sd_id128_get_machine_app_specific(3)` says how: an HMAC-SHA256 of the application's id, keyed with
//! the machine's. The server learns neither. Each version deals machines anew.

use std::fs;
use std::path::Path;

use pump_control::Layout;
use pump_release::BUCKETS;
use semver::Version;
use sha2::{Digest as _, Sha256};

/// Ours. Made once by chance, and never to be changed.
const APPLICATION: [u8; 16] = 0x9d41_6f0c_7e2b_4a58_b1c3_5e90_27d8_f64a_u128.to_be_bytes();

/// What the hash of a bucket begins with, so that it is of no other use.
const PURPOSE: &[u8] = b"pump-rollout-v1";

/// The block of SHA-256, in bytes (RFC 2104).
const BLOCK: usize = 64;

/// The bucket that this machine is in for a version, below [`BUCKETS`]. None where it has no id: it is in
/// the last wave then.
pub(crate) fn bucket(layout: &Layout, version: &Version) -> Option<u32> {
    let own = layout.under("/etc/machine-id");
    let id = read(&own).or_else(|| read(Path::new("/etc/machine-id")))?;
    Some(deal(&application_specific(id, APPLICATION), version))
}

/// An id of machine-id(5): 32 hex digits.
fn read(path: &Path) -> Option<[u8; 16]> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    let whole = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = whole.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    Some(id.to_be_bytes())
}

fn application_specific(machine: [u8; 16], application: [u8; 16]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&hmac(&machine, &application)[..16]);
    // Version 4 and the variant of RFC 4122, as sd-id128 sets them.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

fn deal(machine: &[u8; 16], version: &Version) -> u32 {
    let hash = Sha256::new()
        .chain_update(PURPOSE)
        .chain_update(machine)
        .chain_update(version.to_string())
        .finalize();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % BUCKETS
}

/// HMAC-SHA256 (RFC 2104) with a key that is not longer than a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1 and 2.
    #[test]
    fn the_hmac_is_that_of_the_rfc() {
        let hex = |bytes: [u8; 32]| bytes.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(
            hex(hmac(&[0x0b; 20], b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(
            hex(hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    /// `systemd-id128 machine-id --app-specific=9d416f0c7e2b4a58b1c35e9027d8f64a` prints the same.
    #[test]
    fn the_id_is_the_one_that_systemd_derives() {
        let print = std::process::Command::new("systemd-id128")
            .args(["machine-id", "--app-specific=9d416f0c7e2b4a58b1c35e9027d8f64a"])
            .output();
        // A machine without systemd, or without an id, has nothing to compare with.
        let Ok(output) = print else { return };
        let (true, Some(id)) = (output.status.success(), read(Path::new("/etc/machine-id"))) else {
            return;
        };
        let ours = application_specific(id, APPLICATION).map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), ours);
    }

    #[test]
    fn machines_are_dealt_evenly_and_anew_for_each_version() {
        let (one, two) = (Version::new(1, 2, 0), Version::new(1, 3, 0));
        let machines: Vec<[u8; 16]> = (0..20_000u128).map(u128::to_be_bytes).collect();
        let first = machines.iter().filter(|id| deal(id, &one) < BUCKETS / 10).count();
        // Ten percent of 20 000, give or take five standard deviations.
        assert!((1788..=2212).contains(&first), "{first}");
        let both = machines
            .iter()
            .filter(|id| deal(id, &one) < BUCKETS / 10 && deal(id, &two) < BUCKETS / 10)
            .count();
        assert!((130..=270).contains(&both), "{both}");
    }

    #[test]
    fn an_id_that_is_none_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("machine-id");
        for text in ["", "uninitialized\n", "0123", &"g".repeat(32)] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path), None, "{text}");
        }
        fs::write(&path, format!("{}\n", "0".repeat(31) + "7")).unwrap();
        assert_eq!(read(&path), Some(7u128.to_be_bytes()));
    }
}
