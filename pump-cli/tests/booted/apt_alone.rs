//! unattended-upgrades, started as its timer starts it, brings the packages; needrestart, told to restart whatever it
//! likes, looks on. Nobody types anything.

use pump_test::fake::{Faults, faulty};
use pump_test::machine::{Machine, said};
use pump_test::openmetrics::Samples;

use super::asking::{AT_MOST, json, must_exit, status};
use super::driven::{packaged, subscribed};
use super::packages::{
    INSIDE, Packages, all_are, apt_install, machine_with, under_load, watches_nothing,
};

/// What looks by itself on such a machine.
const ALONE: [&str; 2] = ["unattended-upgrades", "needrestart"];

/// Makes a folder of packages a repository of this origin, which apt has been told to believe.
const INDEX: &str = r#"cd "$1"
    for deb in *.deb; do
        dpkg-deb --field "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$deb" "$(stat --format=%s "$deb")" \
            "$(sha256sum "$deb" | cut -d' ' -f1)"
    done >Packages
    printf 'Origin: %s\nSuite: stable\nSHA256:\n %s %s Packages\n' "$2" \
        "$(sha256sum Packages | cut -d' ' -f1)" "$(stat --format=%s Packages)" >Release
    echo "deb [trusted=yes] file:$1 ./" >"/etc/apt/sources.list.d/$2.list""#;

/// Somebody else's repository. It has a newer version of a package of theirs, and of ours, too.
const STRANGERS: &str = r#"mkdir -p /run/strangers; cd /run/strangers
    make() {
        mkdir -p "$1/DEBIAN"
        printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: a\nDescription: b\n' "$1" "$2" \
            >"$1/DEBIAN/control"
        dpkg-deb --build "$1" "$1_$2.deb"
    }
    make other 1; dpkg --install other_1.deb; rm other_1.deb
    make other 2; make pumpd 9"#;

/// The packages of the newer version once more, under another version and with another `pumpd`.
const REPACK: &str = r#"rm -rf /run/next; mkdir -p /run/next/bin; cd /run/next
    for name in pump pumpd; do
        dpkg-deb --raw-extract "$1"/second/${name}_*.deb $name
        sed -i "s/0\.1\.1/$2/" $name/DEBIAN/control
    done
    cp pump/usr/lib/pump/bin/pump "$1/pumpd" bin/
    bin/pump --quiet generate release .
    cp bin/pumpd pumpd/usr/lib/pump/bin/; cp RELEASE.json FILES pumpd/usr/lib/pump/
    for name in pump pumpd; do dpkg-deb -Znone --build $name .; done"#;

/// Whoever is responsible wants to be told.
const NOTIFY: &str = r#"printf '#!/bin/sh\necho $PUMP_EVENT $PUMP_TO >>/var/log/notified\n' >/usr/local/bin/tell
    chmod +x /usr/local/bin/tell
    printf '[notify]\ncommand = ["/usr/local/bin/tell"]\n' >>/etc/pump/upgrade.toml"#;

fn shell(machine: &Machine, script: &str, words: &[&str]) {
    machine.must(&[&["sh", "-ec", script, "sh"], words].concat());
}

/// A day passes, and apt's timers elapse.
#[track_caller]
fn a_day_passes(machine: &Machine) {
    machine.must(&["sh", "-c", "rm -f /var/lib/apt/periodic/*"]);
    for unit in ["apt-daily.service", "apt-daily-upgrade.service"] {
        must_exit(machine, 0, &["systemctl", "start", unit]);
    }
}

/// What it wrote down, its own words and dpkg's.
fn log(machine: &Machine) -> String {
    machine.must(&["sh", "-c", "cat /var/log/unattended-upgrades/*.log"])
}

/// A version follows that does this. Returns its release's name.
fn next(machine: &Machine, version: &str, faults: Faults) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let own = pump_test::pumpd().expect("a build for tests");
    let faults = Faults { version: Some(version.to_owned()), ..faults };
    let program = faulty(&own, folder.path(), "pumpd", &faults).expect("a copy");
    machine.put(&program, &format!("{INSIDE}/pumpd")).expect("files can be copied");
    shell(machine, REPACK, &[INSIDE, version]);
    shell(machine, INDEX, &["/run/next", "Pump"]);
    let release = machine.must(&["cat", "/run/next/RELEASE.json"]);
    let release: serde_json::Value = serde_json::from_str(&release).expect("JSON");
    format!("{version}+{}", &release["build"].as_str().expect("a hash")[..8])
}

