//! Which way is gone, and what the links and the history say afterwards.

use std::fs::{self, File};

use pump_control::ExitStatus;
use pump_release::Schema;

use crate::master::Master;
use crate::place::{Place, Wanted, version};

#[test]
fn a_newer_release_is_rolled_from_its_own_path_and_then_current() {
    let place = Place::new();
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let master = Master::of(&place, &old);
    place.offer(&new);
    place.pump(&["upgrade", "--zero-downtime"]).ended(0, "serves");
    let asked = master.asked();
    let own = place.path("opt/pump/releases").join(new.info().name()).join("bin/pumpd");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].candidate, Some(own));
    assert!(asked[0].wait);
    assert_eq!(place.link("current"), Some(new.info().name()));
    assert_eq!(place.link("previous"), Some(old.info().name()));
    place.pump(&["history"]).ended(0, &format!("{} -> {}", old.info().name(), new.info().name()));
}

#[test]
fn p8_a_second_upgrade_changes_nothing_and_says_so() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "serves");
    let before = place.program();
    place.pump(&["upgrade"]).ended(0, "nothing to do");
    place.is_untouched(&before);
    assert_eq!(master.asked().len(), 1);
    let unattended = place.pump(&["upgrade", "--unattended", "--zero-downtime"]);
    assert_eq!((unattended.code, unattended.out.as_str()), (Some(0), ""));
}

#[test]
fn looking_is_told_by_the_status_and_in_json_and_touches_nothing() {
    let place = Place::new();
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let _master = Master::of(&place, &old);
    let none = place.pump(&["upgrade", "--check", "--json"]);
    assert_eq!(none.ended(0, "").json()["result"], "nothing-to-do");
    place.offer(&new);
    let before = place.program();
    place.pump(&["upgrade", "--check"]).ended(10, "1.1.0+");
    let told = place.pump(&["upgrade", "--check", "--json"]);
    let told = told.ended(10, "").json();
    assert_eq!(told["available"], new.info().name(), "{told}");
    assert_eq!(told["installed"], old.info().name(), "{told}");
    assert_eq!((&told["way"], &told["exit"]), (&"roll".into(), &10.into()), "{told}");
    let dry = place.pump(&["upgrade", "--dry-run", "--json"]);
    assert_eq!(dry.ended(0, "").json()["result"], "dry-run");
    place.is_untouched(&before);
    place.pump(&["history"]).ended(0, "nothing has happened yet");
}

#[test]
fn every_line_of_an_upgrade_in_json_is_json_and_the_last_one_is_the_result() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    place.offer(&version("1.1.0"));
    let ran = place.pump(&["upgrade", "--json"]);
    let last = ran.ended(0, r#""text":"worker 3 is ready"#).json();
    assert_eq!((&last["result"], &last["way"]), (&"upgraded".into(), &"roll".into()), "{last}");
    let told = place.pump(&["history", "--json"]);
    let told = told.ended(0, "").json();
    assert_eq!((&told["action"], &told["exit"]), (&"upgrade".into(), &0.into()), "{told}");
    assert!(told["who"].is_string() && told["seconds"].is_u64(), "{told}");
}

#[test]
fn other_magic_is_never_rolled_onto() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    place.offer(&Wanted { magic: 2, ..version("2.0.0") });
    let before = place.program();
    place.pump(&["upgrade", "--zero-downtime"]).ended(30, "magic 1 and the other one 2");
    place.pump(&["upgrade"]).ended(2, "add `--yes`");
    let told = place.pump(&["upgrade", "--check", "--json"]);
    assert_eq!(told.ended(10, "").json()["way"], "restart");
    assert!(master.asked().is_empty());
    place.is_untouched(&before);
}

#[test]
fn what_the_running_sandbox_or_the_running_code_could_not_bear_is_not_rolled_onto() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    place.offer(&Wanted { unit: 2, ..version("1.1.0") });
    place.pump(&["upgrade", "--zero-downtime"]).ended(30, "unit 2");
    let schema = Schema { version: 9, compat: 4 };
    place.offer(&Wanted { schema, ..version("1.2.0") });
    place.pump(&["upgrade", "--zero-downtime"]).ended(30, "only code of schema 4 or later");
}

#[test]
fn a_release_that_could_not_open_the_database_is_refused() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    let schema = Schema { version: 2, compat: 2 };
    place.offer(&Wanted { schema, ..version("0.9.0") });
    place.pump(&["upgrade", "--to", "0.9.0", "--yes"]).ended(50, "needs code of schema 3 or later");
}

