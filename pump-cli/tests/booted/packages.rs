//! The road of the packages on a real systemd: install, configure, upgrade under load, downgrade, remove, purge.

use std::path::PathBuf;

use pump_control::control::Status;
use pump_test::Api;
use pump_test::load::{Load, Plan, Report};
use pump_test::machine::{Machine, said, target};

use super::asking::{AT_MOST, json, must_exit, status};
use super::releases::Releases;
use super::state::State;
use super::{INSTALL, PUMP};

/// Where the packages are in a machine: on a tmpfs, so that the machine's own tree stays as it was.
pub(crate) const INSIDE: &str = "/run/test";

/// Clients made that many requests before and after each thing that was done to the server.
const BETWEEN_STEPS: u64 = 5000;

/// Two versions of the packages.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Packages {
    /// The older one's release, `0.1.0+1a2b3c4d`.
    pub(crate) first: String,
    /// The newer one's.
    pub(crate) second: String,
    /// The folders of their packages.
    pub(crate) folders: [PathBuf; 2],
    /// A repository that offers the newer one.
    pub(crate) repository: PathBuf,
    /// The same, which has not been signed anew in time.
    expired: PathBuf,
    /// One that offers the older one as `stable` and the newer one as `beta`, for a web server.
    pub(crate) suites: PathBuf,
    /// The folders of the packages of rpm.
    pub(crate) rpm_folders: [PathBuf; 2],
    /// A repository for dnf that offers both.
    pub(crate) rpm_repository: PathBuf,
}

impl Packages {
    /// Those that were made.
    pub(crate) fn made() -> Self {
        let path = target().join("test/packages.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("`{}`: {error}; `cargo xtask test` makes it", path.display())
        });
        serde_json::from_str(&text).expect("xtask wrote it")
    }
}

/// A machine that has both at hand.
pub(crate) fn machine(name: &str) -> (Machine, Packages) {
    machine_with(name, &[])
}

/// The same with some of Debian's packages more.
pub(crate) fn machine_with(name: &str, more: &[&str]) -> (Machine, Packages) {
    let packages = Packages::made();
    let machine = Machine::boot_with(name, more).expect("a machine boots");
    for (from, to) in packages.folders.iter().zip(["first", "second"]) {
        machine.put(from, &format!("{INSIDE}/{to}")).expect("files can be copied");
    }
    machine.must(&["chown", "-R", "root:root", INSIDE]);
    (machine, packages)
}

/// `apt-get install` of one of the two, as an administrator would who has the files.
#[track_caller]
pub(crate) fn apt_install(machine: &Machine, which: &str) -> String {
    said(&must_exit(machine, 0, &["sh", "-c", &apt_line(which)]))
}

/// The same, for sh(1).
pub(crate) fn apt_line(which: &str) -> String {
    format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install --yes --allow-downgrades \
         {INSIDE}/{which}/pump_*.deb {INSIDE}/{which}/pumpd_*.deb"
    )
}

/// `pump install` with an account; returns its password.
#[track_caller]
pub(crate) fn configure(machine: &Machine) -> String {
    let install =
        ["pump", "install", "--domain", "social.example", "--account", "alice", "--yes", "--json"];
    let installed = json(&must_exit(machine, 0, &install));
    installed["password"].as_str().expect("a password was made").to_owned()
}

/// What is new is current at once: the next step need not wait until it was watched.
#[track_caller]
pub(crate) fn watches_nothing(machine: &Machine) {
    machine.must(&["sh", "-c", "echo 'bake_seconds = 0' >>/etc/pump/upgrade.toml"]);
}

/// Makes a repository the one that the machine's `pump.sources` names.
#[track_caller]
pub(crate) fn offer(machine: &Machine, repository: &std::path::Path) {
    machine.must(&["rm", "-rf", &format!("{INSIDE}/repository")]);
    machine.put(repository, &format!("{INSIDE}/repository")).expect("files can be copied");
    machine.must(&["chown", "-R", "root:root", INSIDE]);
}

