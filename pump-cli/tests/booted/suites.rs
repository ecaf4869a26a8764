//! Suites of the repository, subscribed to as `docs/UPGRADING.md` says, over HTTP from a mirror that is not always in good
//! order.

use std::fs;

use pump_test::machine::{Machine, said};
use pump_test::releases::{Deed, ReleaseServer};

use super::asking::{must_exit, status};
use super::driven::packaged;
use super::packages::{INSIDE, Packages, all_are, candidate, watches_nothing};

/// Where the publisher says that the repository is.
const PUBLISHED: &str = "https://packages.example/pump";

/// Puts a suite's `.sources` file there, of this mirror, instead of what is there.
#[track_caller]
fn subscribe(machine: &Machine, packages: &Packages, mirror: &ReleaseServer, file: &str) {
    let text = fs::read_to_string(packages.suites.join(file)).expect("xtask wrote it");
    assert!(text.contains(PUBLISHED), "{text}");
    // Debian's own are out of reach.
    machine.must(&["sh", "-c", "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*"]);
    let path = machine.path(&format!("/etc/apt/sources.list.d/{file}"));
    fs::write(path, text.replace(PUBLISHED, &mirror.url())).expect("a file can be put there");
}

/// `apt-get update` as on a machine that has seen nothing yet.
#[track_caller]
fn update(machine: &Machine) -> String {
    machine.must(&["sh", "-c", "rm -rf /var/lib/apt/lists/*"]);
    said(&machine.run(&["apt-get", "update"]).expect("apt can be run"))
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn who_subscribes_to_beta_gets_it_and_apt_asks_the_mirror_by_hash() {
    let packages = Packages::made();
    let machine = Machine::boot("pump-suites").expect("a machine boots");
    let mirror = machine.within(|| ReleaseServer::of(&packages.suites));
    machine.put(&packages.suites.join("pool/stable"), INSIDE).expect("files can be copied");
    machine.must(&["chown", "-R", "root:root", INSIDE]);
    let keyring = format!("apt-get install --yes {INSIDE}/pump-archive-keyring_*_all.deb");
    must_exit(&machine, 0, &["sh", "-c", &keyring]);
    let apt = |words: &[&str]| {
        let begin = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes"];
        said(&must_exit(&machine, 0, &[&begin, words].concat()))
    };

    subscribe(&machine, &packages, &mirror, "pump.sources");
    update(&machine);
    let lists = |suite: &str| format!("dists/{suite}/main/binary-amd64/");
    let asked = mirror.asked(&lists("stable"));
    let by_hash = format!("{}by-hash/SHA256/", lists("stable"));
    assert!(!asked.is_empty(), "apt asked for the lists");
    assert!(asked.iter().all(|it| it.path.starts_with(&by_hash)), "{asked:?}");
    apt(&["install", "pumpd"]);
    assert!(packaged(&machine).starts_with("0.1.0"), "{}", packaged(&machine));
    must_exit(&machine, 0, &["pump", "install", "--domain", "social.example", "--yes"]);
    watches_nothing(&machine);
    let begun = status(&machine);
    assert_eq!(begun.workers_build.short(), packages.first);
    apt(&["upgrade"]);
    assert_eq!(status(&machine).generation, begun.generation, "stable has nothing newer");

    // A mirror in the middle of its own update: the lists under their names are not those that `InRelease` tells of.
    subscribe(&machine, &packages, &mirror, "pump-beta.sources");
    mirror.always("binary-amd64/Packages", Deed::Serves(b"of tomorrow".to_vec()));
    let told = update(&machine);
    assert!(!told.contains("mismatch") && !told.contains("Failed"), "{told}");
    assert!(candidate(&machine).starts_with("0.1.1"), "{}", candidate(&machine));
    let told = apt(&["upgrade"]);
    assert!(told.contains("serves"), "{told}");
    all_are(&machine, &packages.second, &begun);

    // Whoever unsubscribes keeps what there is.
    subscribe(&machine, &packages, &mirror, "pump.sources");
    update(&machine);
    apt(&["upgrade"]);
    assert!(packaged(&machine).starts_with("0.1.1"), "{}", packaged(&machine));

    // What is under a hash has to have it.
    mirror.always("by-hash", Deed::Serves(b"of somebody".to_vec()));
    let told = update(&machine);
    assert!(told.contains("Hash Sum mismatch") || told.contains("unexpected size"), "{told}");
    all_are(&machine, &packages.second, &begun);
}
