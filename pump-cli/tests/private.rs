//! Installing in a private place, without root and without systemd, through the command itself.
//!
//! The daemon is a small script here: what is looked at is what `pump` makes, refuses and takes back.

#[path = "private/environment.rs"]
mod environment;
#[path = "private/release.rs"]
mod release;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pump_control::control::{Phase, Status};
use release::{OBLIGING, unpacked};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with an unpacked release and an empty private place.
struct Place {
    folder: TempDir,
    release: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self::with(OBLIGING.as_bytes())
    }

    /// A release with the daemon that was built with this `pump`.
    fn with_real_daemon() -> Self {
        let path = pump_test::pumpd().expect("pumpd is built beside the tests");
        Self::with(&fs::read(path).expect("pumpd can be read"))
    }

    fn with(daemon: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let release = unpacked(folder.path(), daemon);
        fs::create_dir(folder.path().join("root")).expect("a temporary folder can be written");
        Self { folder, release }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Runs the release's own `pump` on the private place.
    fn pump(&self, words: &[&str]) -> Output {
        Command::new(self.release.join("bin/pump"))
            .args(words)
            .arg("--root")
            .arg(self.root())
            .output()
            .expect("pump can be run")
    }

    fn install(&self, words: &[&str]) -> Output {
        let mut all = vec!["install", "--domain", "social.example", "--yes"];
        all.extend(words);
        self.pump(&all)
    }

    /// Everything below the private place: path, mode, size, inode and time of change.
    fn listing(&self) -> Vec<(PathBuf, u32, u64, u64, i64)> {
        let mut all = Vec::new();
        collect(&self.root(), &mut all);
        all.sort();
        all
    }
}

impl Drop for Place {
    /// A test that failed leaves no server behind.
    fn drop(&mut self) {
        self.pump(&["stop", "--quiet"]);
    }
}

fn collect(folder: &Path, all: &mut Vec<(PathBuf, u32, u64, u64, i64)>) {
    for entry in fs::read_dir(folder).expect("our own folder can be read") {
        let path = entry.expect("our own folder can be read").path();
        let meta = fs::symlink_metadata(&path).expect("our own file has metadata");
        all.push((path.clone(), meta.mode(), meta.size(), meta.ino(), meta.ctime_nsec()));
        if meta.is_dir() {
            collect(&path, all);
        }
    }
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn install_makes_exactly_what_the_list_names() {
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    let list = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/files.list"))
        .expect("the list is part of the source");
    let mut listed: Vec<&str> = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [group, kind, mode, _, path] = words[..] else { continue };
        listed.push(path);
        let path = place.root().join(path.trim_start_matches('/'));
        if group == "unit" {
            assert!(!path.exists(), "`{}` is for systemd", path.display());
        } else if mode != "-" && ["program", "runtime", "config", "data"].contains(&group) {
            let meta = fs::symlink_metadata(&path)
                .unwrap_or_else(|error| panic!("`{}`: {error}", path.display()));
            assert_eq!(format!("{:04o}", meta.mode() & 0o7777), mode, "`{}`", path.display());
            assert_eq!(meta.is_dir(), kind != "file", "`{}`", path.display());
        }
    }
    let manual = place.root().join("usr/local/share/man/man1/pump.1");
    assert_eq!(fs::read_to_string(manual).expect("a page of the current release"), ".TH pump 1\n");
    for (path, ..) in place.listing() {
        let inside = Path::new("/").join(path.strip_prefix(place.root()).expect("it is inside"));
        let known = listed
            .iter()
            .any(|listed| inside.starts_with(listed) || Path::new(listed).starts_with(&inside));
        assert!(known, "`{}` is not in the list", inside.display());
    }
}

#[test]
fn p8_a_second_install_changes_nothing_and_says_so() {
    let place = Place::new();
    assert_exit(&place.install(&["--account", "alice"]), 0);
    let before = place.listing();
    let again = place.pump(&["install"]);
    assert_exit(&again, 0);
    assert!(stdout(&again).contains("nothing to do"), "{again:?}");
    assert_eq!(before, place.listing());
}