/// The version that apt would install.
#[track_caller]
pub(crate) fn candidate(machine: &Machine) -> String {
    let policy = machine.must(&["apt-cache", "policy", "pumpd"]);
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    line.unwrap_or_else(|| panic!("{policy}")).to_owned()
}

/// The master is the process it was, and runs the build that its answers name.
#[track_caller]
pub(crate) fn all_are(machine: &Machine, release: &str, before: &Status) {
    let after = pump_test::eventually(AT_MOST, || match status(machine) {
        after if after.master.short() == release && after.roll.is_none() => Ok(after),
        after => Err(format!("{after:?}")),
    });
    assert_eq!(after.pid, before.pid, "the master goes on");
    let old = after.workers.iter().find(|worker| worker.build.short() != release);
    assert!(old.is_none(), "{after:?}");
    let running = ["sh", "-c", "sha256sum <\"/proc/$0/exe\"", &after.pid.to_string()];
    let running = machine.must(&running);
    assert!(running.starts_with(&after.master.build), "{running} and {after:?}");
}

/// Whatever is new is in `packaging/files.list`, with that mode and owner, or dpkg knows it.
#[track_caller]
fn listed_or_shipped(machine: &Machine, new: &[PathBuf]) {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/files.list");
    let list = std::fs::read_to_string(list).expect("the list is part of the source");
    let mut known: Vec<PathBuf> =
        machine.must(&["dpkg", "-L", "pump", "pumpd"]).lines().map(PathBuf::from).collect();
    // `/lib` is a link to `/usr/lib`.
    known.extend(
        known
            .clone()
            .iter()
            .filter_map(|path| Some(PathBuf::from("/usr").join(path.strip_prefix("/").ok()?))),
    );
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [group, _, mode, owner, path] = words[..] else { continue };
        if !["packaged", "config", "data", "runtime"].contains(&group) {
            continue;
        }
        known.push(path.into());
        if mode != "-" && machine.path(path).exists() {
            let found = machine.must(&["stat", "--format=%04a %U:%G", path]);
            assert_eq!(found.trim(), format!("{mode} {owner}"), "`{path}`");
        }
    }
    let trees = ["/var/lib/pump", "/var/lib/pump-upgrade", "/var/lib/pump-releases", "/run/pump"];
    for path in new {
        // What `systemctl enable` and dpkg keep for themselves.
        let enabled = path.ancestors().any(|path| path.to_string_lossy().ends_with(".wants"));
        let kept = ["/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd/deb-systemd-helper-enabled"];
        let in_tree = trees.iter().chain(&kept).any(|tree| path.starts_with(tree));
        assert!(enabled || in_tree || known.contains(path), "`{}` is nobody's", path.display());
    }
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p6_apt_upgrades_from_what_the_next_key_signed_and_not_from_what_is_expired_or_changed() {
    let (machine, packages) = machine("pump-repo");
    apt_install(&machine, "first");
    must_exit(&machine, 0, &["pump", "install", "--domain", "social.example", "--yes"]);
    watches_nothing(&machine);
    let begun = status(&machine);

    offer(&machine, &packages.expired);
    machine.must(&[
        "sh",
        "-c",
        &format!("apt-get install --yes {INSIDE}/repository/pool/stable/pump-archive*.deb"),
    ]);
    machine.must(&["cp", &format!("{INSIDE}/repository/pump.sources"), "/etc/apt/sources.list.d/"]);
    let told = said(&machine.run(&["apt-get", "update"]).expect("apt can be run"));
    assert!(told.contains("expired"), "{told}");
    assert!(candidate(&machine).starts_with("0.1.0"), "{}", candidate(&machine));

    offer(&machine, &packages.repository);
    let lists = format!("{INSIDE}/repository/dists/stable/main/binary-amd64");
    let change = format!("for list in $(find {lists} -type f); do echo changed >>$list; done");
    machine.must(&["sh", "-c", &change]);
    let told = said(&machine.run(&["apt-get", "update"]).expect("apt can be run"));
    assert!(told.contains("Hash Sum mismatch") || told.contains("unexpected size"), "{told}");
    assert!(candidate(&machine).starts_with("0.1.0"), "{}", candidate(&machine));
    assert_eq!(status(&machine).workers_build, begun.workers_build);

    offer(&machine, &packages.repository);
    machine.must(&["apt-get", "update"]);
    let upgrade = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "upgrade", "--yes"];
    let told = said(&must_exit(&machine, 0, &upgrade));
    assert!(told.contains("serves"), "{told}");
    all_are(&machine, &packages.second, &begun);
}

