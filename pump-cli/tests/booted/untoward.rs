//! Packages on a real systemd when something goes wrong: a build that is no good, one that may not run beside the
//! other, a dpkg that is killed, a library that is replaced.

use std::process::{Command, Stdio};

use pump_control::control::Worker;
use pump_test::fake::{Faults, faulty, write_executable};
use pump_test::machine::{Machine, said};

use super::asking::{AT_MOST, drop_in, json, must_exit, status};
use super::packages::{
    INSIDE, Packages, all_are, apt_install, apt_line, configure, machine, machine_with, under_load,
    watches_nothing,
};

/// Packs the newer packages again, as a version of their own whose daemon fails as it is told, and puts them into the
/// machine's folder of that name.
#[track_caller]
fn packed(machine: &Machine, packages: &Packages, version: &str, faults: &Faults) {
    let work = tempfile::tempdir().expect("a folder");
    let own = pump_test::pumpd().expect("a build for tests");
    let faults = Faults { version: Some(version.to_owned()), ..faults.clone() };
    let program = faulty(&own, work.path(), "pumpd", &faults).expect("a copy");
    let script = r#"
        cd "$1"; trees="pump pumpd"
        for name in $trees; do dpkg-deb --raw-extract "$2/${name}_"*.deb "$name"; done
        # What a release is, is told of both programs.
        mkdir -p stage/bin; cp pump/usr/lib/pump/bin/pump stage/bin/pump; cp pumpd.bin stage/bin/pumpd
        stage/bin/pump --quiet generate release stage
        cp stage/bin/pumpd pumpd/usr/lib/pump/bin/pumpd; cp stage/RELEASE.json stage/FILES pumpd/usr/lib/pump/
        mkdir made
        for name in $trees; do
            sed -i "s/^Version: .*/Version: $3-1/; s/pump (= [^)]*)/pump (= $3-1)/" "$name/DEBIAN/control"
            rm -f "$name/DEBIAN/md5sums"
            dpkg-deb -Znone --root-owner-group --build "$name" "made/${name}_$3.deb"
        done"#;
    std::fs::rename(program, work.path().join("pumpd.bin")).expect("ours");
    let mut pack = Command::new("sh");
    pack.args(["-ec", script, "sh"]).arg(work.path()).arg(&packages.folders[1]).arg(version);
    let made = pack.output().expect("sh can be run");
    assert!(made.status.success(), "{}", said(&made));
    let inside = format!("{INSIDE}/{version}");
    machine.put(&work.path().join("made"), &inside).expect("files can be copied");
    machine.must(&["chown", "-R", "root:root", INSIDE]);
}

/// dpkg has nothing left to do.
#[track_caller]
fn dpkg_is_content(machine: &Machine) {
    assert_eq!(machine.must(&["dpkg", "--audit"]), "");
    let states = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ", "pump", "pumpd"];
    assert_eq!(machine.must(&states).trim(), "ii  ii");
}

/// Whoever asks is told that a package waits.
#[track_caller]
fn tells_that_it_waits(machine: &Machine, version: &str) {
    let waits = format!("the package brought {version}+");
    for words in [&["pump", "status"][..], &["pump", "doctor"]] {
        let told = said(&machine.run(words).expect("it can be run"));
        assert!(told.contains(&waits) && told.contains("pump upgrade"), "{words:?}: {told}");
    }
    let told = json(&must_exit(machine, 0, &["pump", "status", "--json"]));
    assert!(
        told["package"]["brought"].as_str().is_some_and(|it| it.starts_with(version)),
        "{told}"
    );
}

