//! An unpacked release made on the spot: this `pump`, and a daemon that is a small script.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pump_test::fake::{copy_executable, write_executable};
use sha2::{Digest, Sha256};

/// A daemon that checks, migrates and makes accounts, and leaves a trace of it in the data folder.
pub(crate) const OBLIGING: &str = r#"#!/bin/sh
words="$*"
config=${words##*--config }
value() { sed -n "s/^$1 = \"\\(.*\\)\"/\\1/p" "$config"; }
case "$words" in
*--stdin*)
    config=$(mktemp)
    trap 'rm -f "$config"' EXIT
    cat >"$config" ;;
esac
case "$1" in
check)
    [ "$(value domain)" = wrong.example ] && { echo "error: the domain is wrong" >&2; exit 78; }
    listen=$(sed -n 's/^listen = //p' "$config")
    echo "{\"domain\":\"$(value domain)\",\"public_url\":\"https://$(value domain)\",\
\"site_name\":\"$(value site_name)\",\"listen\":$listen,\"data_dir\":\"$(value data_dir)\",\
\"runtime_dir\":\"/nowhere\",\"workers\":2,\"ready_seconds\":20,\"drain_seconds\":30}" ;;
migrate) : >"$(value data_dir)/pump.sqlite3" ;;
account)
    [ "$3" = broken ] && { echo "error: no account for you" >&2; exit 1; }
    echo "{\"handle\":\"@$3@$(value domain)\",\"password\":\"correct-horse\"}" ;;
master|hold) echo "about to fail"; echo "error: the database is too new" >&2; exit 78 ;;
*) echo "error: there is no command \`$1\`" >&2; exit 2 ;;
esac
"#;

/// Makes a release folder with this daemon and returns it.
pub(crate) fn unpacked(place: &Path, daemon: &[u8]) -> PathBuf {
    let folder = place.join("unpacked");
    fs::create_dir_all(folder.join("bin")).expect("a temporary folder can be written");
    let pump = Path::new(env!("CARGO_BIN_EXE_pump"));
    copy_executable(pump, &folder.join("bin/pump")).expect("pump can be copied");
    write_executable(&folder.join("bin/pumpd"), daemon).expect("a temporary folder can be written");
    let mut list = String::new();
    for path in ["bin/pump", "bin/pumpd"] {
        let file = folder.join(path);
        fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("the file is ours");
        writeln!(list, "0755 {} {path}", hash(&file)).expect("a string can be written");
    }
    let page = folder.join("share/man/man1/pump.1");
    fs::create_dir_all(page.parent().expect("it has a folder")).expect("the folder is ours");
    fs::write(&page, ".TH pump 1\n").expect("a temporary folder can be written");
    fs::set_permissions(&page, Permissions::from_mode(0o644)).expect("the file is ours");
    writeln!(list, "0644 {} share/man/man1/pump.1", hash(&page)).expect("a string can be written");
    let build = hash(&folder.join("bin/pumpd"));
    let info = format!(
        r#"{{"version":"0.1.0","build":"{build}","magic":1,"unit":1,"schema":{{"version":1,"compat":1}}}}"#
    );
    let all = format!("{list}0644 {} RELEASE.json\n", hex(&Sha256::digest(info.as_bytes())));
    fs::write(folder.join("RELEASE.json"), info).expect("a temporary folder can be written");
    fs::write(folder.join("FILES"), all).expect("a temporary folder can be written");
    folder
}

fn hash(path: &Path) -> String {
    hex(&Sha256::digest(fs::read(path).expect("the file was just made")))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