/// From our own tree to the packages and back, and no client notices.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p1_p8_a_server_is_handed_to_the_packages_and_taken_back_under_load() {
    let (machine, packages) = machine("pump-adopt");
    let releases = Releases::made();
    releases.carry(&machine);
    let installed = json(&must_exit(&machine, 0, &[INSTALL, &["--account", "alice"]].concat()));
    let password = installed["password"].as_str().expect("a password was made").to_owned();
    watches_nothing(&machine);
    let begun = status(&machine);
    let told = apt_install(&machine, "second");
    assert!(told.contains("pump adopt"), "{told}");
    assert_eq!(status(&machine).workers_build, begun.workers_build, "nothing was touched");

    let report = under_load(&machine, &password, |step| {
        step("to the package", &|| {
            must_exit(&machine, 0, &[PUMP, "adopt"]);
            all_are(&machine, &packages.second, &begun);
        });
        assert!(!machine.path("/opt/pump").exists());
        let unit = ["systemctl", "show", "--property=FragmentPath", "--value", "pumpd.service"];
        assert!(machine.must(&unit).contains("/lib/systemd/system/"), "{}", machine.must(&unit));
        must_exit(&machine, 0, &["pump", "adopt"]);
        step("reload", &|| drop(must_exit(&machine, 0, &["systemctl", "reload", "pumpd.service"])));
        step("back to the own tree", &|| {
            must_exit(&machine, 0, &["pump", "adopt", "--own-tree"]);
            machine.must(&["apt-get", "remove", "--yes", "pumpd", "pump"]);
        });
        assert!(!machine.path("/var/lib/pump-releases").exists());
        assert!(machine.must(&unit).starts_with("/etc/systemd/system/"), "{}", machine.must(&unit));
        step("reload", &|| drop(must_exit(&machine, 0, &["systemctl", "reload", "pumpd.service"])));
        all_are(&machine, &packages.second, &begun);
    });
    assert_eq!(report.failures(), 0, "{report}");
    let restarted = ["systemctl", "restart", "pumpd.service"];
    must_exit(&machine, 0, &restarted);
    assert_eq!(status(&machine).workers_build.short(), packages.second);
}

/// Clients at work while something is done to the server, alice among them, whose notes are looked for
/// afterwards. Each step begins when enough requests were made.
#[track_caller]
pub(crate) fn under_load(
    machine: &Machine,
    password: &str,
    work: impl FnOnce(&mut dyn FnMut(&str, &dyn Fn())) + Send,
) -> Report {
    let address = "127.0.0.1:8000".parse().expect("an address");
    machine.within(|| {
        let api = Api::new(address, "https://social.example");
        let alice = api.sign_in("alice", password).expect("alice can sign in");
        let mut plan = Plan::new(api.address().clone(), api.host());
        plan.lasts = AT_MOST;
        plan.authors = vec![alice];
        plan.pages = vec!["/".into(), "/@alice".into(), "/healthz".into()];
        plan.big_page = "/users/alice/outbox?page=true".into();
        let mut load = Load::start(plan);
        work(&mut |what, step| {
            let seen = load.requests() + BETWEEN_STEPS;
            pump_test::eventually(AT_MOST, || match load.requests() {
                now if now >= seen => Ok(()),
                now => Err(now),
            });
            load.mark(what);
            step();
        });
        let report = load.stop();
        for author in report.ledger().authors() {
            let shown = api.outbox(author).expect("the outbox can be read");
            let audit = report.ledger().check(Some(author), &shown);
            assert_eq!(audit.problems.len(), 0, "{:?}", audit.problems);
        }
        report
    })
}

