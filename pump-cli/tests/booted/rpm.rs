//! The road of the packages of rpm, with dnf, on a Debian: its programs came from elsewhere, so an empty package says
//! that what a distribution has is there.

use std::process::Command;

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

/// A server of the older packages. Returns alice's password.
#[track_caller]
fn serves(machine: &Machine) -> String {
    must(machine, &["install", "stands-in-for-a-distribution"]);
    let told = must(machine, &["install", "pumpd-0.1.0", "pump-0.1.0"]);
    assert!(told.contains("sudo pump install"), "{told}");
    let install =
        ["pump", "install", "--domain", "social.example", "--account", "alice", "--yes", "--json"];
    let installed = json(&must_exit(machine, 0, &install));
    watches_nothing(machine);
    installed["password"].as_str().expect("a password was made").to_owned()
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p1_p4_p8_rpm_packages_install_upgrade_downgrade_and_remove_without_a_lost_request() {
    let (machine, packages) = machine("pump-dnf");
    must(&machine, &["install", "stands-in-for-a-distribution"]);
    let before = State::of(&machine);
    let password = serves(&machine);
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

/// The end of a server whose package goes is no fault of the build that it was just rolled onto.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn rpm_packages_that_are_removed_while_their_release_is_watched_leave_nobody_watching() {
    let (machine, packages) = machine("pump-dnf-watched");
    serves(&machine);
    let patient = "s/bake_seconds = 0/bake_seconds = 300/";
    machine.must(&["sed", "--in-place", patient, "/etc/pump/upgrade.toml"]);
    let begun = status(&machine);
    let unit = ["systemctl", "show", "--property=ActiveState", "pump-package-upgrade.service"];
    let told = must(&machine, &["upgrade", "pumpd", "pump"]);
    assert!(told.contains("serves"), "{told}");
    all_are(&machine, &packages.second, &begun);
    assert_eq!(machine.must(&unit).trim(), "ActiveState=active", "it is watched");
    must_exit(&machine, 0, &["pump", "doctor"]);
    must(&machine, &["remove", "pumpd"]);
    assert_eq!(machine.must(&unit).trim(), "ActiveState=inactive");
    assert_eq!(machine.must(&["ss", "-Hltn"]), "");

    let told = must(&machine, &["install", "pumpd"]);
    assert!(told.contains("serves, as configured"), "{told}");
    assert_eq!(status(&machine).workers_build.short(), packages.second);
    let history = said(&must_exit(&machine, 0, &["pump", "history"]));
    assert!(!history.contains("failed") && !history.contains("back to"), "{history}");
    let told = said(&must_exit(&machine, 0, &["pump", "status"]));
    assert!(!told.contains("pump resume"), "nobody is to finish what the removal has cut: {told}");
    must_exit(&machine, 0, &["pump", "doctor"]);
}

/// A version of the daemon's package whose release may not run beside any other, as a repository's index tells. There is
/// nothing in it.
fn offer_what_runs_beside_nothing(machine: &Machine) {
    const SPEC: &str = "Name: pumpd\nVersion: 9\nRelease: 1\nSummary: a\nLicense: a\n\
        Provides: pumpd(version) = 9.0.0\nProvides: pumpd(magic) = 99\nProvides: pumpd(unit) = 1\n\
        Provides: pumpd(schema) = 2\nProvides: pumpd(schema-compat) = 1\nProvides: pumpd(build) = ";
    const REPO: &str = "printf '[pump-next]\\nname=a\\nbaseurl=file:///run/next\\ngpgcheck=0\\n' >/etc/yum.repos.d/next.repo";
    let folder = tempfile::tempdir().expect("a folder");
    let spec = folder.path().join("next.spec");
    let text = format!("{SPEC}{}\n%description\nb\n%files\n", "9".repeat(64));
    std::fs::write(&spec, text).expect("a folder of ours");
    let out = folder.path().join("out");
    let define = |name: &str| format!("{name} {}", out.display());
    let build = ["--quiet", "-bb", "--define", &define("_topdir"), "--define", &define("_rpmdir")];
    for command in [
        Command::new("rpmbuild").args(build).arg(&spec),
        Command::new("createrepo_c").arg("--quiet").arg(&out),
    ] {
        let made = command.output().expect("`cargo xtask test` installs it");
        assert!(made.status.success(), "{}", said(&made));
    }
    machine.put(&out, "/run/next").expect("files can be copied");
    machine.must(&["chown", "-R", "root:root", "/run/next"]);
    machine.must(&["sh", "-c", REPO]);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn b16_p1_p4_pump_upgrade_has_dnf_bring_the_package_and_goes_onto_it_under_load() {
    let (machine, packages) = machine("pump-dnf-driven");
    let password = serves(&machine);
    machine.must(&["sh", "-c", "echo 'lock_seconds = 1' >>/etc/pump/upgrade.toml"]);
    let begun = status(&machine);
    let packaged = || machine.must(&["rpm", "--query", "pumpd"]);
    let refuses = |code: i32, words: &[&str]| -> String {
        let told = said(&must_exit(&machine, code, &[&["pump", "upgrade"], words].concat()));
        assert!(packaged().starts_with("pumpd-0.1.0"), "{}", packaged());
        assert_eq!(status(&machine).generation, begun.generation);
        told
    };
    let told = refuses(10, &["--check"]);
    assert!(told.contains("pumpd 0.1.1"), "{told}");
    must_exit(&machine, 0, &["pump", "hold", "--reason", "not now"]);
    refuses(20, &[]);
    must_exit(&machine, 0, &["pump", "unhold"]);
    // As another run of dnf that lives: init does.
    let lock = "/var/cache/dnf/metadata_lock.pid";
    machine.must(&["sh", "-c", &format!("echo 1 >{lock}")]);
    refuses(70, &[]);
    machine.must(&["rm", lock]);
    // Before anything is fetched, as with apt.
    offer_what_runs_beside_nothing(&machine);
    let told = refuses(30, &["--zero-downtime"]);
    assert!(told.contains("99"), "{told}");
    machine.must(&["rm", "/etc/yum.repos.d/next.repo"]);

    let report = under_load(&machine, &password, |step| {
        step("pump upgrade", &|| {
            let told = said(&must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime"]));
            assert!(told.contains("dnf installs pumpd 0.1.1") && told.contains("serves"), "{told}");
            all_are(&machine, &packages.second, &begun);
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    assert!(packaged().starts_with("pumpd-0.1.1"), "{}", packaged());
    assert_eq!(machine.must(&["rpm", "--verify", "pump", "pumpd"]), "");
    let told = said(&must_exit(&machine, 0, &["pump", "upgrade"]));
    assert!(told.contains("nothing to do"), "{told}");
    let history = said(&must_exit(&machine, 0, &["pump", "history"]));
    assert!(history.contains(&packages.second), "{history}");
    let told = said(&must_exit(&machine, 80, &["pump", "auto-upgrade", "enable"]));
    assert!(told.contains("dnf-automatic"), "{told}");
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
