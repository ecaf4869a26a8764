//! What the daemon does when it cannot begin: a sentence, a code, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::{cluster, pumpd};

/// Runs a master that is expected to end by itself.
fn run(folder: &Path, config: &str) -> Output {
    let path = folder.join("pumpd.toml");
    for name in ["data", "run"] {
        // The caller may have made one of them already, with other permissions.
        let _ = fs::create_dir(folder.join(name));
    }
    let (data, run) = (folder.join("data"), folder.join("run"));
    let text = format!("{config}\ndata_dir = {data:?}\nruntime_dir = {run:?}\n");
    fs::write(&path, text).expect("the folder takes a file");
    Command::new(pumpd()).args(["master", "--config"]).arg(path).output().expect("it runs")
}

#[track_caller]
fn check(output: &Output, code: i32, says: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in says {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn an_address_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound");
    let folder = folder();
    let config = format!("domain = \"a.example\"\nlisten = [\"{address}\"]");
    check(&run(folder.path(), &config), 51, &[&format!("`{address}` is in use")]);
    assert!(!folder.path().join("run/control.sock").exists(), "nothing is left behind");
}

#[test]
fn a_configuration_that_is_wrong() {
    let folder = folder();
    check(&run(folder.path(), "domian = \"a.example\""), 78, &["line 1", "`domian`"]);
    check(&run(folder.path(), "domain = 5"), 78, &["line 1", "`domain`", "integer `5`"]);
    check(&run(folder.path(), ""), 78, &["missing key `domain`"]);
    let missing = Command::new(pumpd())
        .args(["master", "--config", "/nowhere/pumpd.toml"])
        .output()
        .expect("it runs");
    check(&missing, 78, &["/nowhere/pumpd.toml", "No such file"]);
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    let folder = folder();
    let data = folder.path().join("data");
    fs::write(&data, "a file where a folder should be").expect("ours");
    let config = "domain = \"a.example\"\nlisten = [\"127.0.0.1:0\"]";
    check(&run(folder.path(), config), 50, &["could not start", &data.display().to_string()]);
    if rustix::process::geteuid().is_root() {
        return; // Root writes into any folder.
    }
    fs::remove_file(&data).expect("ours");
    fs::create_dir(&data).expect("ours");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).expect("ours");
    check(&run(folder.path(), config), 50, &[&data.display().to_string()]);
}

#[test]
fn a_database_of_a_later_release() {
    let folder = folder();
    fs::create_dir(folder.path().join("data")).expect("ours");
    let database = folder.path().join("data/pump.sqlite3");
    pump_store::migrate(&folder.path().join("data")).expect("a new database");
    let connection = rusqlite::Connection::open(&database).expect("SQLite reads it");
    connection.execute("UPDATE schema SET version = 900, compat = 800", ()).expect("ours");
    drop(connection);
    let config = "domain = \"a.example\"\nlisten = [\"127.0.0.1:0\"]";
    check(&run(folder.path(), config), 50, &["version 900", "version 800", "pump upgrade"]);
}

#[test]
fn the_public_url_stays_once_an_account_exists() {
    let mut cluster = cluster(2, "public_url = \"https://one.example\"\n");
    let config = cluster.config();
    let text = fs::read_to_string(&config).expect("ours");
    let other = text.replace("https://one.example", "https://two.example");
    fs::write(&config, &other).expect("ours");
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit.code(), 0, "nobody has been published yet: {rolled:?}");
    fs::write(&config, &text).expect("ours");
    assert_eq!(cluster.roll(None).outcome.exit.code(), 0);
    pump_test::create_account(pumpd(), &config, "alice", "a long password").expect("made");
    fs::write(&config, &other).expect("ours");
    let rolled = cluster.roll(None);
    assert_eq!(rolled.outcome.exit.code(), 50, "{rolled:?}");
    assert!(rolled.outcome.text.contains("https://one.example"), "{rolled:?}");
    assert_eq!(cluster.end().expect("it ends"), Some(0));
    let output = Command::new(pumpd()).args(["master", "--config"]).arg(&config).output();
    check(&output.expect("it runs"), 78, &["https://one.example"]);
}

#[test]
fn release_info_and_check_are_one_line_of_json() {
    let folder = folder();
    let path = folder.path().join("pumpd.toml");
    fs::write(&path, "domain = \"a.example\"\n").expect("ours");
    let json = |args: &[&str]| -> serde_json::Value {
        let output = Command::new(pumpd()).args(args).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let info = json(&["release-info"]);
    let build = pump_test::process::sha256(pumpd()).expect("readable");
    assert_eq!(info["build"], build, "the build is the hash of the file");
    for key in ["version", "magic", "accepts", "unit", "schema"] {
        assert!(!info[key].is_null(), "{key} is missing: {info}");
    }
    let checked = json(&["check", "--config", path.to_str().expect("UTF-8")]);
    assert_eq!(checked["public_url"], "https://a.example");
}