/// The roll that is under way goes on with it. Nobody types anything.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn a_package_that_comes_while_the_one_before_is_watched_is_the_next() {
    let (machine, packages) = machine("pump-next");
    apt_install(&machine, "first");
    must_exit(&machine, 0, &["pump", "install", "--domain", "social.example", "--yes"]);
    machine.must(&["sh", "-c", "echo 'bake_seconds = 60' >>/etc/pump/upgrade.toml"]);
    let watched_for = |from: u32, to: u32| {
        let change = format!("s/bake_seconds = {from}$/bake_seconds = {to}/");
        machine.must(&["sed", "--in-place", &change, "/etc/pump/upgrade.toml"]);
    };
    let begun = status(&machine);
    let unit = ["systemctl", "show", "--property=ActiveState", "pump-package-upgrade.service"];
    let until_watched = || {
        pump_test::eventually(AT_MOST, || match machine.must(&unit) {
            state if state.contains("inactive") => Ok(()),
            state => Err(state),
        });
    };
    let told = apt_install(&machine, "second");
    assert!(told.contains("serves"), "{told}");
    let told = apt_install(&machine, "first");
    assert!(told.contains("comes next, by itself"), "{told}");
    // Nothing comes while this one is watched, so it need not be for long.
    watched_for(60, 0);
    // Back where it began: the generation tells that it was elsewhere.
    pump_test::eventually(AT_MOST, || {
        let now = status(&machine);
        let is_back = now.generation >= begun.generation + 2 && now.roll.is_none();
        if is_back { Ok(()) } else { Err(format!("{now:?}")) }
    });
    all_are(&machine, &packages.first, &begun);

    // Who forbids it meanwhile is obeyed, too.
    until_watched();
    watched_for(0, 60);
    let told = apt_install(&machine, "second");
    assert!(told.contains("serves"), "{told}");
    let forbid =
        "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d";
    machine.must(&["sh", "-c", forbid]);
    let told = apt_install(&machine, "first");
    assert!(told.contains("policy-rc.d") && told.contains("pump upgrade"), "{told}");
    until_watched();
    all_are(&machine, &packages.second, &begun);
}

/// Puts a database of the schema before there, as a release before would have left it: three accounts, 100 notes. Returns
/// the ids of those.
#[track_caller]
fn data_of_an_older_release(machine: &Machine) -> Vec<i64> {
    let made = tempfile::tempdir().expect("a folder");
    let notes = pump_store::sample(made.path(), "https://social.example", 3, 100, 1);
    let data = "/var/lib/pump/pump.sqlite3";
    machine.must(&["sh", "-c", &format!("rm {data}*")]);
    machine.put(&made.path().join("pump.sqlite3"), data).expect("a file can be put there");
    machine.must(&["chown", "pump:pump", data]);
    notes.expect("a database")
}

