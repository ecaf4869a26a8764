//! What is believed of a source, and what is not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pump_release::TARGET;
use pump_repository::{Expiry, Keys, Source};

use crate::place::{Place, version};

#[test]
fn without_a_source_the_line_to_write_is_told() {
    let place = Place::new();
    let config = place.path("etc/pump/upgrade.toml");
    fs::remove_file(&config).expect("our own file");
    let ran = place.pump(&["upgrade"]);
    ran.ended(2, "no release source is set, and none is compiled in");
    ran.ended(2, r#"hint: write the line `source = "https://"#);
    fs::write(&config, "source = \"/srv\"\nchanel = \"beta\"\n").expect("our own file");
    place.pump(&["upgrade"]).ended(78, "line 2: `chanel = \"beta\"`: unknown field");
}

#[test]
fn without_a_root_nothing_is_believed() {
    let place = Place::new();
    fs::remove_file(place.path("etc/pump/trust-root.json")).expect("our own file");
    place.pump(&["upgrade"]).ended(2, "--trust-root FILE");
    let root = place.source.trust_root();
    let root = root.to_str().expect("text");
    place.pump(&["upgrade", "--trust-root", root]).ended(0, "nothing to do");
}

#[test]
fn b04_p6_a_flipped_byte_or_a_missing_end_is_refused() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let file = place.bundle_file(&version("1.1.0"));
    let honest = fs::read(&file).expect("our own file");
    let before = place.program();
    for at in [0, honest.len() / 2, honest.len() - 1] {
        let mut flipped = honest.clone();
        flipped[at] ^= 1;
        fs::write(&file, flipped).expect("our own file");
        place.pump(&["upgrade"]).ended(40, "has another hash");
    }
    for length in [0, 1, honest.len() / 2, honest.len() - 1] {
        fs::write(&file, &honest[..length]).expect("our own file");
        place.pump(&["upgrade"]).ended(40, "has another hash");
    }
    fs::write(&file, [honest.as_slice(), b"x"].concat()).expect("our own file");
    place.pump(&["upgrade"]).ended(40, "more than its");
    place.is_untouched(&before);
    place.pump(&["history"]).ended(0, "exit 40");
    fs::write(&file, honest).expect("our own file");
    place.pump(&["upgrade"]).ended(0, "");
}

#[test]
fn p6_a_release_for_another_machine_is_refused() {
    let place = Place::new();
    let new = version("1.1.0");
    place.offer_bundle(&new, &new.bundle(), "riscv64gc-unknown-linux-gnu");
    let ran = place.pump(&["upgrade"]);
    ran.ended(40, "made for riscv64gc-unknown-linux-gnu and this machine is x86_64");
}

#[test]
fn b04_p6_metadata_signed_by_a_stranger_is_refused() {
    let place = Place::new();
    let stranger = Place::new();
    stranger.offer(&version("1.1.0"));
    let source = stranger.source.dir().to_str().expect("text").to_owned();
    let ran = place.pump(&["upgrade", "--source", &source]);
    ran.ended(40, "not signed by keys that are trusted here");
    // And when only one of the signed files is theirs.
    place.offer(&version("1.1.0"));
    for file in ["2.snapshot.json", "2.targets.json", "timestamp.json"] {
        let path = place.source.dir().join("metadata").join(file);
        let honest = fs::read(&path).expect("our own file");
        fs::copy(stranger.source.dir().join("metadata").join(file), &path).expect("copied");
        place.pump(&["upgrade", "--check"]).ended(40, "");
        fs::write(&path, honest).expect("our own file");
    }
    place.pump(&["upgrade", "--check"]).ended(10, "");
}

#[test]
fn b05_p6_expired_metadata_is_refused() {
    let place = Place::new();
    let new = version("1.1.0");
    let yesterday = Expiry::in_days(Timestamp::now(), -1);
    place.offer_until(&new, &new.bundle(), TARGET, yesterday);
    let before = place.program();
    place.pump(&["upgrade"]).ended(41, "has expired");
    place.pump(&["upgrade", "--check"]).ended(41, "clock");
    place.is_untouched(&before);
    let now = Timestamp::now();
    place.source.sign_again(now, Expiry::usual(now)).expect("a publisher can sign again");
    place.pump(&["upgrade"]).ended(0, "");
}

#[test]
fn b06_p6_metadata_older_than_what_was_seen_is_refused() {
    let place = Place::new();
    let kept = place.folder().join("old-metadata");
    copy(&place.source.dir().join("metadata"), &kept);
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade", "--check"]).ended(10, "");
    copy(&kept, &place.source.dir().join("metadata"));
    place.pump(&["upgrade"]).ended(42, "somebody plays back an old state");
    // Losing the record does not lose it silently.
    let floor = place.path("var/lib/pump-upgrade/floor.json");
    let whole = fs::read(&floor).expect("our own file");
    fs::write(&floor, &whole[..whole.len() / 2]).expect("our own file");
    place.pump(&["upgrade"]).ended(42, "is damaged");
    fs::write(&floor, "").expect("our own file");
    place.pump(&["upgrade"]).ended(42, "is damaged");
}