#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn a_package_with_a_build_that_is_no_good_or_of_another_magic_is_told_of_and_the_old_one_serves() {
    let (machine, packages) = machine("pump-untoward");
    apt_install(&machine, "first");
    configure(&machine);
    watches_nothing(&machine);
    let begun = status(&machine);

    // What systemd still knows of a roll before is not in the way of the next one.
    let unit = "pump-package-upgrade.service";
    machine.must(&["systemd-run", "--quiet", &format!("--unit={unit}"), "false"]);
    pump_test::eventually(AT_MOST, || {
        match machine.must(&["systemctl", "show", "--property=ActiveState", "--value", unit]) {
            state if state.trim() == "failed" => Ok(()),
            state => Err(state),
        }
    });
    packed(&machine, &packages, "0.1.2", &Faults { exits: Some(3), ..Faults::default() });
    let told = apt_install(&machine, "0.1.2");
    let says = ["goes on serving", "exited with 3", "sudo pump upgrade"];
    assert!(says.iter().all(|it| told.contains(it)), "{told}");
    dpkg_is_content(&machine);
    let after = status(&machine);
    assert_eq!((after.pid, &after.workers_build), (begun.pid, &begun.workers_build));
    tells_that_it_waits(&machine, "0.1.2");
    // What a crash starts is what was proven, and dpkg is not asked to try again.
    machine.must(&["dpkg", "--configure", "--pending"]);
    machine.must(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", "pumpd.service"]);
    pump_test::eventually(AT_MOST, || {
        let told = machine.run(&["pump", "status"]).expect("it can be run");
        if told.status.success() { Ok(()) } else { Err(said(&told)) }
    });
    assert_eq!(status(&machine).workers_build, begun.workers_build);

    // `apt full-upgrade` may bring it, and it slips in nowhere.
    packed(&machine, &packages, "0.1.3", &Faults { magic: Some(99), ..Faults::default() });
    let begun = status(&machine);
    let told = apt_install(&machine, "0.1.3");
    let says = ["goes on serving", "needs a restart", "magic", "sudo pump upgrade"];
    assert!(says.iter().all(|it| told.contains(it)), "{told}");
    dpkg_is_content(&machine);
    tells_that_it_waits(&machine, "0.1.3");
    let refused = said(&must_exit(&machine, 30, &["pump", "upgrade", "--zero-downtime"]));
    assert!(refused.contains("99"), "{refused}");
    let after = status(&machine);
    assert_eq!((after.pid, after.generation), (begun.pid, begun.generation), "nothing was touched");
    // Agreed to, connections wait for it.
    must_exit(&machine, 0, &["pump", "upgrade", "--yes"]);
    assert!(status(&machine).workers_build.short().starts_with("0.1.3+"));
    let told = said(&must_exit(&machine, 0, &["pump", "doctor"]));
    assert!(told.contains("does not wait"), "{told}");
}

const CUT_UNPACKING: &str = r#"#!/bin/sh
case "$*" in
*--fsys-tarfile*/pumpd_*) /usr/bin/dpkg-deb "$@" | head --bytes=1000000; kill -9 $PPID ;;
*) exec /usr/bin/dpkg-deb "$@" ;;
esac
"#;

const CUT_UNPACKED: &str = r#"#!/bin/sh
case "$*" in *--configure*) kill -9 $$ ;; esac
exec /usr/bin/dpkg "$@"
"#;

const CUT_ROLLING: &str = r#"#!/bin/sh
while read -r line; do
    case "$line" in "processing: configure: pumpd"*)
        until [ -e /run/systemd/transient/pump-package-upgrade.service ]; do [ -e /proc/$PPID ] || exit; done
        kill -9 $PPID
        exit ;;
    esac
done
"#;

/// Where dpkg is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// When it has a part of the daemon's package: what hands it the files does it.
    Unpacking,
    /// When all is unpacked and it was to configure: in its place something is run that is killed.
    Unpacked,
    /// While our own script waits for the roll that it has begun, by a line that dpkg says of its work
    /// (`--status-logger`, dpkg(1)).
    Rolling,
}

impl Cut {
    /// The program that has to be there for it, and what is in it.
    fn cause(self) -> (String, &'static str) {
        match self {
            // apt has dpkg look here first (apt.conf(5), `DPkg::Path`).
            Self::Unpacking => ("/usr/sbin/dpkg-deb".to_owned(), CUT_UNPACKING),
            Self::Unpacked => (format!("{INSIDE}/dpkg"), CUT_UNPACKED),
            Self::Rolling => (format!("{INSIDE}/killer"), CUT_ROLLING),
        }
    }

    /// With what apt is told of it.
    fn flags(self) -> String {
        match self {
            Self::Unpacking => String::new(),
            Self::Unpacked => format!("-o Dir::Bin::dpkg={INSIDE}/dpkg"),
            Self::Rolling => format!("-o DPkg::Options::=--status-logger='exec {INSIDE}/killer'"),
        }
    }
}

