//! How releases come over a network: what was cut goes on, what lies is found out, and who is busy is
//! waited for.

use std::fs;

use pump_repository::sha256;
use pump_test::releases::{Deed, ReleaseServer};

use crate::place::{Place, Ran, Wanted, version};

/// A place that fetches from a server, which offers one release more than is installed.
fn offered() -> (Place, ReleaseServer, Wanted) {
    let place = Place::new();
    let new = version("1.1.0");
    place.offer(&new);
    let server = ReleaseServer::of(place.source.dir());
    place.fetch_from(&server.url(), "");
    (place, server, new)
}

#[track_caller]
fn arrives(place: &Place, new: &Wanted) -> Ran {
    let ran = place.pump(&["upgrade"]);
    ran.ended(0, "");
    assert_eq!(place.link("current"), Some(new.info().name()));
    let parts = fs::read_dir(place.path("var/lib/pump-upgrade/parts")).expect("it was made");
    assert_eq!(parts.count(), 0, "what was used is gone");
    ran
}

/// What was asked of the bundle: where from, and on which condition.
fn ranges(server: &ReleaseServer) -> Vec<Option<String>> {
    server.asked("tar.zst").into_iter().map(|asked| asked.range).collect()
}

fn from(at: usize) -> Option<String> {
    Some(format!("bytes={at}-"))
}

#[test]
fn b08_a_download_that_is_cut_goes_on_where_it_ended() {
    let (place, server, new) = offered();
    place.fetch_from_within(&server.url(), "", 4);
    server.once("tar.zst", Deed::CutAfter(100));
    server.once("tar.zst", Deed::StallAfter(50));
    arrives(&place, &new);
    assert_eq!(ranges(&server), [None, from(100), from(150)]);
    let conditions: Vec<_> =
        server.asked("tar.zst").into_iter().map(|asked| asked.if_range.is_some()).collect();
    assert_eq!(conditions, [false, true, true], "only the rest of the same file is of use");
}

#[test]
fn b08_the_next_run_goes_on_with_what_this_one_has() {
    let (place, server, new) = offered();
    server.once("tar.zst", Deed::CutAfter(100));
    server.always("tar.zst", Deed::Status(503, Some("3600")));
    place.pump(&["upgrade"]).ended(75, "come again in 3600 s");
    let honest = ReleaseServer::of(place.source.dir());
    place.fetch_from(&honest.url(), "");
    arrives(&place, &new);
    assert_eq!(ranges(&honest), [from(100)]);
}

#[test]
fn b08_a_server_that_knows_no_ranges_is_asked_for_all_of_it() {
    let (place, server, new) = offered();
    server.once("tar.zst", Deed::CutAfter(100));
    server.once("tar.zst", Deed::IgnoresRange);
    arrives(&place, &new);
    assert_eq!(ranges(&server), [None, from(100)]);
}

#[test]
fn b08_a_part_from_elsewhere_is_thrown_away() {
    let (place, server, new) = offered();
    server.once("tar.zst", Deed::CutAfter(100));
    server.once("tar.zst", Deed::WrongRange);
    arrives(&place, &new);
    assert_eq!(ranges(&server), [None, from(100), None]);
}

#[test]
fn b08_a_file_that_was_swapped_in_the_middle_is_noticed_by_its_tag() {
    let (place, server, new) = offered();
    // A part is here, and the server has another file by then, under a tag of its own.
    server.once("tar.zst", Deed::CutAfter(100));
    let mut other = new.bundle().bytes;
    other.iter_mut().for_each(|byte| *byte ^= 1);
    server.once("tar.zst", Deed::Serves(other));
    place.pump(&["upgrade"]).ended(40, "has another hash");
    assert_eq!(ranges(&server), [None, from(100)], "all of the other file came");
    arrives(&place, &new);
}

#[test]
fn b08_a_swap_under_the_same_tag_costs_one_more_download() {
    let (place, server, new) = offered();
    let mut other = new.bundle().bytes;
    other.iter_mut().for_each(|byte| *byte ^= 1);
    server.once("tar.zst", Deed::CutAfter(100));
    // The rest is of another file, though the server says that it is the same one.
    server.once("tar.zst", Deed::Poses(other));
    arrives(&place, &new);
    assert_eq!(ranges(&server), [None, from(100), None]);
}

#[test]
fn b08_a_part_that_a_full_disk_or_a_stranger_left_is_not_believed() {
    let (place, server, new) = offered();
    let parts = place.path("var/lib/pump-upgrade/parts");
    fs::create_dir_all(&parts).expect("our own folder");
    let whole = new.bundle().bytes.len();
    let path = parts.join(sha256(&new.bundle().bytes).to_string());
    for rubbish in [vec![0; 100], vec![0; whole], vec![0; whole + 1]] {
        fs::write(&path, &rubbish).expect("our own file");
        fs::write(parts.join("of-another"), b"x").expect("our own file");
        arrives(&place, &new);
        place.pump(&["rollback"]).ended(0, "");
        let folder = place.path("opt/pump/releases").join(new.info().name());
        fs::remove_dir_all(folder).expect("it is there");
        let _ = fs::remove_file(place.path("opt/pump/previous"));
    }
    assert!(ranges(&server).contains(&from(100)), "{:?}", ranges(&server));
}

