//! A source in one file, carried to a machine without a network.

use std::fs;
use std::path::{Path, PathBuf};

use crate::master::Master;
use crate::place::{Place, Wanted, version};
use crate::roots::{DAY, at};

/// Packs what the source offers, on a machine that has nothing else, and takes the source away.
fn carried(place: &Place, words: &[&str]) -> PathBuf {
    let file = place.folder().join("carried.tar");
    let elsewhere = place.folder().join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("our own folder");
    let root = place.source.trust_root();
    let (source, root) = (text(place.source.dir()), text(&root));
    let to = text(&file);
    let mut command = std::process::Command::new(crate::place::program());
    command.args(["bundle", "-o", &to, "--source", &source, "--trust-root", &root]);
    let ran = command.args(words).arg("--root").arg(&elsewhere).output().expect("pump can be run");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let left = fs::read_dir(&elsewhere).expect("our own folder").count();
    assert_eq!(left, 0, "a machine that upgrades nothing remembers nothing");
    file
}

fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

fn without_source(place: &Place) {
    fs::rename(place.source.dir(), place.folder().join("far-away")).expect("our own folder");
}

#[test]
fn a_machine_without_a_network_is_upgraded_by_one_file() {
    let place = Place::new();
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    place.offer(&new);
    let file = carried(&place, &[]);
    without_source(&place);
    let _master = Master::of(&place, &old);
    let file = text(&file);
    place.pump(&["upgrade", "--bundle", &file, "--check"]).ended(10, "1.1.0");
    place.pump(&["upgrade", "--bundle", &file]).ended(0, "");
    assert_eq!(place.link("current"), Some(new.info().name()));
    place.pump(&["upgrade", "--bundle", &file]).ended(0, "nothing to do");
    let left = fs::read_dir(place.path("var/lib/pump-upgrade")).expect("our own folder");
    let left: Vec<_> = left.map(|it| it.expect("our own folder").file_name()).collect();
    assert!(left.iter().all(|it| !it.to_string_lossy().starts_with(".bundle")), "{left:?}");
}

#[test]
fn every_release_on_the_way_is_in_the_file() {
    let place = Place::new();
    // 2.0.0 speaks another magic, and 1.5.0 both.
    let bridge = Wanted { magic: 2, accepts: &[1], ..version("1.5.0") };
    let new = Wanted { magic: 2, ..version("2.0.0") };
    place.offer(&bridge);
    place.offer(&new);
    let file = text(&carried(&place, &["--from", "1.0.0"]));
    without_source(&place);
    let master = Master::of(&place, &version("1.0.0"));
    master.is_replaced();
    place.pump(&["upgrade", "--bundle", &file, "--zero-downtime"]).ended(0, "");
    assert_eq!(place.link("current"), Some(new.info().name()));
    assert_eq!(place.link("previous"), Some(bridge.info().name()));
}

#[test]
fn p6_a_file_is_believed_no_more_than_a_source() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let old = text(&carried(&place, &[]));
    let kept = place.folder().join("old.tar");
    fs::rename(&old, &kept).expect("our own file");
    place.offer(&version("1.2.0"));
    let file = text(&carried(&place, &[]));
    place.pump(&["upgrade", "--check"]).ended(10, "1.2.0");
    let before = place.program();
    // One from before.
    place.pump(&["upgrade", "--bundle", &text(&kept)]).ended(42, "plays back an old state");
    // One of somebody else.
    let stranger = Place::new();
    stranger.offer(&version("1.3.0"));
    let theirs = carried(&stranger, &[]);
    let ran = place.pump(&["upgrade", "--bundle", &text(&theirs)]);
    ran.ended(40, "not signed by keys that are trusted here");
    // One that was changed: each part of it in turn.
    let honest = fs::read(&file).expect("our own file");
    let bundle = version("1.2.0").bundle().bytes;
    let at = honest.windows(bundle.len()).position(|it| it == bundle).expect("it is in it");
    for at in [at, at + bundle.len() - 1] {
        let mut flipped = honest.clone();
        flipped[at] ^= 1;
        fs::write(&file, flipped).expect("our own file");
        place.pump(&["upgrade", "--bundle", &file]).ended(40, "has another hash");
    }
    for length in [0, 100, 512, honest.len() / 2] {
        fs::write(&file, &honest[..length]).expect("our own file");
        place.pump(&["upgrade", "--bundle", &file]).ended(40, "");
    }
    place.is_untouched(&before);
    place.pump(&["upgrade", "--bundle", "/nowhere.tar"]).ended(2, "could not open");
    fs::write(&file, honest).expect("our own file");
    place.pump(&["upgrade", "--bundle", &file]).ended(0, "");
}

#[test]
fn an_expired_file_is_taken_for_a_reason_that_is_recorded() {
    let place = Place::new();
    let new = version("1.1.0");
    place.offer(&new);
    let file = text(&carried(&place, &[]));
    without_source(&place);
    let before = place.program();
    // The time stamp holds for seven days.
    let late = |words: &[&str]| at(&place, 8 * DAY, words);
    late(&["upgrade", "--bundle", &file]).ended(41, "has expired");
    place.is_untouched(&before);
    let words = ["upgrade", "--bundle", &file, "--accept-expired"];
    late(&[&words[..], &[" "]].concat()).ended(2, "was given no reason");
    place.pump(&["upgrade", "--accept-expired", "why not"]).ended(2, "--bundle");
    late(&[&words[..], &["the ship is at sea"]].concat()).ended(0, "the ship is at sea");
    assert_eq!(place.link("current"), Some(new.info().name()));
    place.pump(&["history"]).ended(0, "was accepted: the ship is at sea");
    late(&["upgrade", "--bundle", &file]).ended(41, "has expired");
}

#[test]
fn a_version_that_is_not_offered_is_told() {
    let place = Place::new();
    let file = text(&place.folder().join("file.tar"));
    place.pump(&["bundle", "-o", &file, "--to", "9.9.9"]).ended(2, "has no such release");
    place.pump(&["bundle", "-o", &file, "--from", "9.9.9"]).ended(2, "does not offer 9.9.9");
    place.pump(&["bundle", "-o", &file]).ended(0, "until");
    assert!(place.pump(&["bundle", "-o", &file, "--json"]).json()["bytes"].is_u64());
}
