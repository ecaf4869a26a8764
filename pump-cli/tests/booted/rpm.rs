//! The road of the packages of rpm, with dnf, on a Debian: its programs came from elsewhere, so an empty package says
//! that what a distribution has is there.

use pump_test::machine::{Machine, said};

use super::asking::{json, must_exit, status};
use super::packages::{INSIDE, Packages, all_are, under_load, watches_nothing};
use super::state::State;

/// dnf as an administrator types it. Debian does not say which release of a distribution with dnf it is.
fn dnf(words: &[&str]) -> Vec<String> {
    let begin = ["dnf", "--assumeyes", "--releasever=12"];
    begin.iter().chain(words).map(|word| (*word).to_owned()).collect()
}

#[track_caller]
fn must(machine: &Machine, words: &[&str]) -> String {
    let words = dnf(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    said(&must_exit(machine, 0, &words))
}

#[track_caller]
fn must_refuse(machine: &Machine, words: &[&str]) -> String {
    let words = dnf(words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    said(&must_exit(machine, 1, &words))
}

/// A machine that knows the repository and trusts its keys.
fn machine(name: &str) -> (Machine, Packages) {
    let packages = Packages::made();
    let machine = Machine::boot_with(name, &["dnf", "rpm"]).expect("a machine boots");
    machine.put(&packages.rpm_repository, &format!("{INSIDE}/dnf")).expect("files can be copied");
    machine.must(&["chown", "-R", "root:root", INSIDE]);
    let keyring = format!(
        "dnf --assumeyes --releasever=12 install {INSIDE}/dnf/stable/Packages/pump-archive*.rpm"
    );
    must_exit(&machine, 0, &["sh", "-c", &keyring]);
    machine.must(&["mkdir", "-p", "/etc/yum.repos.d"]);
    machine.must(&["cp", &format!("{INSIDE}/dnf/pump.repo"), "/etc/yum.repos.d/"]);
    (machine, packages)
}

/// What differs between two states but for what dnf and rpm keep for themselves, and a folder that a distribution
/// with rpm has from the start.
fn differences(before: &State, after: &State) -> Vec<String> {
    let kept =
        ["/var/lib/rpm", "/var/lib/dnf", "pump-package-upgrade.service", "/usr/share/licenses:"];
    let all = before.differences(after).into_iter();
    all.filter(|line| !kept.iter().any(|kept| line.contains(kept))).collect()
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p1_p4_p8_rpm_packages_install_upgrade_downgrade_and_remove_without_a_lost_request() {
    let (machine, packages) = machine("pump-dnf");
    must(&machine, &["install", "stands-in-for-a-distribution"]);
    let before = State::of(&machine);
    let told = must(&machine, &["install", "pumpd-0.1.0", "pump-0.1.0"]);
    assert!(told.contains("sudo pump install"), "{told}");
    let install =
        ["pump", "install", "--domain", "social.example", "--account", "alice", "--yes", "--json"];
    let installed = json(&must_exit(&machine, 0, &install));
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    watches_nothing(&machine);
    let score = ["systemd-analyze", "security", "--no-pager", "--threshold=11", "pumpd.service"];
    machine.must(&score);
    let begun = status(&machine);
    assert_eq!(begun.workers_build.short(), packages.first);

    let made = State::of(&machine);
    let again = json(&must_exit(&machine, 0, &["pump", "install", "--json"]));
    assert_eq!(again["changed"], serde_json::json!([]), "{again}");
    assert_eq!(made.differences(&State::of(&machine)), [""; 0]);

    let report = under_load(&machine, &password, |step| {
        step("upgrade", &|| {
            let told = must(&machine, &["upgrade"]);
            assert!(told.contains("serves"), "{told}");
            all_are(&machine, &packages.second, &begun);
        });
        step("downgrade", &|| {
            must(&machine, &["downgrade", "pumpd-0.1.0", "pump-0.1.0"]);
            all_are(&machine, &packages.first, &begun);
        });
        step("forward again", &|| {
            must(&machine, &["upgrade", "pumpd"]);
            all_are(&machine, &packages.second, &begun);
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    assert!(report.requests() >= 20_000, "{report}");
    // Nobody wrote over what rpm has unpacked.
    assert_eq!(machine.must(&["rpm", "--verify", "pump", "pumpd"]), "");

    must(&machine, &["remove", "pumpd", "pump"]);
    assert!(machine.path("/var/lib/pump/pump.sqlite3").exists(), "data stays");
    assert!(!machine.path("/var/lib/pump-releases").exists());
    assert_eq!(machine.must(&["ss", "-Hltn"]), "", "a removed server listens nowhere");
    let told = must(&machine, &["install", "pumpd"]);
    assert!(told.contains("serves, as configured"), "{told}");
    assert_eq!(status(&machine).workers_build.short(), packages.second);
    machine.must(&["systemctl", "is-enabled", "pumpd.socket", "pumpd.service"]);
    must(&machine, &["remove", "pumpd", "pump"]);
    machine.must(&["rm", "-r", "/etc/pump", "/var/lib/pump", "/var/lib/pump-upgrade"]);
    assert_eq!(differences(&before, &State::of(&machine)), [""; 0]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p6_dnf_takes_nothing_that_was_changed_on_the_way() {
    let (machine, _) = machine("pump-dnf-signed");
    let inside = |path: &str| format!("{INSIDE}/dnf/stable/{path}");
    let change = |path: &str| {
        machine.must(&[
            "sh",
            "-c",
            &format!("for file in {}; do echo >>$file; done", inside(path)),
        ]);
    };
    machine.must(&["cp", "-a", &inside("repodata"), &format!("{INSIDE}/kept")]);
    change("repodata/repomd.xml");
    let told = must_refuse(&machine, &["install", "pump"]);
    assert!(told.contains("signature"), "{told}");
    machine.must(&["rm", "-r", &inside("repodata")]);
    machine.must(&["mv", &format!("{INSIDE}/kept"), &inside("repodata")]);

    // As whoever can write the mirror, but has no key.
    change("Packages/pump-0*.rpm");
    let told = must_refuse(&machine, &["install", "pump"]);
    assert!(told.contains("checksum") || told.contains("Checksum"), "{told}");
    assert!(!machine.path("/usr/bin/pump").exists());
}
