//! `pump upgrade` where packages own the program: it has apt install what is newer, with the same gates as ever.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use pump_test::machine::{Machine, said};

use super::asking::{must_exit, status};
use super::packages::{
    INSIDE, Packages, all_are, apt_install, configure, machine, offer, under_load, watches_nothing,
};

/// Holds a lock as dpkg does (fcntl(2)) until its input ends.
const HOLD: &str = r#"use Fcntl;
    open(my $f, ">>", "/var/lib/dpkg/lock-frontend") or die;
    my $lock = pack("s s x4 q q l x4", F_WRLCK, 0, 0, 0, 0);
    fcntl($f, F_SETLK, $lock) or die;
    $| = 1; print "held\n"; <STDIN>;"#;

/// The machine's apt knows the repository that offers the newer version.
#[track_caller]
pub(crate) fn subscribed(machine: &Machine, packages: &Packages) {
    offer(machine, &packages.repository);
    let keyring =
        format!("apt-get install --yes {INSIDE}/repository/pool/stable/pump-archive*.deb");
    machine.must(&["sh", "-c", &keyring]);
    machine.must(&["cp", &format!("{INSIDE}/repository/pump.sources"), "/etc/apt/sources.list.d/"]);
}

/// The version of the daemon's package that dpkg has.
pub(crate) fn packaged(machine: &Machine) -> String {
    machine.must(&["dpkg-query", "--show", "--showformat=${Version}", "pumpd"])
}

fn hold_the_lock(machine: &Machine) -> Child {
    let mut holder = machine
        .command("perl")
        .args(["-e", HOLD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter can be run");
    let mut line = String::new();
    let told = holder.stdout.as_mut().expect("a piped output");
    BufReader::new(told).read_line(&mut line).expect("it tells when it holds it");
    assert_eq!(line, "held\n");
    holder
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn b16_p1_pump_upgrade_has_apt_bring_the_package_and_goes_onto_it_under_load() {
    let (machine, packages) = machine("pump-driven");
    apt_install(&machine, "first");
    let password = configure(&machine);
    watches_nothing(&machine);
    machine.must(&["sh", "-c", "echo 'lock_seconds = 1' >>/etc/pump/upgrade.toml"]);
    let begun = status(&machine);
    let first = packaged(&machine);
    let nothing_changed = || {
        assert_eq!(packaged(&machine), first);
        assert_eq!(status(&machine).generation, begun.generation);
    };

    subscribed(&machine, &packages);
    let told = said(&must_exit(&machine, 10, &["pump", "upgrade", "--check"]));
    assert!(told.contains("pumpd 0.1.1") && told.contains("pump upgrade"), "{told}");
    must_exit(&machine, 0, &["pump", "upgrade", "--dry-run"]);
    nothing_changed();

    let foreign = ["pump", "upgrade", "--to", "0.1.1"];
    let told = said(&must_exit(&machine, 80, &foreign));
    assert!(told.contains("apt install pumpd=VERSION"), "{told}");

    must_exit(&machine, 0, &["pump", "hold", "--reason", "not now"]);
    must_exit(&machine, 20, &["pump", "upgrade"]);
    must_exit(&machine, 0, &["pump", "unhold"]);
    machine.must(&["apt-mark", "hold", "pumpd"]);
    let told = said(&must_exit(&machine, 20, &["pump", "upgrade"]));
    assert!(told.contains("apt-mark unhold"), "{told}");
    machine.must(&["apt-mark", "unhold", "pumpd"]);
    nothing_changed();

    // What the administrator pins is not asked for.
    machine.must(&[
        "sh",
        "-c",
        "printf 'Package: pump pumpd\\nPin: version 0.1.0*\\nPin-Priority: 990\\n' >/etc/apt/preferences.d/mine",
    ]);
    let told = said(&must_exit(&machine, 0, &["pump", "upgrade"]));
    assert!(told.contains("nothing to do"), "{told}");
    must_exit(&machine, 0, &["pump", "upgrade", "--check"]);
    machine.must(&["rm", "/etc/apt/preferences.d/mine"]);
    nothing_changed();

    let mut holder = hold_the_lock(&machine);
    let told = said(&must_exit(&machine, 70, &["pump", "upgrade"]));
    assert!(told.contains("perl"), "{told}");
    drop(holder.stdin.take());
    holder.wait().expect("our own child");
    nothing_changed();

    // Somebody else's package that was left half done is named, and not mended by us.
    machine.must(&[
        "sh",
        "-ec",
        "mkdir -p /run/deb/DEBIAN
         printf 'Package: other\\nVersion: 1\\nArchitecture: all\\nMaintainer: a\\nDescription: b\\n' \
             >/run/deb/DEBIAN/control
         printf '#!/bin/sh\\nexit 1\\n' >/run/deb/DEBIAN/postinst
         chmod 0755 /run/deb/DEBIAN/postinst
         dpkg-deb --build /run/deb /run/other.deb
         ! dpkg --install /run/other.deb",
    ]);
    let told = said(&must_exit(&machine, 50, &["pump", "upgrade"]));
    assert!(told.contains("other half done") && told.contains("dpkg --configure -a"), "{told}");
    nothing_changed();
    machine.must(&["dpkg", "--purge", "other"]);

    let report = under_load(&machine, &password, |step| {
        step("pump upgrade", &|| {
            // Our own that was left half done is mended first.
            machine.must(&["sh", "-c", &format!("dpkg --unpack {INSIDE}/first/pumpd_*.deb")]);
            let told = said(&must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime"]));
            assert!(told.contains("finishes pumpd") && told.contains("serves"), "{told}");
            all_are(&machine, &packages.second, &begun);
        });
        step("pump rollback", &|| {
            must_exit(&machine, 0, &["pump", "rollback", "--yes"]);
            all_are(&machine, &packages.first, &begun);
        });
        step("pump upgrade again", &|| {
            must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime"]);
            all_are(&machine, &packages.second, &begun);
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    assert!(report.requests() >= 20_000, "{report}");
    assert_ne!(packaged(&machine), first);
    assert_eq!(machine.must(&["dpkg", "--audit"]), "");
    // The package's own scripts left it to who had it installed.
    let scripts = ["journalctl", "--quiet", "--unit=pump-package-upgrade.service"];
    assert_eq!(machine.must(&scripts), "");
    let told = said(&must_exit(&machine, 0, &["pump", "upgrade"]));
    assert!(told.contains("nothing to do"), "{told}");
    let history = said(&must_exit(&machine, 0, &["pump", "history", "--verify"]));
    assert!(history.contains("as they were written"), "{history}");

    // Nobody looks by itself, and what it takes is named.
    let why = said(&must_exit(&machine, 0, &["pump", "auto-upgrade", "status", "--why"]));
    assert!(why.contains("pump auto-upgrade enable"), "{why}");
    let told = said(&must_exit(&machine, 80, &["pump", "auto-upgrade", "enable"]));
    assert!(told.contains("apt install unattended-upgrades"), "{told}");
    must_exit(&machine, 0, &["pump", "doctor"]);
}
