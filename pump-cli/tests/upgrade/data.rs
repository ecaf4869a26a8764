//! The database over an upgrade: copied before, expanded, gone back from, finalized, restored. With the
//! real daemon, and with a database of version 1 as its release has left it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use pump_release::{ReleaseInfo, Schema};
use pump_repository::{Bundle, Entry, sha256};

use crate::place::{Place, Ran, program};

/// A stopped server of a release of schema 1, with its notes, and a source that offers the real one.
struct Old {
    place: Place,
    old: ReleaseInfo,
    new: ReleaseInfo,
}

const NOTES: i64 = 3000;

impl Old {
    fn new() -> Self {
        let path = pump_test::pumpd().expect("the daemon is built: `cargo build -p pumpd`");
        let told = Command::new(&path).arg("release-info").output().expect("the daemon can be run");
        let new: ReleaseInfo = serde_json::from_slice(&told.stdout).expect("release information");
        assert!(new.schema.version > 1, "or there is nothing to migrate");
        let place = Place::new();
        // It says what it is, knows a key less, and nothing of backups.
        let said = ReleaseInfo { schema: Schema { version: 1, compat: 1 }, ..new.clone() };
        let said = ReleaseInfo { version: "0.0.1".parse().expect("a version"), ..said };
        let text = serde_json::to_string(&said).expect("JSON");
        let text = text.replace(&new.build.to_string(), "@BUILD@");
        let script = format!(
            "#!/bin/sh\ncase $1 in\nrelease-info) build=$(/usr/bin/sha256sum <\"$0\")\n\
             echo '{text}' | /bin/sed \"s/@BUILD@/${{build%% *}}/\" ;;\n\
             check) if [ \"$2\" = --config ] && /bin/grep -q open_registration \"$3\"; then\n\
             echo 'error: line 1: unknown key `open_registration`' >&2; exit 78; fi\n\
             exec {} \"$@\" ;;\n*) exit 2 ;;\nesac\n",
            path.display()
        )
        .into_bytes();
        let old = ReleaseInfo { build: sha256(&script), ..said };
        place.install_release(&old, vec![Entry::program("bin/pumpd", script)]);
        let data = place.path("var/lib/pump");
        fs::create_dir_all(&data).expect("our own folder");
        fs::create_dir_all(place.path("run/pump")).expect("our own folder");
        let config = format!(
            "domain = \"social.example\"\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n\
             data_dir = \"{}\"\nruntime_dir = \"{}\"\n[roll]\ncanary_seconds = 0\n",
            data.display(),
            place.path("run/pump").display(),
        );
        fs::write(place.path("etc/pump/pumpd.toml"), config).expect("our own file");
        pump_store::sample(&data, "https://social.example", 3, NOTES, 1).expect("a database");
        let program = fs::read(&path).expect("the daemon can be read");
        let bundle = Bundle::pack(&new, vec![Entry::program("bin/pumpd", program)]);
        place.offer_info(&new, &bundle.expect("an honest bundle can be packed"));
        Self { place, old, new }
    }

    /// What the daemon says of the database: version, compat, whether it is finalized.
    fn database(&self) -> (u64, u64, bool) {
        let pumpd = pump_test::pumpd().expect("the daemon is built");
        let config = self.place.path("etc/pump/pumpd.toml");
        let mut command = Command::new(pumpd);
        let told = command.arg("database").arg("--config").arg(config).output().expect("it runs");
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
        let number = |name: &str| told[name].as_u64().expect("a number");
        (number("version"), number("compat"), told["finalized"] == true)
    }

    fn upgrade(&self) -> Ran {
        let version = self.new.version.to_string();
        self.place.pump(&["upgrade", "--to", &version, "--yes"])
    }

    fn backups(&self) -> Vec<serde_json::Value> {
        let listed = self.place.pump(&["backup", "list", "--json"]);
        listed.ended(0, "").json()["backups"].as_array().expect("a list").clone()
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        // A test that failed leaves no server behind.
        self.place.pump(&["stop", "--quiet"]);
    }
}

