//! The way to a release over others: what is shown, what is refused, what is done.

use std::fs;

use pump_control::ExitStatus;
use pump_release::{Rules, Schema};

use crate::master::Master;
use crate::place::{Place, Wanted, version};

/// 2.0.0 speaks another magic than 1.0.0; 1.5.0 runs beside both.
fn bridged() -> [Wanted; 2] {
    let bridge = Wanted { magic: 2, accepts: &[1, 3], ..version("1.5.0") };
    [bridge, Wanted { magic: 3, ..version("2.0.0") }]
}

/// A place whose channel has the bridge, with a server that can replace its master in place.
fn place() -> (Place, Master) {
    let place = Place::new();
    let master = Master::of(&place, &version("1.0.0"));
    master.is_replaced();
    for wanted in bridged() {
        place.offer(&wanted);
    }
    (place, master)
}

fn barrier() -> Rules {
    Rules { barrier: true, ..Rules::default() }
}

#[test]
fn a_plan_is_shown_hop_by_hop_and_changes_nothing() {
    let (place, master) = place();
    let [bridge, new] = bridged().map(|it| it.info().name());
    let before = place.program();
    let ran = place.pump(&["upgrade", "--dry-run", "--zero-downtime"]);
    ran.ended(0, "is reached over 1.5.0 in 2 hops; no client will see it");
    ran.ended(0, &format!("  hop 1 of 2: {bridge} can be rolled onto: no client will see it"));
    ran.ended(0, &format!("  hop 2 of 2: {new} can be rolled onto"));
    ran.ended(0, "upgrade --zero-downtime --plan ");
    let told = place.pump(&["upgrade", "--dry-run", "--zero-downtime", "--json"]);
    let told = told.ended(0, "").json();
    assert_eq!((&told["to"], &told["way"]), (&new.into(), &"roll".into()), "{told}");
    assert_eq!(told["hops"][0]["to"], bridge, "{told}");
    assert_eq!(told["hops"][1]["from"], bridge, "{told}");
    assert_eq!(told["hops"].as_array().map(Vec::len), Some(2), "{told}");
    assert!(told["plan"].as_str().is_some_and(|id| id.len() == 16), "{told}");
    place.pump(&["upgrade", "--check", "--zero-downtime"]).ended(10, "over 1.5.0 in 2 hops");
    place.is_untouched(&before);
    assert!(master.asked().is_empty());
}

#[test]
fn b13_an_upgrade_over_a_bridge_rolls_twice_and_the_history_has_both() {
    let (place, master) = place();
    let [bridge, new] = bridged().map(|it| it.info().name());
    let ran = place.pump(&["upgrade", "--zero-downtime"]);
    ran.ended(0, &format!("{bridge} serves")).ended(0, &format!("{new} serves"));
    let candidates: Vec<_> = master.asked().into_iter().filter_map(|it| it.candidate).collect();
    let own = |name: &str| place.path("opt/pump/releases").join(name).join("bin/pumpd");
    assert_eq!(candidates, [own(&bridge), own(&new)]);
    assert_eq!(place.link("current"), Some(new.clone()));
    assert_eq!(place.link("previous"), Some(bridge.clone()));
    let old = version("1.0.0").info().name();
    let history = place.pump(&["history"]);
    history.ended(0, &format!("{old} -> {bridge}")).ended(0, &format!("{bridge} -> {new}"));
    place.pump(&["upgrade", "--zero-downtime"]).ended(0, "nothing to do");
}

#[test]
fn every_line_over_a_bridge_in_json_is_json() {
    let (place, _master) = place();
    let ran = place.pump(&["upgrade", "--zero-downtime", "--json"]);
    let lines = ran.ended(0, "").lines();
    let results: Vec<_> = lines.iter().filter_map(|line| line["result"].as_str()).collect();
    assert_eq!(results, ["hop", "upgraded"], "{lines:?}");
    assert_eq!(ran.json()["hops"], 2);
}