/// The only copy of the database that there is, of that database. Returns what it is called.
#[track_caller]
fn the_only_backup(machine: &Machine, of: &str, before: &str) -> String {
    let kept = json(&must_exit(machine, 0, &["pump", "backup", "list", "--json"]));
    let [only] = &kept["backups"].as_array().expect("a list")[..] else { panic!("{kept}") };
    let it = &only["backup"];
    assert_eq!((&it["version"], &it["notes"]), (&1.into(), &100.into()), "{kept}");
    assert_eq!((&it["release"], &it["before"]), (&of.into(), &before.into()), "{kept}");
    must_exit(machine, 0, &["pump", "backup", "verify"]);
    only["name"].as_str().expect("it has a name").to_owned()
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p7_a_package_that_changes_the_schema_copies_the_database_before() {
    let (machine, packages) = machine("pump-schema");
    apt_install(&machine, "first");
    must_exit(&machine, 0, &["pump", "install", "--domain", "social.example", "--yes"]);
    must_exit(&machine, 0, &["pump", "stop"]);
    data_of_an_older_release(&machine);
    let older =
        r#"s/"schema":{"version":[0-9]*,"compat":[0-9]*}/"schema":{"version":1,"compat":1}/"#;
    machine.must(&["sed", "--in-place", older, "/var/lib/pump-releases/current/RELEASE.json"]);

    let told = apt_install(&machine, "second");
    assert!(told.contains("from schema 1 to 2") && told.contains("is made and checked"), "{told}");
    the_only_backup(&machine, &packages.first, &packages.second);
    must_exit(&machine, 0, &["pump", "start"]);
    assert_eq!(status(&machine).workers_build.short(), packages.second);
}

/// The package that has written the data is gone, and nobody can be asked what it was but the data.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p7_p8_a_package_over_the_data_of_a_removed_one_copies_the_database_before() {
    let (machine, packages) = machine("pump-left");
    apt_install(&machine, "first");
    must_exit(&machine, 0, &["pump", "install", "--domain", "social.example", "--yes"]);
    let remove = ["apt-get", "remove", "--yes", "pumpd", "pump"];
    machine.must(&remove);
    data_of_an_older_release(&machine);
    let database = || machine.must(&["sha256sum", "/var/lib/pump/pump.sqlite3"]);
    let left = database();

    // Without a copy nothing is started on it, and dpkg has nothing left to do.
    machine.must(&["sh", "-c", "echo >/var/lib/pump-upgrade/backups"]);
    let told = apt_install(&machine, "second");
    let says = ["nothing was started", "pump-upgrade/backups", "sudo pump install"];
    assert!(says.iter().all(|it| told.contains(it)), "{told}");
    assert_eq!(machine.must(&["dpkg", "--audit"]), "");
    assert_eq!(machine.must(&["ss", "-Hltn"]), "");
    assert_eq!(database(), left, "it is as it was");
    // What the script says to do then does it.
    machine.must(&["rm", "/var/lib/pump-upgrade/backups"]);
    let told = said(&must_exit(&machine, 0, &["pump", "install"]));
    assert!(told.contains("is made and checked"), "{told}");
    the_only_backup(&machine, "a release that was removed", &packages.second);
    assert_eq!(status(&machine).workers_build.short(), packages.second);
    machine.must(&remove);

    machine.must(&["rm", "-r", "/var/lib/pump-upgrade/backups"]);
    let notes = data_of_an_older_release(&machine);
    let told = apt_install(&machine, "second");
    let says = ["from schema 1 to 2", "is made and checked", "serves, as configured"];
    assert!(says.iter().all(|it| told.contains(it)), "{told}");
    assert_eq!(status(&machine).workers_build.short(), packages.second);
    let copy = the_only_backup(&machine, "a release that was removed", &packages.second);
    let all_are_there = || {
        machine.within(|| {
            let api = Api::new("127.0.0.1:8000".parse().expect("ours"), "https://social.example");
            for note in &notes {
                let shown = api.get(&format!("/notes/{note}"), None).expect("it is there");
                let text = shown["content"].as_str().unwrap_or_default();
                assert!(text.contains("of a sample"), "{shown}");
            }
        });
    };
    all_are_there();
    let told = said(&must_exit(&machine, 0, &["pump", "restore", &copy, "--stop", "--yes"]));
    assert!(told.contains("schema 1, 100 notes"), "{told}");
    all_are_there();
    // The same package again meets what it has written itself.
    machine.must(&remove);
    let told = apt_install(&machine, "second");
    assert!(told.contains("serves, as configured") && !told.contains("schema"), "{told}");
}

