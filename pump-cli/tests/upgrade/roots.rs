//! Keys that change over the years, clocks that are wrong, and what is kept of both.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use pump_repository::{Expiry, Keys, Quorum};
use tough::schema::RoleType;

use crate::place::{Place, Ran, version};

/// Every generation has new root keys, and every second one new keys for the rest.
fn next_generation(place: &Place, number: usize) {
    let change = |keys: &Keys, root: &mut _| {
        keys.appoint(root, RoleType::Root, &format!("root-of-{number}"), Quorum::ROOT)?;
        if number.is_multiple_of(2) {
            let name = format!("targets-of-{number}");
            keys.appoint(root, RoleType::Targets, &name, Quorum::TARGETS)?;
        }
        Ok(())
    };
    place.keys().succeed(change).expect("a root can be signed");
    place.source.publish_root().expect("our own folder");
}

#[test]
fn b07_a_client_that_knows_the_first_root_follows_seven_generations() {
    let place = Place::signed_by(Quorum::ROOT, Quorum::TARGETS);
    let first = fs::read(place.path("etc/pump/trust-root.json")).expect("our own file");
    for number in 2..=7 {
        next_generation(&place, number);
    }
    place.source.forge(|_| {}).expect("anything can be signed");
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "");
    assert_eq!(place.link("current"), Some(version("1.1.0").info().name()));
    let now = fs::read(place.path("etc/pump/trust-root.json")).expect("our own file");
    assert_eq!(first, now, "the administrator's root stays as it is");
    // What was walked once is not walked again, and is not needed.
    for number in 2..=6 {
        let root = place.source.dir().join(format!("metadata/{number}.root.json"));
        fs::remove_file(root).expect("it was published");
    }
    place.offer(&version("1.2.0"));
    place.pump(&["upgrade"]).ended(0, "");
    // Without what was kept, a chain with a hole leads nowhere new, and the floor holds.
    fs::remove_dir_all(place.path("var/lib/pump-upgrade/tuf")).expect("it was kept");
    place.pump(&["upgrade"]).ended(40, "not signed by keys that are trusted here");
}

#[test]
fn b07_two_of_five_root_keys_may_be_lost() {
    let place = Place::signed_by(Quorum::ROOT, Quorum::TARGETS);
    for key in ["root-1", "root-5", "targets-2"] {
        place.lose_key(key);
    }
    next_generation(&place, 2);
    place.source.forge(|_| {}).expect("anything can be signed");
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "");
    assert_eq!(place.link("current"), Some(version("1.1.0").info().name()));
}

#[test]
fn b06_kept_metadata_that_is_lost_or_torn_costs_nothing() {
    let place = Place::new();
    next_generation(&place, 3);
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade", "--check"]).ended(10, "1.1.0");
    let all = place.path("var/lib/pump-upgrade/tuf");
    let kept: Vec<PathBuf> = fs::read_dir(&all)
        .expect("it is kept")
        .map(|entry| entry.expect("our own folder").path())
        .collect();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    for name in ["root.json", "timestamp.json", "sums.json"] {
        for damage in ["", "{", "{}", "[]"] {
            fs::write(kept.join(name), damage).expect("our own file");
            place.pump(&["upgrade", "--check"]).ended(10, "1.1.0");
        }
    }
    // A second look changes nothing.
    let text =
        |name| fs::metadata(kept.join(name)).and_then(|it| it.modified()).expect("it is there");
    let before = text("sums.json");
    place.pump(&["upgrade", "--check"]).ended(10, "1.1.0");
    assert_eq!(text("sums.json"), before);
    assert_eq!(fs::read_dir(&all).expect("it is there").count(), 1);
}

#[test]
fn b03_what_the_disk_cannot_keep_is_no_forgery() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let data = place.path("var/lib/pump-upgrade");
    fs::create_dir_all(&data).expect("our own folder");
    let before = place.program();
    // Where a folder should be made, or a file renamed to, something else lies.
    fs::write(data.join("tuf"), "").expect("our own file");
    place.pump(&["upgrade"]).ended(50, "nothing was changed").ended(50, "hint: `df ");
    fs::remove_file(data.join("tuf")).expect("our own file");
    fs::create_dir(data.join("parts")).expect("our own folder");
    fs::create_dir(data.join("parts/of-another")).expect("our own folder");
    place.pump(&["upgrade"]).ended(50, "could not keep the bundle");
    place.is_untouched(&before);
    fs::remove_dir(data.join("parts/of-another")).expect("our own folder");
    place.pump(&["upgrade"]).ended(0, "");
}

/// Runs `pump` with a clock that is so many seconds off: a library between it and the C library says so.
pub(crate) fn at(place: &Place, seconds: i64, words: &[&str]) -> Ran {
    let library = place.folder().join("clock.so");
    if !library.exists() {
        let text = place.folder().join("clock.c");
        fs::write(&text, CLOCK).expect("our own file");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&text);
        let made = command.status().expect("whoever links Rust has a `cc`");
        assert!(made.success(), "{made}");
    }
    let mut command = place.command(words);
    command.env("LD_PRELOAD", &library).env("CLOCK_OFF", seconds.to_string());
    Ran::of(&command.output().expect("pump can be run"))
}

const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *at) {
    int done = syscall(SYS_clock_gettime, id, at);
    const char *off = getenv("CLOCK_OFF");
    if (done == 0 && id == CLOCK_REALTIME && off) at->tv_sec += atoll(off);
    return done;
}
"#;

pub(crate) const DAY: i64 = 24 * 3600;

#[test]
fn b18_a_clock_of_1970_is_told_as_one() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let before = place.program();
    let ran = at(&place, 3600 - Timestamp::now().as_second(), &["upgrade"]);
    ran.ended(50, "the clock of this machine says 1970-01-01");
    ran.ended(50, "hint: set the clock");
    place.is_untouched(&before);
    // And one that is behind the publisher's signatures.
    let ran = at(&place, -3 * DAY, &["upgrade"]);
    ran.ended(50, "what the publisher has signed was made on");
    place.is_untouched(&before);
    place.pump(&["upgrade"]).ended(0, "");
}

#[test]
fn b18_a_clock_ten_years_ahead_wedges_nothing() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade", "--check"]).ended(10, "1.1.0");
    let ran = at(&place, 3650 * DAY, &["upgrade"]);
    ran.ended(41, "by the clock of this machine, which says 203");
    ran.ended(41, "it was last believed on");
    ran.ended(41, "the clock may be ahead: check it with `date` first");
    place.pump(&["upgrade"]).ended(0, "");
}

#[test]
fn b18_a_clock_some_days_ahead_wedges_nothing_and_one_set_back_revives_nothing() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    // Within what the time stamp holds, so this is believed and remembered.
    at(&place, 5 * DAY, &["upgrade", "--check"]).ended(10, "1.1.0");
    place.pump(&["upgrade", "--check"]).ended(10, "1.1.0");
    // The publisher signs what holds for two days only: by the time that has been, it has expired.
    let now = Timestamp::now();
    let short = Expiry::in_days(now, 2);
    place.source.sign_again(now, short).expect("a publisher can sign again");
    place.pump(&["upgrade"]).ended(41, "it was set back");
    // What is signed as usual is believed at once.
    let expiry = Expiry::usual(now + SignedDuration::from_secs(1));
    place.source.sign_again(now, expiry).expect("a publisher can sign again");
    place.pump(&["upgrade"]).ended(0, "");
}