#[test]
fn without_a_word_the_shortest_way_is_taken_and_the_gentler_one_told() {
    let (place, master) = place();
    let told = "with `--zero-downtime` it is reached over 1.5.0 in 2 hops, and no connection waits";
    place.pump(&["upgrade", "--dry-run"]).ended(0, told).ended(0, "connections wait");
    place.pump(&["upgrade"]).ended(2, "add `--yes`").ended(2, told);
    assert!(master.asked().is_empty());
}

#[test]
fn b13_a_path_that_is_not_wanted_is_refused_before_anything_is_touched() {
    let (place, master) = place();
    let before = place.program();
    let words = ["upgrade", "--zero-downtime", "--one-hop"];
    place.pump(&words).ended(31, "over 1.5.0 in 2 hops").ended(31, "leave `--one-hop` away");
    let words = ["upgrade", "--zero-downtime", "--unattended"];
    place.pump(&words).ended(31, "run `pump upgrade` by hand");
    place.is_untouched(&before);
    assert!(master.asked().is_empty());
    place.pump(&["history"]).ended(0, "exit 31");
}

#[test]
fn b14_a_plan_by_its_id_is_done_and_a_stale_one_is_refused() {
    let (place, master) = place();
    let id = |words: &[&str]| {
        let told = place.pump(&[words, &["--dry-run", "--json"]].concat()).ended(0, "").json();
        told["plan"].as_str().expect("an id").to_owned()
    };
    let seen = id(&["upgrade", "--zero-downtime"]);
    assert_eq!(seen, id(&["upgrade", "--zero-downtime"]), "the same plan, the same id");
    // A release that the plan does not touch does not matter.
    place.offer(&Wanted { magic: 9, ..version("1.1.0") });
    assert_eq!(seen, id(&["upgrade", "--zero-downtime"]));
    // Another way, and what was agreed to is not what would be done.
    let newer = Wanted { version: "1.6.0", ..bridged()[0].clone() };
    place.offer(&newer);
    let before = place.program();
    place
        .pump(&["upgrade", "--zero-downtime", "--plan", &seen])
        .ended(50, "does not hold any more");
    place.pump(&["upgrade", "--plan", "0123"]).ended(2, "16 hex digits");
    place.is_untouched(&before);
    assert!(master.asked().is_empty());
    let seen = id(&["upgrade", "--zero-downtime"]);
    // What runs has changed.
    place.pump(&["upgrade", "--to", "1.6.0"]).ended(0, "serves");
    place
        .pump(&["upgrade", "--zero-downtime", "--plan", &seen])
        .ended(50, "does not hold any more");
    let seen = id(&["upgrade", "--zero-downtime"]);
    place.pump(&["upgrade", "--zero-downtime", "--plan", &seen]).ended(0, "serves");
}

#[test]
fn b13_without_a_bridge_the_missing_one_is_named() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    place.offer(&Wanted { magic: 3, ..version("2.0.0") });
    let refused = place.pump(&["upgrade", "--zero-downtime"]);
    refused.ended(30, "a release that speaks 3 and accepts 1 is missing");
    // A bridge that was revoked is none.
    let revoked = Rules { revoked: Some("it lost posts".to_owned()), ..Rules::default() };
    place.offer(&Wanted { rules: revoked, ..bridged()[0].clone() });
    place.pump(&["upgrade", "--zero-downtime"]).ended(30, "is missing");
    place.pump(&["upgrade", "--to", "1.5.0"]).ended(20, "1.5.0 is revoked (it lost posts)");
    let from =
        Rules { upgrade_from: Some(">=2.5.0".parse().expect("it is one")), ..Rules::default() };
    place.offer(&Wanted { rules: from, ..version("3.0.0") });
    place.pump(&["upgrade"]).ended(31, "3.0.0 may be gone to from `>=2.5.0` only");
}