#[test]
fn a_failed_roll_ends_where_it_began_and_a_timer_does_not_try_it_again() {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    place.offer(&version("1.1.0"));
    master.fails(ExitStatus::RollFailed, "worker 3 ended with exit 9; 1.0.0 serves");
    place.pump(&["upgrade"]).ended(62, "  | no good");
    assert_eq!(place.link("current"), Some(version("1.0.0").info().name()));
    assert_eq!(place.link("previous"), None);
    place.pump(&["upgrade", "--unattended", "--zero-downtime"]).ended(20, "left alone");
    assert_eq!(master.asked().len(), 1);
    place.pump(&["history"]).ended(0, "exit 62");
    // A newer one is taken.
    place.offer(&version("1.1.1"));
    place.pump(&["upgrade", "--unattended"]).ended(62, "");
    assert_eq!(master.asked().len(), 2);
}

#[test]
fn a_rollback_exchanges_the_links_and_can_be_rolled_back() {
    let place = Place::new();
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let master = Master::of(&place, &old);
    place.pump(&["rollback"]).ended(50, "nothing to go back to");
    place.offer(&new);
    place.pump(&["upgrade"]).ended(0, "");
    place.pump(&["rollback", "--dry-run"]).ended(0, &old.info().name());
    place.pump(&["rollback"]).ended(0, "serves");
    assert_eq!(place.link("current"), Some(old.info().name()));
    assert_eq!(place.link("previous"), Some(new.info().name()));
    // What was left on purpose does not come back by itself.
    place.pump(&["upgrade", "--unattended"]).ended(20, "left alone");
    let told = place.pump(&["rollback", "--json"]);
    assert_eq!(told.ended(0, "").json()["result"], "rolled-back");
    assert_eq!(place.link("current"), Some(new.info().name()));
    assert_eq!(master.asked().len(), 3);
}

#[test]
fn b11_a_release_that_was_tampered_with_is_not_gone_back_to() {
    let place = Place::new();
    let (old, new) = (version("1.0.0"), version("1.1.0"));
    let _master = Master::of(&place, &old);
    place.offer(&new);
    place.pump(&["upgrade"]).ended(0, "");
    let file = place.path("opt/pump/previous/LICENSE");
    fs::write(&file, "other words").expect("our own file");
    place.pump(&["rollback"]).ended(50, "was changed");
    assert_eq!(place.link("current"), Some(new.info().name()));
}

#[test]
fn a_server_that_does_not_run_starts_with_the_new_release() {
    let place = Place::new();
    place.offer(&Wanted { magic: 7, ..version("1.1.0") });
    place.pump(&["upgrade", "--zero-downtime"]).ended(0, "does not run");
    assert!(place.link("current").is_some_and(|name| name.starts_with("1.1.0+")));
}

#[test]
fn what_was_cut_off_between_roll_and_links_is_finished_by_the_same_command() {
    let place = Place::new();
    let new = version("1.1.0");
    place.offer(&new);
    place.pump(&["upgrade"]).ended(0, "does not run");
    // As if only the roll had happened: the links are the old ones, the workers are new.
    place.install(&version("1.0.0"));
    let master = Master::of(&place, &new);
    place.pump(&["upgrade", "--zero-downtime"]).ended(0, "runs already");
    assert_eq!(place.link("current"), Some(new.info().name()));
    assert!(master.asked().is_empty());
}

#[test]
fn b14_a_second_run_is_told_who_is_at_work() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade", "--check"]).ended(10, "");
    let lock = File::open(place.path("var/lib/pump-upgrade")).expect("a run has made it");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("nobody has it");
    place.pump(&["upgrade"]).ended(70, "another run of pump is at work: process");
    place.pump(&["rollback"]).ended(70, "");
    drop(lock);
    place.pump(&["upgrade"]).ended(0, "");
}

#[test]
fn b11_old_releases_go_but_never_those_that_are_needed() {
    let place = Place::new();
    let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"].map(version);
    let _master = Master::of(&place, &versions[0]);
    fs::create_dir(place.path("opt/pump/releases/.tmp-1")).expect("our own folder");
    for new in &versions[1..] {
        place.offer(new);
        place.pump(&["upgrade"]).ended(0, "");
    }
    let left = place.releases();
    // Two linked ones, two more, and the one whose master still runs.
    assert_eq!(left.len(), 5, "{left:?}");
    for kept in [&versions[0], &versions[4], &versions[5]] {
        assert!(left.contains(&kept.info().name()), "{left:?}");
    }
}

#[test]
fn a_version_that_is_not_on_offer_is_refused_with_those_that_are() {
    let place = Place::new();
    place.pump(&["upgrade", "--to", "3.0.0"]).ended(2, "it offers 1.0.0");
    place.pump(&["upgrade", "--to", "three"]).ended(2, "three");
    place.pump(&["upgrade", "--channel", "nightly"]).ended(2, "`beta`");
    place.pump(&["upgrade", "--channel", "beta"]).ended(0, "no release yet");
}