/// A server of these packages with an account, on a machine that upgrades by itself. Returns her password.
fn installed(machine: &Machine, packages: &Packages, which: &str) -> String {
    let restart = "mkdir -p /etc/needrestart/conf.d
        echo '$nrconf{restart} = q(a);' >/etc/needrestart/conf.d/50-mine.conf";
    shell(machine, restart, &[]);
    apt_install(machine, which);
    let install =
        ["pump", "install", "--domain", "social.example", "--account", "alice", "--yes", "--json"];
    let told = json(&must_exit(machine, 0, &install));
    watches_nothing(machine);
    subscribed(machine, packages);
    told["password"].as_str().expect("a password was made").to_owned()
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn b16_p1_p4_unattended_upgrades_brings_our_packages_and_no_stranger_s_under_load() {
    let (machine, packages) = machine_with("pump-alone", &ALONE);
    let password = installed(&machine, &packages, "first");
    shell(&machine, STRANGERS, &[]);
    shell(&machine, INDEX, &["/run/strangers", "Strangers"]);
    shell(&machine, NOTIFY, &[]);
    let begun = status(&machine);
    let first = packaged(&machine);
    a_day_passes(&machine);
    assert_eq!(packaged(&machine), first, "nobody has told it of our packages");

    must_exit(&machine, 0, &["pump", "auto-upgrade", "enable"]);
    let report = under_load(&machine, &password, |step| {
        step("unattended-upgrades", &|| {
            a_day_passes(&machine);
            assert!(packaged(&machine).starts_with("0.1.1"), "{}", packaged(&machine));
            all_are(&machine, &packages.second, &begun);
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    let told = log(&machine);
    assert!(told.contains("All upgrades installed"), "{told}");
    assert!(told.contains(&format!("{} serves", packages.second)), "{told}");
    assert!(!told.contains("goes on serving"), "needrestart says nothing of it: {told}");
    let figures = figures_of(&machine);
    assert_eq!(figures("pump_rolls_total{outcome=\"done\"}"), 1.0);
    assert_eq!(figures("pump_latched"), 0.0);
    assert_eq!(figures("pump_upgrade_available{target=\"\"}"), 0.0);
    assert!(figures("pump_upgrade_last_upgrade_timestamp_seconds") > 0.0);
    // The script waits for the workers, and the roll goes on without it to its end.
    let confirmed = format!("confirmed {}\n", packages.second);
    pump_test::eventually(AT_MOST, || {
        let told = machine.run(&["cat", "/var/log/notified"]).expect("it can be run");
        if told.stdout == confirmed.as_bytes() { Ok(()) } else { Err(said(&told)) }
    });
    // A stranger's package stays what it was.
    assert_eq!(machine.must(&["dpkg-query", "--show", "--showformat=${Version}", "other"]), "1");
    assert_eq!(machine.must(&["dpkg", "--audit"]), "");
    assert!(!machine.path("/run/reboot-required").exists(), "nobody need reboot for it");
    let failed = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"];
    assert_eq!(machine.must(&failed), "");
}

/// Nobody looks on: what came of it has to stand where somebody will.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn what_unattended_upgrades_brings_and_may_not_serve_waits_and_is_told_of() {
    let (machine, packages) = machine_with("pump-waits", &ALONE);
    installed(&machine, &packages, "second");
    must_exit(&machine, 0, &["pump", "auto-upgrade", "enable"]);
    shell(&machine, NOTIFY, &[]);
    let begun = status(&machine);
    let mut notified = String::new();
    // One that fails, and one that may not run beside what serves.
    for (version, faults, why, event) in [
        ("0.1.2", Faults { exits: Some(3), ..Faults::default() }, "it exited with 3", "failed"),
        ("0.1.3", Faults { magic: Some(99), ..Faults::default() }, "the other one 99", "held"),
    ] {
        let brought = next(&machine, version, faults);
        a_day_passes(&machine);
        assert!(packaged(&machine).starts_with(version), "{}", packaged(&machine));
        assert_eq!(machine.must(&["dpkg", "--audit"]), "");
        all_are(&machine, &packages.second, &begun);
        let told = log(&machine);
        let told = told.rsplit("Log started").next().unwrap_or_default();
        let waits =
            format!("the package brought {brought}, and {} goes on serving", packages.second);
        // The script's own words, and needrestart's after it.
        assert!(told.contains(why) && told.contains(&waits), "{told}");
        for words in [["pump", "status"], ["pump", "doctor"]] {
            let told = said(&must_exit(&machine, 0, &words));
            assert!(told.contains(&waits) && told.contains("pump upgrade --dry-run"), "{told}");
        }
        let figures = figures_of(&machine);
        assert_eq!(figures(&format!("pump_upgrade_available{{target=\"{brought}\"}}")), 1.0);
        assert_eq!(figures("pump_rolls_total{outcome=\"failed\"}"), 1.0);
        assert_eq!(figures("pump_latched"), 1.0);
        notified += &format!("{event} {brought}\n");
        assert_eq!(machine.must(&["cat", "/var/log/notified"]), notified);
        let told = machine.must(&["pump", "metrics", "--upgrades"]);
        assert!(told.contains("pump_upgrade_rejected{release=\"0.1.2+"), "{told}");
    }
    let why = said(&must_exit(&machine, 0, &["pump", "upgrade", "--dry-run"]));
    assert!(why.contains("needs a restart in which connections wait"), "{why}");
}

/// The server's own figures.
#[track_caller]
fn figures_of(machine: &Machine) -> impl Fn(&str) -> f64 {
    let text = machine.must(&["pump", "metrics"]);
    let samples = Samples::read(&text).expect("the server's figures can be read");
    move |name| samples.get(name).unwrap_or_else(|| panic!("no `{name}`: {text}"))
}