#[test]
fn a_rehearsal_says_how_long_it_takes_and_touches_nothing() {
    let old = Old::new();
    let version = old.new.version.to_string();
    let ran = old.place.pump(&["upgrade", "--rehearse", "--to", &version]);
    ran.ended(0, "schema 1 to 2").ended(0, &format!("{NOTES} rows are brought along"));
    assert_eq!(old.database(), (1, 1, true));
    assert_eq!(old.place.link("current"), Some(old.old.name()));
    old.place.pump(&["history"]).ended(0, "nothing has happened yet");
    let ran = old.place.pump(&["upgrade", "--rehearse", "--to", &version, "--json"]);
    let told = ran.ended(0, "").json();
    assert_eq!(told["rehearsed"]["rows"], NOTES, "{told}");
}

#[test]
fn p7_a_backup_comes_before_the_schema_changes_and_the_way_back_stays_open_until_it_is_finalized() {
    let old = Old::new();
    old.upgrade().ended(0, "is made and checked").ended(0, "were brought along");
    assert_eq!(old.database(), (2, 1, false));
    let backups = old.backups();
    assert_eq!(backups.len(), 1, "{backups:?}");
    let record = &backups[0]["backup"];
    assert_eq!(record["before"], old.new.name(), "{record}");
    assert_eq!((&record["version"], &record["notes"]), (&1.into(), &NOTES.into()), "{record}");

    // Back and forth: a schema that does not change needs no backup.
    old.place.pump(&["rollback"]).ended(0, "");
    assert_eq!(old.place.link("current"), Some(old.old.name()));
    old.upgrade().ended(0, "no backup is needed");
    assert_eq!(old.backups().len(), 1);

    // Nobody gives the way back up by mistake, and the timer not before its time.
    old.place.pump(&["finalize"]).ended(20, "could not afterwards");
    old.place.pump(&["finalize", "--when-due"]).ended(0, "not yet");
    old.place.pump(&["finalize", "--preserve"]).ended(0, "the way back is kept");
    old.place.pump(&["finalize", "--when-due"]).ended(0, "--preserve");
    assert_eq!(old.database(), (2, 1, false));
    old.place.pump(&["finalize", "--yes"]).ended(0, "schema 2 or later");
    assert_eq!(old.database(), (2, 2, true));
    old.place.pump(&["finalize", "--yes"]).ended(0, "nothing to do");
    old.place.pump(&["rollback"]).ended(50, "was finalized");
    assert_eq!(old.place.link("current"), Some(old.new.name()));
}

/// Nothing is installed any more that has written the data, so there is only the data to go by.
#[test]
fn p7_a_release_that_is_installed_over_what_an_older_one_has_left_copies_the_database_before() {
    let old = Old::new();
    old.place.pump(&["uninstall"]).ended(0, "");
    assert_eq!(old.place.link("current"), None);
    assert_eq!(old.database(), (1, 1, true), "data stays");
    // The real ones by another name: they are large.
    let wrapped =
        |path: PathBuf| format!("#!/bin/sh\nexec {} \"$@\"\n", path.display()).into_bytes();
    let pumpd = wrapped(pump_test::pumpd().expect("it is built"));
    let new = ReleaseInfo { build: sha256(&pumpd), ..old.new.clone() };
    let programs =
        vec![Entry::program("bin/pumpd", pumpd), Entry::program("bin/pump", wrapped(program()))];
    let packed = Bundle::pack(&new, programs).expect("an honest bundle can be packed");
    let bundle = old.place.folder().join("new.tar.zst");
    packed.write(&bundle).expect("our own folder");
    let from = bundle.to_string_lossy().into_owned();

    // Without the copy nothing is installed.
    let kept = old.place.path("var/lib/pump-upgrade/backups");
    fs::write(&kept, "").expect("our own folder");
    old.place.pump(&["install", "--from", &from]).ended(1, "backups");
    assert_eq!(old.place.link("current"), None);
    assert_eq!(old.database(), (1, 1, true));
    fs::remove_file(&kept).expect("our own file");

    old.place.pump(&["install", "--from", &from]).ended(0, "is made and checked");
    let backups = old.backups();
    assert_eq!(backups.len(), 1, "{backups:?}");
    let record = &backups[0]["backup"];
    assert_eq!((&record["version"], &record["notes"]), (&1.into(), &NOTES.into()), "{record}");
    assert_eq!(record["release"], "a release that was removed", "{record}");
    assert_eq!(record["before"], new.name(), "{record}");
    old.place.pump(&["install", "--from", &from]).ended(0, "nothing to do");
    assert_eq!(old.backups().len(), 1, "there is one already");
    let first = backups[0]["name"].as_str().expect("a name");
    old.place.pump(&["restore", first, "--yes"]).ended(0, "schema 1");
}

