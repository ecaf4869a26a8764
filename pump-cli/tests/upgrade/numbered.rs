//! Those of the hardest cases (docs/TESTING.md) that have no file of their own.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::place::{Place, Ran, program, version};

#[test]
fn b03_a_disk_that_is_too_small_is_told_with_what_is_needed_and_what_is_free() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let before = place.program();
    let data = place.path("var/lib/pump-upgrade");
    fs::create_dir_all(&data).expect("our own folder");
    // A disk of its own that nobody else sees.
    let line = format!(
        "mount -t tmpfs -o size=2m,mode=0700 tmpfs '{}' && exec \"$0\" \"$@\"",
        data.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &line]).arg(program());
    command.arg("upgrade").arg("--root").arg(place.root());
    let ran = Ran::of(&command.output().expect("unshare can be run"));
    if !nix::unistd::geteuid().is_root() || ran.err.contains("mount") {
        // Only root mounts, and not in every container.
        return;
    }
    ran.ended(50, "MiB are free; nothing was changed").ended(50, "the release needs");
    place.is_untouched(&before);
}

#[test]
fn b11_without_the_release_before_a_way_back_is_refused_and_the_next_command_told() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade"]).ended(0, "");
    let gone = version("1.0.0").info().name();
    fs::remove_dir_all(place.path("opt/pump/releases").join(gone)).expect("ours");
    let before = place.program();
    let ran = place.pump(&["rollback"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("hint: "), "{ran:?}");
    place.is_untouched(&before);
    place.pump(&["upgrade", "--to", "1.0.0"]).ended(0, "is the current release");
}

#[test]
fn b20_an_uninstall_after_any_cut_leaves_nothing() {
    for state in ["checked", "fetched", "unpacked", "expanded", "rolled", "baking", "rolling-back"]
    {
        let place = Place::new();
        place.offer(&version("1.1.0"));
        place.pump(&["upgrade"]).ended(0, "");
        let journal = place.path("var/lib/pump-upgrade/journal.jsonl");
        let text = fs::read_to_string(&journal).expect("there is a journal");
        let last = text.lines().last().expect("it has a line");
        let mut line: Value = serde_json::from_str(last).expect("JSON");
        (line["state"], line["exit"], line["result"]) = (json!(state), Value::Null, Value::Null);
        line["owner"] = json!({ "boot": "another", "pid": 1, "start": 0 });
        fs::write(&journal, format!("{text}{line}\n")).expect("ours");
        place.pump(&["status"]);
        place.pump(&["uninstall", "--purge", "--yes"]).ended(0, "");
        let left = fs::read_dir(place.root()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "cut at {state}");
        place.pump(&["uninstall", "--purge", "--yes"]).ended(0, "nothing to do");
    }
}