#[test]
fn p8_an_edited_configuration_stays_and_a_flag_that_contradicts_it_is_refused() {
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    let config = place.root().join("etc/pump/pumpd.toml");
    let edited = fs::read_to_string(&config).expect("it was installed") + "# mine\n";
    fs::write(&config, &edited).expect("it is ours");
    let refused = place.pump(&["install", "--domain", "other.example"]);
    assert_exit(&refused, 2);
    assert!(stderr(&refused).contains("`social.example`"), "{refused:?}");
    assert_eq!(fs::read_to_string(&config).expect("it is still there"), edited);
}

#[test]
fn the_answers_are_told_as_one_command_and_the_password_once() {
    let place = Place::new();
    let output = place.install(&["--account", "alice", "--site-name", "It's ours", "--json"]);
    assert_exit(&output, 0);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON was asked for");
    assert_eq!(value["password"], "correct-horse");
    let command = value["command"].as_str().expect("the command is text");
    for part in
        ["--domain social.example", r"--site-name 'It'\''s ours'", "--account alice", "--yes"]
    {
        assert!(command.contains(part), "{command}");
    }
    assert!(!command.contains("correct-horse"), "{command}");
}

#[test]
fn a_step_that_fails_midway_takes_back_what_the_others_did() {
    let place = Place::new();
    let output = place.install(&["--account", "broken"]);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("no account for you"), "{output:?}");
    assert!(stderr(&output).contains("was removed again"), "{output:?}");
    assert_eq!(place.listing(), []);
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_touched() {
    let place = Place::new();
    let output = place.pump(&["install", "--domain", "wrong.example", "--yes"]);
    assert_exit(&output, 78);
    assert!(stderr(&output).contains("the domain is wrong"), "{output:?}");
    assert_eq!(place.listing(), []);
}

#[test]
fn an_answer_that_cannot_be_is_refused_before_anything_is_touched() {
    let place = Place::new();
    for words in [["--domain", "no domain"], ["--account", "admin"], ["--listen", "8000"]] {
        let mut all = vec!["install", "--yes"];
        all.extend(words);
        if words[0] != "--domain" {
            all.extend(["--domain", "social.example"]);
        }
        let output = place.pump(&all);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains(words[1]), "{output:?}");
        assert!(stderr(&output).contains("hint: "), "{output:?}");
    }
    assert_eq!(place.listing(), []);
}

#[test]
fn a_missing_domain_is_asked_for_and_never_guessed() {
    let place = Place::new();
    let output = place.pump(&["install", "--yes"]);
    assert_exit(&output, 2);
    assert!(stderr(&output).contains("hint: give it"), "{output:?}");
    assert_eq!(place.listing(), []);
}

#[test]
fn a_taken_port_is_refused_with_its_holder() {
    let place = Place::new();
    let other = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = other.local_addr().expect("a bound socket has an address").to_string();
    let output = place.install(&["--listen", &address]);
    assert_exit(&output, 51);
    assert!(stderr(&output).contains(&address), "{output:?}");
    assert!(stderr(&output).contains(&std::process::id().to_string()), "{output:?}");
    assert_eq!(place.listing(), []);
}

#[test]
fn a_release_with_a_flipped_byte_is_not_installed() {
    let place = Place::new();
    fs::write(place.release.join("bin/pumpd"), OBLIGING.replace("correct", "Correct"))
        .expect("it is ours");
    let output = place.install(&[]);
    assert_exit(&output, 40);
    assert_eq!(place.listing(), []);
}

