//! A `pump` that was copied by hand replaces itself, by what the signed index says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use pump_release::TARGET;
use pump_repository::{Bundle, Entry};
use pump_test::fake::copy_executable;

use crate::place::{Place, Ran, Wanted, program, version};

/// A folder with a copy of `pump`, as somebody has who makes bundles on it.
fn copied(place: &Place) -> PathBuf {
    let folder = place.folder().join("by-hand/bin");
    fs::create_dir_all(&folder).expect("our own folder");
    let copy = folder.join("pump");
    copy_executable(&program(), &copy).expect("our own folder");
    copy
}

fn offer(place: &Place, wanted: &Wanted, says: &str) -> Bundle {
    let mut entries = wanted.entries();
    entries.push(Entry::program("bin/pump", format!("#!/bin/sh\necho '{says}'\n").into_bytes()));
    let bundle = Bundle::pack(&wanted.info(), entries).expect("an honest bundle can be packed");
    place.offer_bundle(wanted, &bundle, TARGET);
    bundle
}

fn run(place: &Place, copy: &PathBuf, words: &[&str]) -> Ran {
    let mut command = Command::new(copy);
    command.args(["upgrade", "--self"]).args(words).arg("--root").arg(place.root());
    Ran::of(&command.output().expect("it can be run"))
}

#[test]
fn p6_a_copy_becomes_the_newest_release_s_and_nothing_else_is_touched() {
    let place = Place::new();
    let copy = copied(&place);
    offer(&place, &version("9.0.0"), "pump 9.0.0");
    let (before, installed) = (fs::read(&copy).expect("ours"), place.program());
    run(&place, &copy, &["--check"]).ended(10, "9.0.0 is available");
    run(&place, &copy, &["--dry-run"]).ended(0, "9.0.0 is available");
    assert!(fs::read(&copy).expect("ours") == before, "it was only looked");
    run(&place, &copy, &[]).ended(0, "is 9.0.0 now");
    assert_eq!(fs::read(&copy).expect("ours"), b"#!/bin/sh\necho 'pump 9.0.0'\n");
    let mode = fs::metadata(&copy).expect("ours").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let beside: Vec<_> = fs::read_dir(copy.parent().expect("it has one")).expect("ours").collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    place.is_untouched(&installed);
}

#[test]
fn p6_a_copy_stays_as_it_is_when_what_is_offered_is_forged_broken_or_older() {
    let place = Place::new();
    let copy = copied(&place);
    let before = fs::read(&copy).expect("ours");
    let nine = version("9.0.0");
    let bundle = offer(&place, &nine, "pump 9.0.0");
    let file = place.source.file_of(&bundle.sha256, &format!("pump-9.0.0-{TARGET}.tar.zst"));
    let honest = fs::read(&file).expect("it is offered");
    let mut forged = honest.clone();
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    fs::write(&file, &forged).expect("ours");
    run(&place, &copy, &[]).ended(40, "");
    fs::write(&file, &honest).expect("ours");
    // It has the right hash and does not run here, or is another one.
    offer(&place, &version("9.1.0"), "pump 9.0.0");
    run(&place, &copy, &[]).ended(50, "does not run here");
    run(&place, &copy, &["--to", "7.0.0"]).ended(2, "no such release");
    assert!(fs::read(&copy).expect("ours") == before, "it was replaced");
}

#[test]
fn a_program_that_belongs_to_a_release_is_left_to_it() {
    let place = Place::new();
    let copy = copied(&place);
    offer(&place, &version("9.0.0"), "pump 9.0.0");
    let release = copy.ancestors().nth(2).expect("two above");
    fs::write(release.join("RELEASE.json"), "{}").expect("ours");
    run(&place, &copy, &[]).ended(50, "run `pump upgrade`");
}
