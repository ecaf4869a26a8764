//! `pump verify`: what has become of an installed release.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use pump_release::FileList;

use crate::place::{Place, version};

/// A place with 1.1.0 fetched and unpacked by the command itself.
fn place() -> (Place, PathBuf) {
    let place = Place::new();
    let new = version("1.1.0");
    place.offer(&new);
    place.pump(&["upgrade"]).ended(0, "");
    let folder = place.path("opt/pump/releases").join(new.info().name());
    (place, folder)
}

#[test]
fn p6_what_was_installed_is_found_as_it_was_signed() {
    let (place, _) = place();
    let ran = place.pump(&["verify"]);
    ran.ended(0, "files are as they were packed");
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    place.pump(&["verify", "1.1.0", "--signed"]).ended(0, "files are as they were packed");
    let told = place.pump(&["verify", "1.1.0", "--signed", "--json"]);
    let told = told.ended(0, "").json();
    assert_eq!((&told["signed"], &told["findings"]), (&true.into(), &serde_json::json!([])));
    place.pump(&["verify", "9.9.9"]).ended(2, "no release `9.9.9` is installed");
}

#[test]
fn p6_every_change_is_found_and_told() {
    type Change = fn(&std::path::Path);
    let mode = |path: PathBuf, bits| {
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("our own file");
    };
    let changes: [(&str, Change); 9] = [
        ("`LICENSE` has another content", |it| fs::write(it.join("LICENSE"), "x").expect("ours")),
        ("`LICENSE` is missing", |it| fs::remove_file(it.join("LICENSE")).expect("ours")),
        ("`bin/more` is not in the list", |it| fs::write(it.join("bin/more"), "x").expect("ours")),
        ("`more` is not in the list", |it| fs::create_dir(it.join("more")).expect("ours")),
        ("`link` is not in the list", |it| symlink("/", it.join("link")).expect("ours")),
        ("`LICENSE` is no regular file", |it| {
            fs::remove_file(it.join("LICENSE")).expect("ours");
            symlink("/dev/null", it.join("LICENSE")).expect("ours");
        }),
        ("`share` is no folder", |it| {
            fs::rename(it.join("share"), it.join("../elsewhere")).expect("ours");
            symlink("../elsewhere", it.join("share")).expect("ours");
        }),
        ("`FILES` ", |it| fs::write(it.join("FILES"), "x").expect("ours")),
        ("`.complete` is no regular file", |it| {
            fs::remove_file(it.join(".complete")).expect("ours");
            symlink("FILES", it.join(".complete")).expect("ours");
        }),
    ];
    for (says, change) in changes {
        let (place, folder) = place();
        change(&folder);
        let ran = place.pump(&["verify", "1.1.0"]);
        ran.ended(40, says).ended(40, "is not what was installed");
    }
    for (path, bits, says) in [
        ("bin/pumpd", 0o4755, "`bin/pumpd` has mode 4755 and not 0755"),
        ("LICENSE", 0o666, "`LICENSE` has mode 0666 and not 0644"),
        ("bin", 0o777, "`bin` has mode 0777 and not 0755"),
        ("", 0o775, "`.` has mode 0775 and not 0755"),
    ] {
        let (place, folder) = place();
        mode(folder.join(path), bits);
        place.pump(&["verify"]).ended(40, says);
        let told = place.pump(&["verify", "1.1.0", "--json"]).lines();
        assert_eq!(told[0]["findings"].as_array().map(Vec::len), Some(1), "{told:?}");
        assert_eq!(told[1]["exit"], 40, "{told:?}");
    }
    if nix::unistd::geteuid().is_root() {
        let (place, folder) = place();
        std::os::unix::fs::chown(folder.join("LICENSE"), Some(65534), None).expect("root may");
        place.pump(&["verify"]).ended(40, "`LICENSE` belongs to uid 65534 and not 0");
    }
}

#[test]
fn p6_who_changes_the_list_too_is_found_by_what_was_signed() {
    let (place, folder) = place();
    let evil = b"#!/bin/sh\n";
    fs::write(folder.join("LICENSE"), evil).expect("our own file");
    let text = fs::read_to_string(folder.join("FILES")).expect("our own file");
    let mut list = FileList::parse(&text).expect("a list");
    let mut entry = *list.get("LICENSE").expect("it is listed");
    entry.sha256 = pump_repository::sha256(evil);
    list.insert("LICENSE", entry);
    fs::write(folder.join("FILES"), list.to_string()).expect("our own file");
    place.pump(&["verify", "1.1.0"]).ended(0, "files are as they were packed");
    let ran = place.pump(&["verify", "1.1.0", "--signed"]);
    ran.ended(40, "`FILES` is not the list that was signed");
}
