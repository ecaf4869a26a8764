//! Backups: made while the server works, checked by opening, put back whole.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pump_store::{Copy, Error, SCHEMA, Store, database, migrate, restore};
use rusqlite::Connection;

use crate::World;
use crate::old::OldCode;

/// Keeps a copy outside of the data folder, as `pump` does.
fn backup(data: &Path, to: &Path) {
    let copy = Copy::make(data, |_| ()).expect("copied");
    copy.look().expect("sound");
    let mut file = File::create(to).expect("ours");
    copy.hand_out(&mut file, to).expect("handed out");
}

fn files(data: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(data)
        .expect("our own folder")
        .map(|entry| entry.expect("ours").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_that_is_made_under_writes_is_the_database_of_one_moment() {
    let world = World::new();
    let ada = world.person("ada");
    for number in 0..300 {
        world.posts(&ada, &format!("{number} {}", "x".repeat(3000)));
    }
    let done = AtomicBool::new(false);
    let kept = world.data().join("kept");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 300;
            while !done.load(Ordering::Relaxed) {
                world.posts(&ada, &format!("{number}"));
                number += 1;
            }
        });
        for _ in 0..3 {
            backup(world.data(), &kept);
            let found = Connection::open(&kept).expect("opened");
            let count =
                |sql| found.query_row(sql, (), |row| row.get::<_, i64>(0)).expect("counted");
            let notes = count("SELECT count(*) FROM notes");
            assert!(notes >= 300);
            assert_eq!(count("SELECT count(*) FROM activities"), notes, "each in one transaction");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(!files(world.data()).iter().any(|name| name.starts_with("copy-")), "all tidied up");
}

#[test]
fn a_copy_is_put_back_and_the_replaced_database_is_kept() {
    let world = World::new();
    let ada = world.person("ada");
    world.posts(&ada, "before");
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let kept = elsewhere.path().join("kept");
    backup(world.data(), &kept);
    world.posts(&ada, "after");

    let take = || {
        let copy = Copy::take_in(world.data(), &mut File::open(&kept).expect("ours"));
        let copy = copy.expect("taken in");
        let found = copy.look().expect("sound");
        assert_eq!((found.notes, found.accounts), (1, 1));
        (copy, found)
    };
    // Not beside somebody who uses it.
    let (copy, found) = take();
    let refused = restore(world.data(), copy, &found, crate::URL, world.now());
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    assert_eq!(world.profile(&ada), ["after", "before"]);

    world.store.close().expect("closed");
    let (copy, found) = take();
    let other = restore(world.data(), copy, &found, "https://other.example", world.now());
    assert!(matches!(other, Err(Error::PublicUrlChanged { .. })), "{other:?}");
    let (copy, found) = take();
    let aside = restore(world.data(), copy, &found, crate::URL, world.now()).expect("restored");
    let now = Store::open(world.data()).expect("opened");
    assert_eq!(
        crate::texts(
            now.latest_notes(pump_model::Viewer::Anonymous, pump_model::Page::first())
                .expect("notes")
        ),
        ["before"]
    );
    let mode: String = Connection::open(database(world.data()))
        .and_then(|it| it.pragma_query_value(None, "journal_mode", |row| row.get(0)))
        .expect("a mode");
    assert_eq!(mode, "wal");

    // And back again: nothing is lost by a restore.
    let aside = aside.expect("it was there");
    let replaced = Connection::open(&aside).expect("opened");
    let notes: i64 =
        replaced.query_row("SELECT count(*) FROM notes", (), |row| row.get(0)).expect("counted");
    assert_eq!(notes, 2);
}

#[test]
fn a_copy_that_is_damaged_or_no_database_is_found_out() {
    let world = World::new();
    let ada = world.person("ada");
    for number in 0..200 {
        world.posts(&ada, &format!("{number} {}", "y".repeat(2000)));
    }
    let kept = world.data().join("kept");
    backup(world.data(), &kept);
    let whole = fs::read(&kept).expect("ours");
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 8192].fill(0x5a);
    for (what, bytes) in [
        ("torn", torn),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("empty", Vec::new()),
        ("words", b"no database at all, whatever its name says. ".repeat(100)),
    ] {
        let copy = Copy::take_in(world.data(), &mut bytes.as_slice()).expect("taken in");
        let found = copy.look();
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{what}: {found:?}");
    }
    assert_eq!(world.profile(&ada).len(), 20, "nobody has touched the database");
}

#[test]
fn a_damaged_database_is_replaced_and_kept_with_its_log() {
    let world = World::new();
    world.person("ada");
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let kept = elsewhere.path().join("kept");
    backup(world.data(), &kept);
    world.store.close().expect("closed");
    let damaged = b"no database any more. ".repeat(1000);
    fs::write(database(world.data()), &damaged).expect("ours");
    fs::write(world.data().join("pump.sqlite3-wal"), "an old log").expect("ours");
    let copy = Copy::take_in(world.data(), &mut File::open(&kept).expect("ours")).expect("in");
    let found = copy.look().expect("sound");
    let aside = restore(world.data(), copy, &found, crate::URL, world.now()).expect("restored");
    let aside = aside.expect("it was there");
    assert_eq!(fs::read(&aside).expect("kept"), damaged);
    let log = format!("{}-wal", aside.display());
    assert_eq!(fs::read(log).expect("kept"), b"an old log");
    assert!(
        Store::open(world.data())
            .expect("opened")
            .account_by_name(&crate::name("ada"))
            .expect("read")
            .is_some()
    );
}

#[test]
fn a_copy_of_an_old_version_is_migrated_in_rehearsal_and_the_database_is_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let old = OldCode::new(folder.path());
    old.posts_many(2_000);
    let copy = Copy::make(folder.path(), |_| ()).expect("copied");
    let before = copy.look().expect("sound");
    assert_eq!((before.schema.version, before.notes), (1, 2_000));
    let now = pump_model::Timestamp::from_millis(1);
    let seen = copy.rehearse(before, crate::URL, now).expect("rehearsed");
    assert_eq!((seen.migrated.from, seen.migrated.to, seen.rows), (1, SCHEMA.version, 2_000));
    assert!(seen.bytes > 0);
    copy.end().expect("removed");
    let untouched = Connection::open(database(folder.path())).expect("opened");
    let version: u32 =
        untouched.query_row("SELECT version FROM schema", (), |row| row.get(0)).expect("read");
    assert_eq!(version, 1);
}

#[test]
fn a_copy_that_is_too_new_is_refused() {
    let world = World::new();
    world.store.close().expect("closed");
    let later = Connection::open(database(world.data())).expect("opened");
    later.execute("UPDATE schema SET version = 99, compat = 98", ()).expect("numbered");
    drop(later);
    let copy = Copy::make(world.data(), |_| ()).expect("a copy of anything can be made");
    let found = copy.look().expect("sound");
    assert!(matches!(copy.suits(&found), Err(Error::TooNew { found_compat: 98, .. })));
    assert!(migrate(world.data()).is_err());
}