/// What an administrator, a hold or a policy forbids is not done, and said; and `pump upgrade` does it later.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn a_policy_and_a_hold_are_obeyed_and_the_upgrade_is_finished_by_hand() {
    let (machine, packages) = machine("pump-policy");
    apt_install(&machine, "first");
    must_exit(&machine, 0, &["pump", "install", "--domain", "social.example", "--yes"]);
    watches_nothing(&machine);
    let begun = status(&machine);
    offer(&machine, &packages.repository);
    machine.must(&[
        "sh",
        "-c",
        &format!("apt-get install --yes {INSIDE}/repository/pool/stable/pump-archive*.deb"),
    ]);
    machine.must(&["cp", &format!("{INSIDE}/repository/pump.sources"), "/etc/apt/sources.list.d/"]);
    machine.must(&["apt-get", "update"]);
    machine.must(&["apt-mark", "hold", "pump", "pumpd"]);
    let upgrade = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "upgrade", "--yes"];
    must_exit(&machine, 0, &upgrade);
    assert!(machine.must(&["dpkg-query", "-W", "pumpd"]).contains("0.1.0"));
    machine.must(&["apt-mark", "unhold", "pump", "pumpd"]);

    machine.must(&[
        "sh",
        "-c",
        "printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d",
    ]);
    let told = said(&must_exit(&machine, 0, &upgrade));
    assert!(told.contains("policy-rc.d") && told.contains("pump upgrade"), "{told}");
    let after = status(&machine);
    assert_eq!(after.workers_build, begun.workers_build, "nothing was touched");
    assert_eq!(after.generation, begun.generation, "nothing was touched");
    machine.must(&["dpkg", "--audit"]);
    let told = said(&must_exit(&machine, 10, &["pump", "upgrade", "--check"]));
    assert!(told.contains(&packages.second), "{told}");
    let waits = format!("the package brought {}", packages.second);
    for words in [["pump", "status"], ["pump", "doctor"]] {
        let told = said(&must_exit(&machine, 0, &words));
        assert!(told.contains(&waits) && told.contains("pump upgrade"), "{told}");
    }

    // What a crash starts is what was proven.
    machine.must(&["systemctl", "restart", "pumpd.service"]);
    assert_eq!(status(&machine).workers_build, begun.workers_build);
    let begun = status(&machine);
    must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime"]);
    all_are(&machine, &packages.second, &begun);
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn p1_p4_p8_packages_install_upgrade_downgrade_and_purge_without_a_lost_request() {
    let (machine, packages) = machine("pump-apt");
    let before = State::of(&machine);
    let told = apt_install(&machine, "first");
    assert!(told.contains("sudo pump install"), "{told}");
    let password = configure(&machine);
    watches_nothing(&machine);
    let score = ["systemd-analyze", "security", "--no-pager", "--threshold=11", "pumpd.service"];
    machine.must(&score);
    let begun = status(&machine);
    assert_eq!(begun.workers_build.short(), packages.first);

    // P8: a second run changes nothing.
    let made = State::of(&machine);
    listed_or_shipped(&machine, &before.new_files(&made));
    let again = json(&must_exit(&machine, 0, &["pump", "install", "--json"]));
    assert_eq!(again["changed"], serde_json::json!([]), "{again}");
    assert_eq!(made.differences(&State::of(&machine)), [""; 0]);

    let report = under_load(&machine, &password, |step| {
        step("upgrade", &|| {
            let told = apt_install(&machine, "second");
            assert!(told.contains("serves"), "{told}");
            all_are(&machine, &packages.second, &begun);
        });
        step("go back", &|| {
            must_exit(&machine, 0, &["pump", "rollback", "--yes"]);
            all_are(&machine, &packages.first, &begun);
        });
        step("forward again", &|| {
            must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime"]);
            all_are(&machine, &packages.second, &begun);
        });
        step("downgrade", &|| {
            apt_install(&machine, "first");
            all_are(&machine, &packages.first, &begun);
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    assert!(report.requests() >= 20_000, "{report}");

    machine.must(&["apt-get", "remove", "--yes", "pumpd", "pump"]);
    assert!(machine.path("/var/lib/pump/pump.sqlite3").exists(), "data stays");
    let told = apt_install(&machine, "second");
    assert!(told.contains("serves, as configured"), "{told}");
    assert_eq!(status(&machine).workers_build.short(), packages.second);
    machine.must(&["apt-get", "purge", "--yes", "pumpd", "pump"]);
    let left: Vec<String> = before
        .differences(&State::of(&machine))
        .into_iter()
        .filter(|line| !line.contains("/var/lib/dpkg/") && !line.contains("/var/lib/apt/"))
        // Forgotten by systemd as soon as it looks for what nobody needs any more.
        .filter(|line| !line.contains("pump-package-upgrade.service"))
        .collect();
    assert_eq!(left, [""; 0]);
}