#[test]
fn b08_a_wrong_length_is_found_out() {
    let (place, server, new) = offered();
    let length = new.bundle().bytes.len() as u64;
    for (claims, exit, says) in [
        (length + 1, 40, "has more than its"),
        (length - 1, 40, "has less than its"),
        (0, 40, "has less than its"),
        (u64::MAX / 2, 40, "has more than its"),
    ] {
        server.once("tar.zst", Deed::Claims(claims));
        place.pump(&["upgrade"]).ended(exit, says);
    }
    arrives(&place, &new);
}

#[test]
fn b08_who_is_busy_is_asked_again() {
    let (place, server, new) = offered();
    for (code, after) in [(429, Some("1")), (503, Some("0"))] {
        server.once("timestamp.json", Deed::Status(code, after));
    }
    for (code, after) in [(403, Some("0")), (502, None)] {
        server.once("tar.zst", Deed::Status(code, after));
    }
    arrives(&place, &new);
    assert_eq!(server.asked("timestamp.json").len(), 3);
    assert_eq!(ranges(&server), [None, None, None]);
}

#[test]
fn b08_whoever_says_no_is_not_asked_again() {
    let (place, server, _) = offered();
    for (code, says) in [(401, "says 401"), (403, "does not have"), (404, "does not have")] {
        server.once("tar.zst", Deed::Status(code, None));
        let before = server.asked("tar.zst").len();
        place.pump(&["upgrade"]).ended(75, says);
        assert_eq!(server.asked("tar.zst").len(), before + 1);
    }
}

#[test]
fn b08_metadata_that_is_cut_is_fetched_again() {
    let (place, server, new) = offered();
    for file in ["timestamp.json", "snapshot.json", "targets.json", "index-stable.json"] {
        server.once(file, Deed::CutAfter(10));
    }
    arrives(&place, &new);
}

#[test]
fn b08_a_mirror_is_asked_when_the_source_fails_or_lies() {
    for deed in [
        Deed::Status(404, None),
        Deed::Serves(b"<html>".to_vec()),
        Deed::RedirectsToItself,
        Deed::Silent,
    ] {
        let (place, bad, new) = offered();
        let good = ReleaseServer::of(place.source.dir());
        let mirrors = format!("mirrors = [\"{}\"]", good.url());
        place.fetch_from_within(&bad.url(), &mirrors, 1);
        bad.always("", deed);
        let ran = arrives(&place, &new);
        assert!(ran.err.contains("trying the next mirror"), "{ran:?}");
    }
}

#[test]
fn b08_a_bundle_that_one_mirror_lacks_is_fetched_from_the_other() {
    let (place, bad, new) = offered();
    let good = ReleaseServer::of(place.source.dir());
    place.fetch_from(&bad.url(), &format!("mirrors = [\"{}\"]", good.url()));
    // The part that the first one gave is gone on with at the second.
    bad.once("tar.zst", Deed::CutAfter(100));
    bad.always("tar.zst", Deed::Status(404, None));
    arrives(&place, &new);
    assert_eq!(ranges(&good), [from(100)]);
    assert!(good.asked("timestamp.json").is_empty());
}

#[test]
fn b08_of_several_mirrors_the_one_that_lies_is_told() {
    let (place, away, _) = offered();
    let forging = ReleaseServer::of(place.source.dir());
    forging.always("", Deed::Serves(b"{}".to_vec()));
    place.fetch_from(&away.url(), &format!("mirrors = [\"{}\"]", forging.url()));
    away.always("", Deed::Status(404, None));
    place.pump(&["upgrade"]).ended(40, "is not what was signed");
}

#[test]
fn b08_a_redirect_is_followed() {
    let (place, server, new) = offered();
    let there = ReleaseServer::of(place.source.dir());
    let path = server_path(&place, &new);
    server.always("tar.zst", Deed::RedirectsTo(format!("{}/{path}", there.url())));
    arrives(&place, &new);
    assert_eq!(there.asked("tar.zst").len(), 1);
}

fn server_path(place: &Place, new: &Wanted) -> String {
    let file = place.bundle_file(new);
    let below = file.strip_prefix(place.source.dir()).expect("it lies there");
    below.to_str().expect("text").to_owned()
}

