//! Bundles that were signed and are no good: a publisher may be mistaken, or robbed of a key.

use std::fs;

use pump_release::{FileList, ListedFile, ReleaseInfo, TARGET};
use pump_repository::{Bundle, Entry, sha256};
use tar::{EntryType, Header};

use crate::master::Master;
use crate::place::{Place, Wanted, version};

/// An entry of an archive that no honest publisher would pack.
struct Odd {
    path: &'static str,
    kind: EntryType,
    mode: u32,
    link: &'static str,
    bytes: Vec<u8>,
}

fn odd(path: &'static str) -> Odd {
    Odd { path, kind: EntryType::Regular, mode: 0o644, link: "", bytes: b"x".to_vec() }
}

/// A whole release with something else put before or after it.
fn archive(wanted: &Wanted, before: &[Odd], after: &[Odd]) -> Vec<u8> {
    let release = serde_json::to_vec(&wanted.info()).expect("JSON");
    let mut entries = wanted.entries();
    entries.push(Entry::file("RELEASE.json", release));
    let mut list = FileList::default();
    for entry in &entries {
        let file = ListedFile { mode: entry.mode, sha256: sha256(&entry.bytes) };
        list.insert(entry.path.clone(), file);
    }
    entries.push(Entry::file("FILES", list.to_string().into_bytes()));
    let mut archive = tar::Builder::new(Vec::new());
    for odd in before {
        put(&mut archive, odd.path, odd.kind, odd.mode, odd.link, &odd.bytes);
    }
    for entry in &entries {
        put(&mut archive, &entry.path, EntryType::Regular, entry.mode, "", &entry.bytes);
    }
    for odd in after {
        put(&mut archive, odd.path, odd.kind, odd.mode, odd.link, &odd.bytes);
    }
    archive.into_inner().expect("an archive in memory")
}

/// A release with a file that is not in its list.
pub(crate) fn with_unlisted(wanted: &Wanted) -> Bundle {
    let archive = archive(wanted, &[], &[odd("unlisted")]);
    Bundle::compress(&archive, 1 << 20).expect("compressed")
}

fn put(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    link: &str,
    bytes: &[u8],
) {
    let mut header = Header::new_ustar();
    // By hand: the crate refuses to write what a hostile publisher would.
    let ustar = header.as_ustar_mut().expect("it was made as one");
    ustar.name[..path.len()].copy_from_slice(path.as_bytes());
    ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    archive.append(&header, bytes).expect("an archive in memory");
}

#[track_caller]
fn refused(bundle: &Bundle, says: &str) {
    let place = Place::new();
    let wanted = version("1.1.0");
    place.offer_bundle(&wanted, bundle, TARGET);
    let before = place.program();
    place.pump(&["upgrade"]).ended(40, says);
    place.is_untouched(&before);
    let outside = place.folder().join("root/opt/escaped");
    assert!(!outside.exists() && !std::path::Path::new("/tmp/pump-escaped").exists());
    fs::remove_dir_all(place.folder()).expect("nothing in it is protected from us");
}

#[test]
fn p6_whatever_would_leave_the_release_or_is_no_plain_file_is_refused() {
    let wanted = version("1.1.0");
    let link = |path, kind, link| Odd { kind, link, bytes: Vec::new(), ..odd(path) };
    for (odd, says) in [
        (odd("/tmp/pump-escaped"), "leads out of the release"),
        (odd("../../../escaped"), "leads out of the release"),
        (odd("bin/../../../../escaped"), "leads out of the release"),
        (odd("./bin/other"), "leads out of the release"),
        (odd("bin/new\nline"), "odd characters"),
        (link("bin/link", EntryType::Symlink, "/etc/passwd"), "not a regular file"),
        (link("bin/hard", EntryType::Link, "bin/pumpd"), "not a regular file"),
        (link("bin", EntryType::Symlink, "/tmp"), "not a regular file"),
        (link("dev", EntryType::Char, ""), "not a regular file"),
        (link("disk", EntryType::Block, ""), "not a regular file"),
        (link("sparse", EntryType::GNUSparse, ""), "not a regular file"),
        (link("pipe", EntryType::Fifo, ""), "not a regular file"),
        (link("folder", EntryType::Directory, ""), "not a regular file"),
        (Odd { kind: EntryType::XHeader, ..odd("pax") }, "not a regular file"),
        (Odd { kind: EntryType::GNULongName, ..odd("long") }, "not a regular file"),
        (Odd { mode: 0o4755, ..odd("bin/setuid") }, "0755 is the most"),
        (Odd { mode: 0o666, ..odd("open") }, "0755 is the most"),
        (odd("bin/pumpd"), "stands twice"),
        (odd("unlisted"), "not listed in `FILES`"),
        (odd("bin/pumpd/in"), "in the place of a folder"),
        (odd("share/man"), "in the place of a folder"),
    ] {
        let odd = [odd];
        for (before, after) in [(&[][..], &odd[..]), (&odd[..], &[][..])] {
            let bytes = archive(&wanted, before, after);
            let bundle = Bundle::compress(&bytes, 1 << 20).expect("compressed");
            refused(&bundle, says);
        }
    }
}