#[test]
fn the_newest_is_the_newest_that_was_not_withdrawn() {
    let (place, _master) = place();
    let halted = Rules { halted: Some("being looked at".to_owned()), ..Rules::default() };
    place.offer(&Wanted { rules: halted, ..version("9.0.0") });
    place.pump(&["upgrade", "--check"]).ended(10, "2.0.0+");
}

#[test]
fn a_second_hop_that_fails_leaves_the_first_one_in_place() {
    let (place, master) = place();
    let [bridge, new] = bridged();
    // The bundle of the second hop is another one than was signed.
    fs::write(place.bundle_file(&new), "no bundle").expect("our own file");
    let ran = place.pump(&["upgrade", "--zero-downtime"]);
    ran.ended(40, &format!("(in hop 2 of 2; {} stays the current release)", bridge.info().name()));
    assert_eq!(place.link("current"), Some(bridge.info().name()));
    assert_eq!(master.asked().len(), 1);
    // The same command goes on from there.
    place.offer(&new);
    place.pump(&["upgrade", "--zero-downtime"]).ended(0, "2.0.0+");
    assert_eq!(place.link("current"), Some(new.info().name()));
    assert_eq!(master.asked().len(), 2);
    // And a roll that fails is told the same way.
    place.offer(&Wanted { magic: 3, accepts: &[4], rules: barrier(), ..version("2.5.0") });
    place.offer(&Wanted { magic: 4, ..version("3.0.0") });
    master.fails(ExitStatus::RollFailed, "worker 3 ended with exit 9");
    place.pump(&["upgrade", "--zero-downtime"]).ended(62, "worker 3 ended with exit 9");
    assert_eq!(place.link("current"), Some(new.info().name()));
}

#[test]
fn a_master_that_stayed_behind_ends_the_way_before_it_hurts() {
    let place = Place::new();
    // It is the old build still, which does not understand the workers of the second hop.
    let master = Master::of(&place, &version("1.0.0"));
    for wanted in bridged() {
        place.offer(&wanted);
    }
    let ran = place.pump(&["upgrade", "--zero-downtime"]);
    ran.ended(50, "hop 2 is not as planned").ended(50, "magic 1 and the other one 3");
    assert_eq!(place.link("current"), Some(bridged()[0].info().name()));
    assert_eq!(master.asked().len(), 1);
}

#[test]
fn b14_a_worker_of_the_build_before_last_is_waited_for() {
    let (place, master) = place();
    master.lingers(6);
    let ran = place.pump(&["upgrade", "--zero-downtime"]);
    let old = version("1.0.0").info().name();
    ran.ended(0, "waiting for workers that still finish").ended(0, &old);
    assert_eq!(master.asked().len(), 2);
    // One that understands the next build is not.
    place.offer(&Wanted { magic: 3, ..version("2.1.0") });
    let ran = place.pump(&["upgrade", "--zero-downtime"]);
    assert!(!ran.ended(0, "serves").out.contains("waiting for"), "{ran:?}");
}

#[test]
fn a_server_that_is_down_is_not_taken_over_a_barrier() {
    let place = Place::new();
    place.offer(&Wanted { rules: barrier(), ..version("1.5.0") });
    place.offer(&version("2.0.0"));
    let ran = place.pump(&["upgrade"]);
    ran.ended(31, "over 1.5.0 and 2.0.0, and the server does not run").ended(31, "start");
    let _master = Master::of(&place, &version("1.0.0"));
    place.pump(&["upgrade", "--zero-downtime", "--dry-run"]).ended(0, "over 1.5.0 in 2 hops");
}

#[test]
fn a_database_that_is_too_new_for_a_release_is_no_matter_of_paths() {
    let place = Place::new();
    let _master = Master::of(&place, &version("1.0.0"));
    place.offer(&Wanted { schema: Schema { version: 2, compat: 1 }, ..version("0.9.0") });
    place.pump(&["upgrade", "--to", "0.9.0"]).ended(50, "code of schema 3 or later");
}
