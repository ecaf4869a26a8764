//! What was answered with success is kept, whoever else writes and whatever is killed.

#![expect(clippy::print_stdout, reason = "how a process that a test starts tells what it saw")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use pump_model::{NoteId, Page, Timestamp, Viewer};
use pump_store::{Account, Deed, Error, Store};

use crate::{World, name, note};

/// Where a process that a test starts finds the database.
const DATA: &str = "PUMP_STORE_TEST_DATA";

/// Runs one of the ignored tests below in a process of its own.
fn process(test: &str, data: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    command.args(["--ignored", "--exact", "--nocapture", &format!("keeping::{test}")]);
    command.env(DATA, data).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

fn data_from_parent() -> Option<std::path::PathBuf> {
    std::env::var_os(DATA).map(Into::into)
}

/// Everything on somebody's profile.
fn all_notes(store: &Store, author: &Account) -> Vec<NoteId> {
    let (mut all, mut page) = (Vec::new(), Some(Page::first().of(40)));
    while let Some(asked) = page {
        let listing = store.notes_by(author.id, Viewer::Anonymous, asked).expect("a page");
        all.extend(listing.items.iter().map(|note| note.id));
        page = listing.next.map(|id| Page::before(id).of(40));
    }
    all
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let world = World::new();
    let ada = world.person("ada");
    let id = world.posts(&ada, "kept");
    world.store.close().expect("closed");
    let again = Store::open(world.data()).expect("opened");
    assert_eq!(all_notes(&again, &ada), [id]);
    assert!(again.sign_in("ada", "adas password").expect("tried").is_some());
    again.close().expect("closed");
    // The last one out folds the log into the database.
    let files: Vec<_> = std::fs::read_dir(world.data()).expect("a folder").collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn a_closed_store_refuses_every_clone() {
    let world = World::new();
    let ada = world.person("ada");
    let clone = world.store.clone();
    world.store.close().expect("closed");
    world.store.close().expect("closed before");
    assert!(matches!(clone.account(ada.id), Err(Error::Closed { .. })));
    assert!(matches!(
        clone.post_note(ada.id, &note("late"), world.now()),
        Err(Error::Closed { .. })
    ));
}

#[test]
fn two_servers_write_side_by_side_and_nothing_is_lost_or_doubled() {
    let world = World::new();
    let ada = world.person("ada");
    let other = Store::open(world.data()).expect("opened");
    let posted: Vec<NoteId> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let store = if n % 2 == 0 { &world.store } else { &other };
                let (world, ada) = (&world, &ada);
                scope.spawn(move || {
                    let post = |_| {
                        let posted = store.post_note(ada.id, &note("same"), world.now());
                        match posted.expect("posted").deed {
                            Deed::Create(state) => state.id(),
                            other => panic!("{other:?}"),
                        }
                    };
                    (0..25).map(post).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|it| it.join().expect("no panic")).collect()
    });
    let distinct: BTreeSet<_> = posted.iter().copied().collect();
    assert_eq!(distinct.len(), 200);
    let found = all_notes(&other, &ada);
    assert_eq!(found.len(), 200);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), distinct);
}

#[test]
#[ignore = "a process that the test below starts and kills"]
fn posts_until_it_is_killed() {
    let Some(data) = data_from_parent() else { return };
    let store = Store::open(&data).expect("opened");
    let ada = store.account_by_name(&name("ada")).expect("looked").expect("made before");
    // The parent kills long before the end.
    for n in 1..1_000_000 {
        let posted =
            store.post_note(ada.id, &note("n"), Timestamp::from_millis(n)).expect("posted");
        if let Deed::Create(state) = posted.deed {
            println!("posted {}", state.id());
        }
    }
}

#[test]
fn p5_what_was_answered_survives_a_kill() {
    let world = World::new();
    let ada = world.person("ada");
    let mut answered = BTreeSet::new();
    for round in 0..3 {
        let mut writers: Vec<Child> = (0..2)
            .map(|_| process("posts_until_it_is_killed", world.data()).spawn().expect("started"))
            .collect();
        let (tell, told) = mpsc::sync_channel::<NoteId>(1024);
        std::thread::scope(|scope| {
            for writer in &mut writers {
                let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
                let tell = tell.clone();
                // Ends with the writer's output.
                scope.spawn(move || {
                    for line in lines.map_while(Result::ok) {
                        let id = line.split_once("posted ").and_then(|(_, id)| id.parse().ok());
                        if let Some(id) = id
                            && tell.send(id).is_err()
                        {
                            break;
                        }
                    }
                });
            }
            drop(tell);
            let mut told = told.iter();
            answered.extend(told.by_ref().take(40 + 10 * round));
            for writer in &mut writers {
                writer.kill().expect("killed");
                writer.wait().expect("ended");
            }
            answered.extend(told);
        });
    }
    let found: BTreeSet<NoteId> = all_notes(&world.store, &ada).into_iter().collect();
    let lost: Vec<_> = answered.difference(&found).collect();
    assert!(answered.len() >= 150, "only {} were answered", answered.len());
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    world.store.can_write().expect("a killed writer leaves no lock behind");
}