/// Has apt install the newer packages, and dpkg killed.
#[track_caller]
fn killed_at(machine: &Machine, cut: Cut) {
    let (path, text) = cut.cause();
    write_executable(&machine.path(&path), text.as_bytes()).expect("a file can be put there");
    let install = format!(
        "DEBIAN_FRONTEND=noninteractive apt-get {} install --yes \
         {INSIDE}/second/pump_*.deb {INSIDE}/second/pumpd_*.deb",
        cut.flags()
    );
    let ended = machine.run(&["sh", "-c", &install]).expect("it can be run");
    machine.must(&["rm", &path]);
    assert!(!ended.status.success(), "{cut:?}: {}", said(&ended));
    let audit = machine.must(&["dpkg", "--audit"]);
    assert_ne!(audit, "", "{cut:?}: it was cut: {}", said(&ended));
    let state =
        machine.must(&["dpkg-query", "--show", "--showformat=${db:Status-Status}", "pumpd"]);
    let wanted = match cut {
        Cut::Unpacking => "half-installed",
        Cut::Unpacked => "unpacked",
        Cut::Rolling => "half-configured",
    };
    assert_eq!(state, wanted, "{audit}{}", said(&ended));
}

/// Cut while it unpacks, between unpacking and configuring, and while our own script runs. No client notices, the server
/// that crashes then starts from its copy, and what dpkg's manual says finishes it.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn b16_a_dpkg_that_is_killed_leaves_a_server_that_serves_and_is_finished_as_usual() {
    let (machine, packages) = machine("pump-cut");
    apt_install(&machine, "first");
    let password = configure(&machine);
    watches_nothing(&machine);
    let begun = status(&machine);
    let report = under_load(&machine, &password, |step| {
        let kill = ["systemctl", "kill", "--signal=KILL", "--kill-who=main", "pumpd.service"];
        for point in [Cut::Unpacking, Cut::Unpacked, Cut::Rolling] {
            step(&format!("{point:?}"), &|| killed_at(&machine, point));
            if point != Cut::Rolling {
                // What crashes now is started from its copy. The script that is left behind would lose its roll by it.
                machine.must(&kill);
                pump_test::eventually(AT_MOST, || {
                    let told = machine.run(&["pump", "status"]).expect("it can be run");
                    if told.status.success() { Ok(()) } else { Err(said(&told)) }
                });
            }
            let told = machine.run(&["dpkg", "--configure", "--pending"]).expect("it can be run");
            if point == Cut::Unpacking {
                // dpkg wants it unpacked again.
                machine.must(&["sh", "-c", &format!("dpkg --install {INSIDE}/second/pump*.deb")]);
            } else {
                assert!(told.status.success(), "{}", said(&told));
                // It waits for the roll that is under way, if there is one, and starts no other.
                let says = ["serves; no connection was closed", "is in use already"];
                assert!(says.iter().any(|it| said(&told).contains(it)), "{}", said(&told));
            }
            dpkg_is_content(&machine);
            until_it_is(&machine, &packages.second);
            apt_install(&machine, "first");
            until_it_is(&machine, &packages.first);
        }
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    assert_ne!(status(&machine).pid, begun.pid, "its master was killed");
}

/// Whoever kills the master in the middle of the roll, nobody has to ask for it again.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn b16_p5_a_master_that_is_killed_in_the_middle_of_dpkg_s_roll_is_asked_for_it_once_more() {
    let (machine, packages) = machine("pump-asked");
    apt_install(&machine, "first");
    let password = configure(&machine);
    watches_nothing(&machine);
    let begun = status(&machine);
    let report = under_load(&machine, &password, |step| {
        step("upgrade", &|| {
            let mut apt = machine.command("sh");
            apt.args(["-c", &apt_line("second")]).stdout(Stdio::piped()).stderr(Stdio::piped());
            let apt = apt.spawn().expect("nsenter can be run");
            // One that serves already, and is compared with the old ones.
            pump_test::eventually(AT_MOST, || {
                let now = status(&machine);
                let is_new = |it: &Worker| it.build.short() == packages.second;
                match now.workers.iter().any(is_new) && now.roll.is_some() {
                    true => Ok(()),
                    false => Err(format!("{now:?}")),
                }
            });
            machine.must(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", "pumpd"]);
            let told = said(&apt.wait_with_output().expect("our own child"));
            assert!(told.contains("serves; no connection was closed"), "{told}");
            until_it_is(&machine, &packages.second);
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    assert_ne!(status(&machine).pid, begun.pid, "its master was killed");
    dpkg_is_content(&machine);
    let told = machine.must(&["journalctl", "--no-pager", "--unit=pump-package-upgrade.service"]);
    assert_eq!(told.matches("asking for the roll once more").count(), 1, "{told}");
    let history = said(&must_exit(&machine, 0, &["pump", "history"]));
    assert!(!history.contains("exit 62"), "{history}");
    must_exit(&machine, 0, &["pump", "doctor"]);
}

/// Master and workers become that release.
#[track_caller]
fn until_it_is(machine: &Machine, release: &str) {
    let now = pump_test::eventually(AT_MOST, || match status(machine) {
        now if now.master.short() == release && now.roll.is_none() => Ok(now),
        now => Err(format!("{now:?}")),
    });
    all_are(machine, release, &now);
}

/// needrestart does not restart the service for a new library, it has the workers replaced; and it tells of a build
/// that waits.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn needrestart_rolls_the_server_for_a_new_library_and_tells_of_a_package_that_waits() {
    let (machine, packages) = machine_with("pump-needrestart", &["needrestart"]);
    apt_install(&machine, "first");
    let password = configure(&machine);
    watches_nothing(&machine);
    let begun = status(&machine);
    let restarts = ["needrestart", "-r", "a", "-l"];
    let told = said(&must_exit(&machine, 0, &restarts));
    assert!(!told.contains("the package brought"), "{told}");
    let report = under_load(&machine, &password, |step| {
        step("a new library", &|| {
            machine.must(&[
                "sh",
                "-ec",
                "for it in /usr/lib/x86_64-linux-gnu/libm.so.6 /usr/lib/x86_64-linux-gnu/libc.so.6; do
                     cp -L $it $it.new; mv $it.new $it; done",
            ]);
            let told = said(&must_exit(&machine, 0, &restarts));
            assert!(told.contains("pumpd.service"), "{told}");
        });
        step("after", &|| {});
    });
    assert_eq!(report.failures(), 0, "{report}");
    let after = status(&machine);
    assert_eq!(after.pid, begun.pid, "the service was not restarted");
    let old: Vec<u32> = begun.workers.iter().map(|worker| worker.pid).collect();
    assert!(after.workers.iter().all(|worker| !old.contains(&worker.pid)), "{after:?}");
    for pid in after.workers.iter().map(|worker| worker.pid).chain([after.pid]) {
        let maps = machine.must(&["cat", &format!("/proc/{pid}/maps")]);
        let old = maps.lines().find(|line| line.contains(".so") && line.ends_with("(deleted)"));
        assert_eq!(old, None, "process {pid} has the new library");
    }
    let told = said(&must_exit(&machine, 0, &["needrestart", "-r", "l", "-l", "-b"]));
    assert!(!told.contains("pumpd"), "nothing is left to do: {told}");

    must_exit(&machine, 0, &["pump", "hold", "--reason", "not now"]);
    let told = apt_install(&machine, "second");
    assert!(told.contains("not now") && told.contains("sudo pump unhold"), "{told}");
    assert!(told.contains(&format!("the package brought {}", packages.second)), "{told}");
    let told = said(&must_exit(&machine, 0, &restarts));
    assert!(told.contains(&format!("the package brought {}", packages.second)), "{told}");
    assert_eq!(status(&machine).workers_build, begun.workers_build);
}

/// A port below 1024, another data folder, a longer drain: the package's units stay as they are, drop-ins say the rest,
/// and those of the administrator are nobody's business but theirs.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test` runs it"]
fn what_a_configuration_needs_of_the_units_is_in_drop_ins_that_go_with_the_package() {
    let (machine, packages) = machine("pump-drop-ins");
    apt_install(&machine, "first");
    let shipped = "/etc/systemd/system/pumpd.service.d/50-pump.conf";
    configure(&machine);
    assert!(!machine.path(shipped).exists(), "what is usual needs none");
    machine.must(&["apt-get", "purge", "--yes", "pumpd", "pump"]);
    apt_install(&machine, "first");
    let listen = "127.0.0.1:80";
    let install = ["pump", "install", "--domain", "social.example", "--yes", "--listen", listen];
    must_exit(&machine, 0, &[&install[..], &["--data-dir", "/srv/pump"]].concat());
    machine.must(&["sh", "-c", "echo 'bake_seconds = 300' >>/etc/pump/upgrade.toml"]);
    drop_in(&machine, "pumpd.service", "[Service]\nMemoryMax=1G\n");
    let unit = machine.must(&["systemctl", "cat", "pumpd.service", "pumpd.socket"]);
    for line in ["ReadWritePaths=/srv/pump", "NoExecPaths=/srv/pump", "ListenStream=127.0.0.1:80"] {
        assert!(unit.lines().any(|found| found == line), "{line}: {unit}");
    }
    machine.must(&["systemd-analyze", "security", "--no-pager", "--threshold=11", "pumpd.service"]);
    assert_eq!(status(&machine).listen, [listen]);
    assert!(machine.path("/srv/pump/pump.sqlite3").exists());
    let begun = status(&machine);
    apt_install(&machine, "second");
    all_are(&machine, &packages.second, &begun);
    assert_eq!(machine.must(&["ss", "-Hltn"]).lines().count(), 1, "one address");
    // While it is watched all is well, and nobody watches what was removed.
    must_exit(&machine, 0, &["pump", "doctor"]);
    machine.must(&["apt-get", "remove", "--yes", "pumpd"]);
    let unit = ["systemctl", "show", "--property=ActiveState", "pump-package-upgrade.service"];
    assert_eq!(machine.must(&unit).trim(), "ActiveState=inactive");
    let told = said(&must_exit(&machine, 50, &["pump", "doctor"]));
    assert!(told.contains("sudo apt install pumpd"), "{told}");
    machine.must(&["apt-get", "purge", "--yes", "pumpd", "pump"]);
    assert!(!machine.path("/var/lib/pump-upgrade").exists());
    assert!(!machine.path(shipped).exists());
    let mine = machine.path("/etc/systemd/system/pumpd.service.d/mine.conf");
    assert!(mine.exists(), "it is the administrator's");
    assert!(machine.path("/srv/pump/pump.sqlite3").exists(), "a data folder elsewhere stays");
}

/// A script waits a minute at most, and the roll goes on alone.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_roll_that_takes_longer_than_a_minute_outlives_the_package_s_script() {
    let (machine, packages) = machine("pump-patient");
    apt_install(&machine, "first");
    configure(&machine);
    watches_nothing(&machine);
    machine.must(&[
        "sh",
        "-c",
        "printf '\\n[roll]\\ncanary_seconds = 90\\n' >>/etc/pump/pumpd.toml",
    ]);
    must_exit(&machine, 0, &["pump", "restart", "--wait", "--canary", "0"]);
    let begun = status(&machine);
    let told = apt_install(&machine, "second");
    assert!(told.contains("goes on by itself") && told.contains("pump status"), "{told}");
    dpkg_is_content(&machine);
    let now = status(&machine);
    assert!(now.roll.is_some() && now.workers_build == begun.workers_build, "{now:?}");
    all_are(&machine, &packages.second, &begun);
}

/// `current` is what has proven itself, whatever dpkg has unpacked.
#[test]
#[ignore = "needs root and a booted systemd; `cargo xtask test --long` runs it"]
fn matrix_a_reboot_while_a_package_is_watched_starts_the_build_before_it() {
    let (mut machine, packages) = machine("pump-power");
    apt_install(&machine, "first");
    configure(&machine);
    machine.must(&["sh", "-c", "echo 'bake_seconds = 300' >>/etc/pump/upgrade.toml"]);
    let begun = status(&machine);
    let told = apt_install(&machine, "second");
    assert!(told.contains("serves"), "{told}");
    all_are(&machine, &packages.second, &begun);
    machine.reboot(true);
    let told = pump_test::eventually(AT_MOST, || {
        let told = machine.run(&["pump", "status"]).expect("it can be run");
        if told.status.success() { Ok(said(&told)) } else { Err(said(&told)) }
    });
    assert!(told.contains("pump resume"), "{told}");
    assert_eq!(status(&machine).workers_build.short(), packages.first);
    let begun = status(&machine);
    // What was cut goes on with what it was told, and that is in the file.
    machine.must(&[
        "sed",
        "-i",
        "s/bake_seconds = 300/bake_seconds = 0/",
        "/etc/pump/upgrade.toml",
    ]);
    must_exit(&machine, 0, &["pump", "upgrade", "--zero-downtime"]);
    all_are(&machine, &packages.second, &begun);
    dpkg_is_content(&machine);
}
