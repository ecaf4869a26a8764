//! Making the database, and refusing one that does not suit.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Uid, setfsuid};
use pump_store::{Error, Migrated, SCHEMA, Store, database, migrate};
use rusqlite::Connection;

use crate::World;

/// Leaves the database as a release would that is not written yet.
fn a_later_release_was_here(data: &Path, version: u32, compat: u32, sql: &str) {
    let connection = Connection::open(database(data)).expect("opened");
    connection.execute_batch(sql).expect("expanded");
    connection
        .execute("UPDATE schema SET version = ?1, compat = ?2", (version, compat))
        .expect("numbered");
}

fn numbers(data: &Path) -> (u32, u32) {
    let connection = Connection::open(database(data)).expect("opened");
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    connection.query_row("SELECT version, compat FROM schema", (), read).expect("read")
}

#[test]
fn a_new_database_is_made_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(Store::open(folder.path()), Err(Error::NotMigrated { found_version: 0, .. })));
    let first = migrate(folder.path()).expect("migrated");
    assert_eq!(first, Migrated { from: 0, to: SCHEMA.version });
    let mode = fs::metadata(database(folder.path())).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds password hashes");
    let second = migrate(folder.path()).expect("nothing to do");
    assert_eq!(second, Migrated { from: SCHEMA.version, to: SCHEMA.version });
    assert_eq!(numbers(folder.path()), (SCHEMA.version, SCHEMA.compat));
    Store::open(folder.path()).expect("opened");
}

#[test]
fn an_empty_file_is_no_database_yet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(database(folder.path()), "").expect("written");
    assert!(matches!(Store::open(folder.path()), Err(Error::NotMigrated { found_version: 0, .. })));
    assert_eq!(migrate(folder.path()).expect("migrated").from, 0);
}

#[test]
fn many_who_migrate_at_once_take_turns() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| migrate(folder.path()))).collect();
        asked.into_iter().map(|it| it.join().expect("no panic").expect("migrated")).collect()
    });
    assert_eq!(results.iter().filter(|it| it.from == 0).count(), 1, "{results:?}");
    assert!(results.iter().all(|it| it.to == SCHEMA.version));
}

#[test]
fn migrating_beside_a_running_server_disturbs_nobody() {
    let world = World::new();
    let ada = world.person("ada");
    migrate(world.data()).expect("nothing to do");
    world.posts(&ada, "still here");
    assert_eq!(world.profile(&ada), ["still here"]);
}

#[test]
fn a_newer_database_that_allows_us_is_read_and_written_and_keeps_its_numbers() {
    let world = World::new();
    let ada = world.person("ada");
    let (version, compat) = (SCHEMA.version + 1, SCHEMA.version);
    a_later_release_was_here(
        world.data(),
        version,
        compat,
        "ALTER TABLE notes ADD COLUMN language TEXT;
         CREATE TABLE boosts (activity INTEGER PRIMARY KEY, note INTEGER NOT NULL) STRICT;
         INSERT INTO activities (id, actor, kind, published) SELECT 7, id, 'announce', 0 FROM accounts;",
    );
    let found = migrate(world.data()).expect("nothing to do");
    assert_eq!(found, Migrated { from: version, to: version });
    assert_eq!(numbers(world.data()), (version, compat));

    let again = Store::open(world.data()).expect("opened");
    again.post_note(ada.id, &crate::note("from the past"), world.now()).expect("posted");
    assert_eq!(world.profile(&ada), ["from the past"]);
    // What the later release did that we know nothing of is left out, and breaks nothing.
    let outbox = again.outbox(ada.id, pump_model::Viewer::Anonymous, pump_model::Page::first());
    assert_eq!(outbox.expect("an outbox").items.len(), 1);
    assert_eq!(numbers(world.data()), (version, compat));
}

#[test]
fn a_newer_database_that_does_not_allow_us_is_refused_and_untouched() {
    let world = World::new();
    world.store.close().expect("closed");
    let (version, compat) = (SCHEMA.version + 2, SCHEMA.version + 1);
    a_later_release_was_here(world.data(), version, compat, "");
    let before = fs::read(database(world.data())).expect("read");
    for refused in [migrate(world.data()).map(drop), Store::open(world.data()).map(drop)] {
        let Err(error @ Error::TooNew { found_version, found_compat, ours, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((found_version, found_compat, ours), (version, compat, SCHEMA.version));
        let sentence = error.to_string();
        assert!(sentence.contains(&database(world.data()).display().to_string()), "{sentence}");
    }
    assert_eq!(fs::read(database(world.data())).expect("read"), before);
}

#[test]
fn an_older_database_is_migrated_before_it_is_opened() {
    let world = World::new();
    a_later_release_was_here(world.data(), SCHEMA.version - 1, 0, "");
    let opened = Store::open(world.data());
    assert!(
        matches!(&opened, Err(Error::NotMigrated { found_version, .. })
            if *found_version == SCHEMA.version - 1),
        "{opened:?}"
    );
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = database(folder.path());
    let foreign = Connection::open(&path).expect("opened");
    foreign.execute_batch("CREATE TABLE recipes (name TEXT)").expect("made");
    drop(foreign);
    let text = "this is no database at all, however long one reads in it. ".repeat(100);
    for content in [fs::read(&path).expect("read"), text.into_bytes()] {
        fs::write(&path, &content).expect("written");
        for refused in [migrate(folder.path()).map(drop), Store::open(folder.path()).map(drop)] {
            assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
        }
        assert_eq!(fs::read(&path).expect("read"), content);
    }
}

/// Runs `work` as somebody whom permissions bind, which root is not: its own thread gives root's file
/// access up.
fn as_somebody_else<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let somebody = || {
        setfsuid(Uid::from_raw(65534));
        work()
    };
    std::thread::scope(|scope| scope.spawn(somebody).join().expect("no panic"))
}

fn refused_for(outcome: Result<(), Error>, named: &Path) {
    let Err(error @ Error::NotWritable { .. }) = outcome else { panic!("{outcome:?}") };
    let sentence = error.to_string();
    assert!(sentence.contains(&named.display().to_string()), "{sentence}");
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing");
    refused_for(migrate(&missing).map(drop), &missing);
    refused_for(Store::open(&missing).map(drop), &missing);
    assert!(!missing.exists(), "a folder is not ours to make");
}

#[test]
fn a_file_where_the_folder_should_be_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    refused_for(migrate(&file).map(drop), &file);
    fs::create_dir(database(folder.path())).expect("made");
    refused_for(migrate(folder.path()).map(drop), &database(folder.path()));
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).expect("set");
    as_somebody_else(|| refused_for(migrate(folder.path()).map(drop), folder.path()));
}

#[test]
fn a_database_that_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    migrate(folder.path()).expect("migrated");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("set");
    let path = database(folder.path());
    fs::set_permissions(&path, Permissions::from_mode(0o444)).expect("set");
    as_somebody_else(|| refused_for(Store::open(folder.path()).map(drop), &path));
}