#[test]
fn a_daemon_that_dies_at_start_is_told_with_its_last_lines_and_its_status() {
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    let output = place.pump(&["start"]);
    assert_exit(&output, 78);
    assert!(stderr(&output).contains("the database is too new"), "{output:?}");
    let output = place.pump(&["start", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON was asked for");
    assert_eq!(value["exit"], 78, "{value}");
    assert_eq!(value["output"][0], "about to fail", "{value}");
}

#[test]
fn b20_uninstall_keeps_what_people_wrote_and_purge_leaves_nothing() {
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    assert_exit(&place.pump(&["uninstall"]), 0);
    assert!(!place.root().join("opt").exists());
    assert!(place.root().join("etc/pump/pumpd.toml").exists());
    assert!(place.root().join("var/lib/pump/pump.sqlite3").exists());

    assert_exit(&place.pump(&["install"]), 0);
    assert!(place.root().join("opt/pump/current/bin/pumpd").exists());

    assert_exit(&place.pump(&["uninstall", "--purge"]), 2);
    assert_exit(&place.pump(&["uninstall", "--purge", "--yes"]), 0);
    assert_eq!(place.listing(), []);
    let again = place.pump(&["uninstall", "--purge", "--yes"]);
    assert_exit(&again, 0);
    assert!(stdout(&again).contains("nothing to do"), "{again:?}");
}

#[test]
fn whoever_asks_a_server_that_does_not_run_is_told_how_to_start_it() {
    let place = Place::new();
    for words in [&["status"][..], &["restart"], &["status", "--json"]] {
        let output = place.pump(words);
        assert_exit(&output, 75);
    }
    assert_exit(&place.pump(&["stop"]), 0);
}

#[test]
fn a_real_server_is_started_asked_restarted_and_stopped() {
    let place = Place::with_real_daemon();
    assert_exit(&place.install(&["--listen", "127.0.0.1:0", "--account", "alice"]), 0);
    let status = |output: &Output| -> Status {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let started = place.pump(&["start", "--json"]);
    assert_exit(&started, 0);
    let started = status(&started);
    assert_eq!(started.phase, Phase::Running);
    assert!(!started.listen[0].ends_with(":0"), "the real port is told: {:?}", started.listen);

    let again = place.pump(&["start"]);
    assert_exit(&again, 0);
    assert!(stdout(&again).contains("runs already"), "{again:?}");

    assert_exit(&place.pump(&["restart", "--wait"]), 0);
    let asked = status(&place.pump(&["status", "--json"]));
    assert_eq!(asked.pid, started.pid, "the master goes on");
    assert!(asked.generation > started.generation, "{asked:?}");
    let shown = place.pump(&["status"]);
    assert_exit(&shown, 0);
    assert!(stdout(&shown).starts_with(&asked.sentence), "{shown:?}");

    let metrics = place.pump(&["metrics"]);
    assert_exit(&metrics, 0);
    let samples = pump_test::openmetrics::Samples::read(&stdout(&metrics));
    let samples = samples.unwrap_or_else(|error| panic!("{error:#}: {metrics:?}"));
    assert_eq!(samples.get("pump_rolls_total{outcome=\"done\"}"), Some(1.0), "{metrics:?}");

    let taken = place.pump(&["account", "create", "alice"]);
    assert_ne!(taken.status.code(), Some(0), "{taken:?}");
    assert_exit(&place.pump(&["account", "create", "bob"]), 0);

    assert_exit(&place.pump(&["stop"]), 0);
    assert_exit(&place.pump(&["status"]), 75);
    assert_exit(&place.pump(&["uninstall", "--purge", "--yes"]), 0);
    assert_eq!(place.listing(), []);
}

#[test]
fn one_worker_is_restarted_only_when_that_is_said() {
    let place = Place::with_real_daemon();
    assert_exit(&place.install(&["--listen", "127.0.0.1:0"]), 0);
    let config = place.root().join("etc/pump/pumpd.toml");
    let text = fs::read_to_string(&config).expect("it was installed");
    fs::write(&config, format!("{text}workers = 1\n")).expect("it is ours");
    assert_exit(&place.pump(&["start"]), 0);
    let refused = place.pump(&["restart", "--wait", "--json"]);
    assert_exit(&refused, 32);
    let value: Value = serde_json::from_slice(&refused.stdout).expect("JSON was asked for");
    assert_eq!(value["exit"], 32, "{value}");
    assert_exit(&place.pump(&["restart", "--wait", "--one-worker"]), 0);
    assert_exit(&place.pump(&["stop"]), 0);
}

#[test]
fn where_nothing_is_installed_every_command_says_so_and_names_the_next() {
    let place = Place::new();
    for words in [
        &["account", "create", "alice"][..],
        &["start"],
        &["upgrade", "--check"],
        &["rollback"],
        &["history"],
    ] {
        let output = place.pump(words);
        assert_exit(&output, 50);
        assert!(stderr(&output).contains("not installed"), "{output:?}");
        assert!(stderr(&output).contains(" install`"), "{output:?}");
    }
    assert_eq!(place.listing(), []);
}

#[test]
fn an_install_or_uninstall_beside_another_run_is_refused_and_leaves_no_trace() {
    let place = Place::new();
    let records = place.root().join("var/lib/pump-upgrade");
    fs::create_dir_all(&records).expect("it is ours");
    let other = locked(&records);
    let before = place.listing();
    let refused = place.install(&[]);
    assert_exit(&refused, 70);
    assert!(stderr(&refused).contains(&std::process::id().to_string()), "{refused:?}");
    assert_eq!(place.listing(), before);
    drop(other);
    assert_exit(&place.install(&[]), 0);

    let other = locked(&records);
    let before = place.listing();
    assert_exit(&place.pump(&["install"]), 70);
    assert_exit(&place.pump(&["uninstall"]), 70);
    assert_exit(&place.pump(&["uninstall", "--purge", "--yes"]), 70);
    assert_eq!(place.listing(), before);
    drop(other);
    assert_exit(&place.pump(&["uninstall", "--purge", "--yes"]), 0);
    assert_eq!(place.listing(), []);
}

/// As `pump upgrade` has the new release's `pump install` write the units.
#[test]
fn the_lock_goes_to_whoever_is_given_the_open_file_and_to_nobody_who_opens_it() {
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    let records = place.root().join("var/lib/pump-upgrade");
    let other = locked(&records);
    let install = |stdin: File| {
        let mut command = Command::new(place.release.join("bin/pump"));
        command.args(["install", "--root"]).arg(place.root()).stdin(stdin);
        command.output().expect("pump can be run")
    };
    assert_exit(&install(File::open(&records).expect("it is there")), 70);
    assert_exit(&install(other.try_clone().expect("a descriptor is free")), 0);
    // It is still the giver's.
    assert_exit(&place.pump(&["install"]), 70);
}

fn locked(folder: &Path) -> File {
    let open = File::open(folder).expect("it is there");
    rustix::fs::flock(&open, rustix::fs::FlockOperation::LockExclusive).expect("nobody has it");
    open
}

/// Whoever owns the place, or a folder above it, would have root run their programs.
#[test]
fn root_does_nothing_in_somebody_else_s_place() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    let pumpd = place.root().join("opt/pump/current/bin/pumpd");
    let trace = place.folder.path().join("trace");
    fs::write(&pumpd, format!("#!/bin/sh\n: >'{}'\nexit 1\n", trace.display())).expect("ours");
    let above = fs::metadata(place.folder.path()).expect("it is ours").mode();
    for (path, uid, mode) in [
        (place.root(), 65534, 0o755),
        (place.root(), 0, 0o777),
        (place.folder.path().into(), 0, 0o777),
    ] {
        std::os::unix::fs::chown(&path, Some(uid), None).expect("root may");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("root may");
        let before = place.listing();
        for words in [
            &["start"][..],
            &["stop"],
            &["install"],
            &["account", "create", "bob"],
            &["upgrade"],
            &["rollback"],
            &["uninstall"],
        ] {
            let output = place.pump(words);
            assert_exit(&output, 50);
            assert!(stderr(&output).contains(&format!("`{}`", path.display())), "{output:?}");
        }
        assert_eq!(place.listing(), before);
        assert!(!trace.exists(), "root ran it");
        std::os::unix::fs::chown(&path, Some(0), None).expect("root may");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("root may");
    }
    fs::set_permissions(place.folder.path(), PermissionsExt::from_mode(above)).expect("root may");
    assert_exit(&place.pump(&["start"]), 1);
    assert!(trace.exists(), "in its own place root runs what is there");
}

/// As root, who alone gets so far; what the caller's `PATH` names first is not asked.
#[test]
fn the_caller_s_path_does_not_say_who_owns_pump() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let bin = place.folder.path().join("fake");
    let trace = place.folder.path().join("trace");
    fs::create_dir(&bin).expect("it is ours");
    for name in ["dpkg-query", "rpm"] {
        let fake = bin.join(name);
        let script = format!("#!/bin/sh\n: >'{}'\necho 'mine: /x'\n", trace.display());
        fs::write(&fake, script).expect("it is ours");
        fs::set_permissions(&fake, PermissionsExt::from_mode(0o755)).expect("it is ours");
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(place.release.join("bin/pump"))
        .args(["upgrade", "--check", "--source", "/nowhere"])
        .env("PATH", path)
        .output()
        .expect("pump can be run");
    assert_ne!(output.status.code(), Some(80), "{output:?}");
    assert!(!trace.exists(), "{output:?}");
}

/// As root the test becomes nobody; as nobody it is refused either way.
#[test]
fn whoever_is_not_root_is_given_the_exact_command() {
    let place = Place::new();
    let open = PermissionsExt::from_mode(0o755);
    fs::set_permissions(place.folder.path(), open).expect("the folder is ours");
    let mut command = Command::new(place.release.join("bin/pump"));
    command.args(["install", "--domain", "social.example", "--site-name", "two words"]);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().expect("pump can be run");
    assert_exit(&output, 77);
    let wanted = "install --domain social.example --site-name 'two words'`";
    assert!(stderr(&output).contains("hint: run `sudo "), "{output:?}");
    assert!(stderr(&output).contains(wanted), "{output:?}");
}

#[test]
fn without_systemd_an_installation_is_refused() {
    if !nix::unistd::geteuid().is_root() || Path::new("/run/systemd/system").exists() {
        // A machine with systemd has the booted test; without root the refusal is another one.
        return;
    }
    let place = Place::new();
    let output = Command::new(place.release.join("bin/pump"))
        .args(["install", "--domain", "social.example", "--json"])
        .output()
        .expect("pump can be run");
    assert_exit(&output, 52);
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON was asked for");
    assert!(value["hint"].as_str().is_some_and(|hint| hint.contains("--root")), "{value}");
}

/// Calls by which what an installation makes comes to bear its name, and gets its place in the folder for good.
/// Of a rename, strace looks at the first name only.
const NAMED_BY: [(&str, &str); 6] = [
    ("rename", "opt/pump/.current.new"),
    ("fsync", "opt/pump"),
    ("rename", "etc/pump/.pumpd.toml.new"),
    ("rename", "etc/pump/.upgrade.toml.new"),
    ("fsync", "etc/pump"),
    ("fsync", "opt/pump/releases"),
];

/// More such calls of one kind than an installation makes.
const MOST_CALLS: u32 = 50;

#[test]
fn an_installation_whose_disk_fails_when_a_name_is_given_is_taken_back_and_can_be_repeated() {
    if !Path::new("/usr/bin/strace").exists() {
        // There is nothing to fail a call with.
        return;
    }
    for (call, path) in NAMED_BY {
        for when in 1..=MOST_CALLS {
            let place = Place::new();
            let source = place.folder.path().join("source");
            fs::create_dir(&source).expect("our own folder");
            let words = ["install", "--domain", "social.example", "--yes", "--source"];
            let seen = place.folder.path().join("seen");
            let ran = Command::new("strace")
                .args(["-f", "-qq", "-e", &format!("trace={call}"), "-o"])
                .arg(&seen)
                .args(["-e", &format!("inject={call}:error=EIO:when={when}"), "-P"])
                .arg(place.root().join(path))
                .arg(place.release.join("bin/pump"))
                .args(words)
                .arg(&source)
                .arg("--root")
                .arg(place.root())
                .output()
                .expect("strace can be run");
            if !fs::read_to_string(&seen).expect("strace writes").contains("INJECTED") {
                assert!(when > 1, "no {call} of `{path}` was met");
                break;
            }
            if ran.status.code() != Some(0) {
                let left = place.root().join("opt/pump/current").symlink_metadata();
                assert!(left.is_err(), "{call} {when} of `{path}`: the link was left: {ran:?}");
                assert!(
                    !place.root().join("etc/pump/pumpd.toml").exists(),
                    "{call} {when}: {ran:?}"
                );
            }
            let again = place.install(&["--source", &source.display().to_string()]);
            assert_eq!(again.status.code(), Some(0), "{call} {when} of `{path}`: {again:?}");
        }
    }
}

#[test]
fn a_source_that_is_named_later_is_written_down() {
    let place = Place::new();
    assert_exit(&place.install(&[]), 0);
    let file = place.root().join("etc/pump/upgrade.toml");
    fs::remove_file(&file).expect("our own file");
    let source = place.folder.path().display().to_string();
    assert_exit(&place.install(&["--source", &source]), 0);
    let text = fs::read_to_string(&file).expect("it is written again");
    assert!(text.contains(&format!("source = \"{source}\"")), "{text}");
}