#[test]
fn a_backup_is_checked_and_restored_and_what_it_replaces_is_kept() {
    let old = Old::new();
    old.upgrade().ended(0, "");
    old.place.pump(&["start"]).ended(0, "");
    old.place.pump(&["backup"]).ended(0, &format!("{NOTES} notes"));
    old.place.pump(&["backup", "verify"]).ended(0, "is whole");
    let name = old.backups()[1]["name"].as_str().expect("a name").to_owned();

    old.place.pump(&["restore", &name, "--yes"]).ended(50, "the server runs");
    old.place.pump(&["restore", &name, "--stop"]).ended(2, "nobody can be asked");
    let ran = old.place.pump(&["restore", &name, "--stop", "--yes", "--json"]);
    let told = ran.ended(0, "").json();
    let replaced = told["replaced"].as_str().expect("a path");
    assert!(fs::metadata(replaced).is_ok(), "{replaced}");
    old.place.pump(&["status"]).ended(0, "");

    // The one from before the upgrade, too: it is migrated when the server starts.
    let first = old.backups()[0]["name"].as_str().expect("a name").to_owned();
    old.place.pump(&["restore", &first, "--stop", "--yes"]).ended(0, "schema 1");
    assert_eq!(old.database().0, 2);

    // A torn one is found out, and nothing happens.
    let path = old.backups()[0]["path"].as_str().expect("a path").to_owned();
    let mut bytes = fs::read(&path).expect("our own file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("our own file");
    old.place.pump(&["backup", "verify", &first]).ended(50, "is not what it was");
    old.place.pump(&["restore", &first, "--stop", "--yes"]).ended(50, "is not what it was");
    old.place.pump(&["status"]).ended(0, "");
    old.place.pump(&["restore", "/dev/null", "--stop", "--yes"]).ended(50, "no backup");
    old.place.pump(&["status"]).ended(0, "");
}

#[test]
fn old_backups_go_and_the_one_from_before_the_schema_changed_stays() {
    let old = Old::new();
    old.upgrade().ended(0, "");
    let first = old.backups()[0]["name"].clone();
    for _ in 0..3 {
        old.place.pump(&["backup", "--keep", "2"]).ended(0, "");
    }
    let left = old.backups();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(left[0]["name"], first);
    let files = fs::read_dir(old.place.path("var/lib/pump-upgrade/backups")).expect("our own");
    assert_eq!(files.count(), 6, "each with its record, and nothing else");
}

#[test]
fn a_rollback_names_the_keys_that_the_release_before_does_not_know() {
    let old = Old::new();
    old.upgrade().ended(0, "");
    let config = old.place.path("etc/pump/pumpd.toml");
    let before = fs::read_to_string(&config).expect("our own file");
    fs::write(&config, format!("open_registration = true\n{before}")).expect("our own file");
    let links = old.place.program();
    let refused = old.place.pump(&["rollback"]);
    refused
        .ended(78, "since it served: `open_registration`")
        .ended(78, "nothing was changed")
        .ended(78, "--restore-config");
    old.place.is_untouched(&links);
    old.place.pump(&["rollback", "--restore-config"]).ended(0, "has served with");
    assert_eq!(fs::read_to_string(&config).expect("our own file"), before);
    assert_eq!(old.place.link("current"), Some(old.old.name()));
}
