//! Whoever types the command, with whatever umask, locale and home: the same installation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::{Place, assert_exit};

/// An environment as a shell sets it up.
const ODD: [(&str, &str); 5] = [
    ("the usual one", "umask 0022"),
    ("nobody else may anything", "umask 0077"),
    ("everybody may everything", "umask 0000"),
    ("without a home and a locale", "unset HOME LANG LC_ALL USER; umask 0137"),
    (
        "a locale that is not there",
        "HOME=/nowhere; LANG=xx_YY.KOI8-X; LC_ALL=tlh; TZ=Nowhere; export HOME LANG LC_ALL TZ",
    ),
];

fn pump_in(place: &Place, environment: &str, words: &[&str]) -> Output {
    Command::new("/bin/sh")
        .args(["-c", &format!("{environment}; exec \"$@\"; exit 99"), "sh"])
        .arg(place.release.join("bin/pump"))
        .args(words)
        .arg("--root")
        .arg(place.root())
        .output()
        .expect("a shell can be run")
}

/// What was made, with its modes.
fn modes(place: &Place) -> BTreeMap<PathBuf, u32> {
    let inside = |path: PathBuf| path.strip_prefix(place.root()).expect("it is inside").to_owned();
    // The database is made by the daemon, here a script, in a folder that is its own.
    let made = place.listing().into_iter().filter(|(path, ..)| !path.ends_with("pump.sqlite3"));
    made.map(|(path, mode, ..)| (inside(path), mode)).collect()
}

#[test]
fn b17_neither_umask_nor_locale_nor_home_changes_what_install_makes() {
    let mut usual = None;
    for (name, environment) in ODD {
        let place = Place::new();
        let install = ["install", "--domain", "social.example", "--yes"];
        assert_exit(&pump_in(&place, environment, &install), 0);
        let made = modes(&place);
        let usual = usual.get_or_insert_with(|| made.clone());
        assert_eq!(*usual, made, "{name}");
        // The second run finds nothing to do, in whatever environment.
        let before = place.listing();
        let again = pump_in(&place, ODD[1].1, &["install", "--json"]);
        assert_exit(&again, 0);
        assert_eq!(before, place.listing(), "{name}: {again:?}");
        let doctor = pump_in(&place, environment, &["doctor", "--json"]);
        let said = String::from_utf8(doctor.stdout).expect("JSON is text");
        let modes = said.lines().find(|line| line.contains(r#""check":"modes""#));
        assert!(modes.is_some_and(|line| line.contains(r#""level":"fine""#)), "{name}: {said}");
    }
}
