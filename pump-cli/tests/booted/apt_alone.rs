//! unattended-upgrades, started as its timer starts it, brings the packages; needrestart, told to restart whatever it
//! likes, looks on. Nobody types anything.

use pump_test::machine::Machine;

use super::asking::{json, must_exit, status};
use super::driven::{packaged, subscribed};
use super::packages::{Packages, all_are, apt_install, machine_with, under_load, watches_nothing};

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

/// A server of the older packages with an account, on a machine that upgrades by itself. Returns her password.
fn installed(machine: &Machine, packages: &Packages) -> String {
    let restart = "mkdir -p /etc/needrestart/conf.d
        echo '$nrconf{restart} = q(a);' >/etc/needrestart/conf.d/50-mine.conf";
    shell(machine, restart, &[]);
    apt_install(machine, "first");
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
    let password = installed(&machine, &packages);
    shell(&machine, STRANGERS, &[]);
    shell(&machine, INDEX, &["/run/strangers", "Strangers"]);
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
    // A stranger's package stays what it was.
    assert_eq!(machine.must(&["dpkg-query", "--show", "--showformat=${Version}", "other"]), "1");
    assert_eq!(machine.must(&["dpkg", "--audit"]), "");
    assert!(!machine.path("/run/reboot-required").exists(), "nobody need reboot for it");
    let failed = ["systemctl", "list-units", "--failed", "--plain", "--no-legend"];
    assert_eq!(machine.must(&failed), "");
}