/// Resident memory of this process, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
#[ignore = "a process that the test below starts and measures"]
fn signs_in_often() {
    let Some(data) = data_from_parent() else { return };
    let store = Store::open(&data).expect("opened");
    let before = resident();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let tries = || (0..4).for_each(|_| drop(store.sign_in("ada", "wrong password")));
            scope.spawn(tries);
        }
    });
    println!("grown by {} KiB", resident() - before);
}

#[test]
fn p12_the_memory_of_a_password_hash_is_given_back() {
    let world = World::new();
    world.person("ada");
    let output = process("signs_in_often", world.data()).output().expect("ran");
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("grown by ").expect("a figure");
    let grown: i64 = rest.split_whitespace().next().expect("a number").parse().expect("a number");
    assert!(grown < 4 * 1024, "an idle process stays {grown} KiB larger after signing in");
}

#[test]
#[ignore = "a process that the test below starts on a small disk"]
fn posts_until_the_disk_is_full() {
    let Some(data) = data_from_parent() else { return };
    pump_store::migrate(&data).expect("migrated");
    let store = Store::open(&data).expect("opened");
    let new = crate::new_account("ada");
    let ada = store.create_account(&new, crate::URL, Timestamp::from_millis(1)).expect("made");
    let long = note(&"x".repeat(5000));
    let mut kept = 0;
    let error = (2..10_000)
        .find_map(|n| match store.post_note(ada.id, &long, Timestamp::from_millis(n)) {
            Ok(_) => {
                kept += 1;
                None
            }
            Err(error) => Some(error),
        })
        .expect("the disk is small");
    println!("refused with {error:?}");
    println!("kept all: {}", all_notes(&store, &ada).len() == kept);
    // Within a second of a note that was kept, which would be proof enough.
    println!("ready: {:?}", store.can_write());
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inner = process("posts_until_the_disk_is_full", folder.path());
    // A disk of its own, which a container may not allow.
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    outer.arg("mount -t tmpfs -o size=3m none \"$0\" && exec \"$@\"").arg(folder.path());
    outer.arg(inner.get_program()).args(inner.get_args()).env(DATA, folder.path());
    let output = outer.output().expect("`unshare` of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("running 1 test") {
        println!("skipped: no disk of its own here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(text.contains("refused with Full"), "{text}");
    assert!(text.contains("kept all: true"), "{text}");
    assert!(text.contains("ready: Err(Full"), "{text}");
}

/// There is always more than one worker, and while a roll is under way there are those of two builds.
#[test]
fn who_writes_without_a_pause_leaves_room_for_others() {
    const NOTES: usize = 1000;

    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let other = Store::open(world.data()).expect("opened a second time");
    let first = AtomicBool::new(false);
    let posts = |store: &Store, author: &Account| {
        let posted = (0..NOTES).take_while(|_| {
            store.post_note(author.id, &note("now me"), world.now()).expect("posted");
            !first.load(Ordering::Relaxed)
        });
        let posted = posted.count();
        first.store(true, Ordering::Relaxed);
        posted
    };
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| posts(&other, &bob));
        (posts(&world.store, &ada), theirs.join().expect("no panic"))
    });
    let fewer = ours.min(theirs);
    assert!(fewer >= NOTES / 50, "{fewer} notes of one to {NOTES} of the other");
}

/// Whoever comes finds a place among processes that always have something to write. Counted in their notes, and
/// in memory, where the lock is free for the shortest time.
#[test]
fn who_writes_now_and_then_does_not_wait_for_the_queues_of_others() {
    const MOST: usize = 120;

    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let world = World::within(folder.expect("a temporary folder"));
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let others = [(); 3].map(|()| Store::open(world.data()).expect("opened once more"));
    let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let between: Vec<usize> = std::thread::scope(|scope| {
        // Two threads each: there is always one that waits for its own process's connection.
        for store in others.iter().chain(&others) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    store.post_note(bob.id, &note("and another"), world.now()).expect("posted");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let waits = (0..40).map(|_| {
            // Not in a row: the lock is with others when we come.
            let others_have_it = count.load(Ordering::Relaxed) + 10;
            while count.load(Ordering::Relaxed) < others_have_it {
                std::thread::yield_now();
            }
            let before = count.load(Ordering::Relaxed);
            world.posts(&ada, "now me");
            count.load(Ordering::Relaxed) - before
        });
        let waits = waits.collect();
        over.store(true, Ordering::Relaxed);
        waits
    });
    let mean = between.iter().sum::<usize>() / between.len();
    assert!(mean < MOST, "{mean} notes of others before one of ours: {between:?}");
}