#[test]
fn p6_a_bundle_that_unpacks_to_more_than_was_signed_is_refused() {
    let wanted = version("1.1.0");
    let bomb = Odd { bytes: vec![0; 64 << 20], ..odd("share/zeros") };
    let bytes = archive(&wanted, &[bomb], &[]);
    refused(&Bundle::compress(&bytes, 1 << 20).expect("compressed"), "unpacks to more than");
}

/// What is decompressed looks back so far, at most, and has to be kept in memory for it.
#[test]
fn p6_a_bundle_that_would_take_all_memory_is_refused() {
    // A frame of zstd (RFC 8878, 3.1.1) with a window of 2 GiB and one empty block.
    let bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    let bundle = Bundle { sha256: sha256(&bytes), bytes, files: None, installed_size: 1 << 20 };
    refused(&bundle, "the bundle is not one");
}

#[test]
fn p6_what_is_no_bundle_at_all_is_refused() {
    let wanted = version("1.1.0");
    let bundle = |bytes: Vec<u8>| Bundle {
        sha256: sha256(&bytes),
        bytes,
        files: None,
        installed_size: 1 << 20,
    };
    refused(&bundle(b"not zstd".to_vec()), "the bundle is not one");
    refused(&bundle(Vec::new()), "the bundle is not one");
    refused(&Bundle::compress(b"not tar", 1 << 20).expect("compressed"), "the bundle is not one");
    let whole = archive(&wanted, &[], &[]);
    for length in [512, 1024, whole.len() / 2] {
        let cut = Bundle::compress(&whole[..length], 1 << 20).expect("compressed");
        refused(&cut, "the bundle is not one");
    }
}

#[test]
fn p6_a_bundle_of_another_release_is_refused() {
    refused(&version("1.2.0").bundle(), "and the signed metadata says 1.1.0");
    let wanted = version("1.1.0");
    let info = ReleaseInfo { magic: 9, ..wanted.info() };
    let bundle = Bundle::pack(&info, wanted.entries()).expect("packed");
    refused(&bundle, "they differ in what it needs");
}

#[test]
fn b09_a_candidate_that_cannot_say_what_it_is_is_not_rolled_onto() {
    for (instead, code, says) in [
        ("exit 3", 50, "ended with exit status: 3"),
        ("kill -SEGV $$", 50, "ended with signal"),
        ("echo nonsense", 50, "printed something else"),
        (
            r#"echo '{"version":"1.1.0","build":"0000000000000000000000000000000000000000000000000000000000000000","magic":1,"unit":1,"schema":{"version":3,"compat":3}}'"#,
            40,
            "the signed metadata says",
        ),
    ] {
        let place = Place::new();
        let master = Master::of(&place, &version("1.0.0"));
        place.offer(&Wanted { instead: Some(instead), ..version("1.1.0") });
        place.pump(&["upgrade"]).ended(code, says);
        assert_eq!(place.link("current"), Some(version("1.0.0").info().name()));
        assert!(master.asked().is_empty());
    }
}

#[test]
fn b09_a_program_of_another_machine_is_refused_before_anything_rolls() {
    // The head of an ELF file for RISC-V: e_machine 243, nothing behind it.
    let mut program = vec![0; 64];
    program[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    (program[16], program[18], program[20]) = (2, 243, 1);
    let info = ReleaseInfo { build: sha256(&program), ..version("1.1.0").info() };
    let bundle = Bundle::pack(&info, vec![Entry::program("bin/pumpd", program)]).expect("packed");
    let place = Place::new();
    place.offer_info(&info, &bundle);
    place.pump(&["upgrade"]).ended(40, "no program for this machine");
    assert_eq!(place.link("current"), Some(version("1.0.0").info().name()));
}