#[test]
fn b08_a_server_is_who_an_authority_says() {
    let (place, plain, new) = offered();
    let server = ReleaseServer::encrypted(place.source.dir());
    place.fetch_from(&server.url(), "");
    place.pump(&["upgrade"]).ended(75, "ertificate");
    let file = place.folder().join("authority.pem");
    fs::write(&file, ReleaseServer::authority()).expect("our own file");
    // By the environment, as for curl.
    let mut command = place.command(&["upgrade", "--check"]);
    let ran = command.env("SSL_CERT_FILE", &file).output().expect("pump can be run");
    assert_eq!(ran.status.code(), Some(10), "{ran:?}");
    // And by the configuration.
    place.fetch_from(&server.url(), &format!("ca = \"{}\"", file.display()));
    arrives(&place, &new);
    // An encrypted source leads to no other one.
    server.always("timestamp.json", Deed::RedirectsTo(plain.url()));
    place.pump(&["upgrade"]).ended(75, "from https:// to http://");
    fs::write(&file, "no certificate").expect("our own file");
    place.pump(&["upgrade"]).ended(78, "the `ca` of");
}

#[test]
fn b08_a_proxy_is_gone_through_with_name_and_password() {
    // dXNlcjpwYXNz is `user:pass`.
    let proxy = ReleaseServer::proxy("dXNlcjpwYXNz");
    let (place, plain, new) = offered();
    let check = |url: &str, variable: &str, value: String, not: &str| {
        let file = place.folder().join("authority.pem");
        fs::write(&file, ReleaseServer::authority()).expect("our own file");
        place.fetch_from(url, &format!("ca = \"{}\"", file.display()));
        let mut command = place.command(&["upgrade", "--check"]);
        command.env(variable, value).env("NO_PROXY", not);
        let ran = command.output().expect("pump can be run");
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let encrypted = ReleaseServer::encrypted(place.source.dir());
    for (url, variable) in [(plain.url(), "http_proxy"), (encrypted.url(), "HTTPS_PROXY")] {
        let with = |who: &str| format!("http://{who}{}", proxy.address());
        let before = proxy.asked("").len();
        let (code, said) = check(&url, variable, with("user:pass@"), "");
        assert_eq!(code, Some(10), "{said}");
        assert!(proxy.asked("").len() > before, "the proxy was left out");
        let (code, said) = check(&url, variable, with("user:wrong@"), "");
        assert_eq!(code, Some(75), "{said}");
        let before = proxy.asked("").len();
        let (code, said) = check(&url, variable, with("user:wrong@"), "127.0.0.1");
        assert_eq!(code, Some(10), "{said}");
        assert_eq!(proxy.asked("").len(), before, "the proxy was asked");
    }
    // A timer has no environment of anybody's.
    let before = proxy.asked("").len();
    let line = format!("proxy = \"http://user:pass@{}\"", proxy.address());
    place.fetch_from(&plain.url(), &line);
    arrives(&place, &new);
    assert!(proxy.asked("tar.zst").len() == 1 && proxy.asked("").len() > before);
}

#[test]
fn b08_a_server_that_is_never_silent_for_long_has_a_limit_too() {
    let (place, server, _) = offered();
    let limits = "silent_seconds = 600\nmetadata_seconds = 1\nbundle_seconds = 1\n";
    let text = format!("source = \"{}\"\n[fetch]\n{limits}", server.url());
    fs::write(place.path("etc/pump/upgrade.toml"), text).expect("our own file");
    for part in ["targets.json", "tar.zst"] {
        server.once(part, Deed::StallAfter(10));
        place.pump(&["upgrade"]).ended(75, "did not send all within 1 s");
    }
}

#[test]
fn nothing_is_told_on_the_way_when_nobody_wants_to_hear_it() {
    let (place, _server, _) = offered();
    let ran = place.pump(&["upgrade", "--quiet"]);
    ran.ended(0, "");
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
}

#[test]
fn b08_a_password_in_an_address_is_not_told() {
    let (place, server, _) = offered();
    server.always("", Deed::Status(404, None));
    let url = server.url().replace("http://", "http://me:secret@");
    place.fetch_from(&url, "");
    let ran = place.pump(&["upgrade"]);
    ran.ended(75, "does not have");
    assert!(!ran.err.contains("secret"), "{ran:?}");
}

#[test]
fn what_is_wrong_in_the_limits_is_told_with_its_line() {
    let place = Place::new();
    let config = place.path("etc/pump/upgrade.toml");
    for (text, says) in [
        ("source = \"/srv\"\n[fetch]\nsilent_seconds = 0\n", "line 3: `silent_seconds = 0`"),
        ("source = \"/srv\"\nmirrors = [\"ftp://x\"]\n", "line 2: the mirror `ftp://x`"),
        ("source = \"/srv\"\n[fetch]\nslow = 1\n", "line 3: `slow = 1`: unknown field"),
        ("source = \"/srv\"\n\nproxy = \"me\"\n", "line 3: `proxy` is no http://"),
    ] {
        fs::write(&config, text).expect("our own file");
        place.pump(&["upgrade"]).ended(78, says);
    }
}