#[test]
fn another_publisher_starts_counting_where_it_likes() {
    let place = Place::new();
    for number in ["1.1.0", "1.2.0", "1.3.0"] {
        place.offer(&version(number));
    }
    place.pump(&["upgrade", "--check"]).ended(10, "1.3.0");
    let other = Place::new();
    other.offer(&version("1.4.0"));
    let (source, root) = (other.source.dir().to_owned(), other.source.trust_root());
    let (source, root) = (source.to_str().expect("text"), root.to_str().expect("text"));
    let words = ["upgrade", "--check", "--source", source, "--trust-root", root];
    place.pump(&words).ended(10, "1.4.0");
}

#[test]
fn a_root_for_tests_speaks_for_nobody_elsewhere() {
    let place = Place::new();
    for source in ["https://releases.example/", "http://localhost:1/"] {
        let ran = place.pump(&["upgrade", "--source", source]);
        ran.ended(40, "one for tests, whose keys anybody may have");
    }
}

#[test]
fn a_source_that_cannot_be_reached_is_a_matter_of_time() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("loopback");
    let url = format!("http://{port}/");
    place.pump(&["upgrade", "--source", &url]).ended(75, "check the network");
    let gone = place.folder().join("gone");
    place.pump(&["upgrade", "--source", gone.to_str().expect("text")]).ended(75, "does not have");
    place.pump(&["history"]).ended(0, "nothing has happened yet");
}

#[test]
fn a_web_server_carries_what_a_folder_carries() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let url = serve(place.source.dir().to_owned(), None);
    place.pump(&["upgrade", "--source", &url, "--check"]).ended(10, "1.1.0");
    place.pump(&["upgrade", "--source", &url]).ended(0, "");
    assert!(place.link("current").is_some_and(|name| name.starts_with("1.1.0+")));
}

#[test]
fn a_web_server_that_stops_in_the_middle_is_a_matter_of_time() {
    let place = Place::new();
    place.offer(&version("1.1.0"));
    let url = serve(place.source.dir().to_owned(), Some(100));
    let before = place.program();
    place.pump(&["upgrade", "--source", &url]).ended(75, "");
    place.is_untouched(&before);
}

#[test]
fn keys_that_were_replaced_are_followed_from_the_root_that_is_trusted() {
    let mut place = Place::new();
    place.offer(&version("1.1.0"));
    place.pump(&["upgrade", "--check"]).ended(10, "1.1.0");
    // The next root names the keys of another folder for time stamps, and is signed by the first.
    let theirs = place.folder().join("next-keys");
    let next = Keys::make(&theirs, Timestamp::MAX).expect("keys can be made");
    let read = |keys: &Path| {
        let text = fs::read(keys).expect("our own file");
        serde_json::from_slice::<tough::schema::Signed<tough::schema::Root>>(&text).expect("a root")
    };
    let (old, new) = (read(&place.source.trust_root()).signed, read(&next.root()).signed);
    let mut root = old;
    root.version = root.version.checked_add(1).expect("2");
    for role in [tough::schema::RoleType::Timestamp, tough::schema::RoleType::Snapshot] {
        root.roles.insert(role, new.roles[&role].clone());
    }
    root.keys.extend(new.keys);
    let folder = place.folder().join("keys");
    for name in ["timestamp.pk8", "snapshot.pk8"] {
        fs::rename(theirs.join(name), folder.join(name)).expect("our own files");
    }
    Keys::open(&folder).expect("our own folder").sign_root(root).expect("it can be signed");
    // Signed afresh, counting from 1: the recovery from a stolen key that ran ahead.
    fs::remove_file(place.source.dir().join("metadata/timestamp.json")).expect("our own file");
    let keys = Keys::open(&folder).expect("our own folder");
    place.source = Source::new(place.source.dir(), keys);
    place.offer(&version("1.2.0"));
    place.pump(&["upgrade"]).ended(0, "");
    assert!(place.link("current").is_some_and(|name| name.starts_with("1.2.0+")));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own folder");
    for entry in fs::read_dir(from).expect("our own folder") {
        let path = entry.expect("our own folder").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("our own file");
    }
}

/// A web server of one folder, for as long as the test lasts. With a limit, whatever is longer is
/// promised whole and cut off there.
fn serve(folder: PathBuf, cut_at: Option<usize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that went away is no failure of the server.
            let _ = reply(stream, &folder, cut_at);
        }
    });
    format!("http://{address}")
}

fn reply(stream: TcpStream, folder: &Path, cut_at: Option<usize>) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    let mut stream = &stream;
    match fs::read(folder.join(path)) {
        Ok(body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )?;
            stream.write_all(&body[..cut_at.unwrap_or(length).min(length)])
        }
        Err(_) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}
