//! The server as a whole.

use std::time::Duration;

use pump_store::{Error, Store};

use crate::{URL, World, new_account};

#[test]
fn the_address_is_pinned_by_the_first_account() {
    let world = World::new();
    for url in [URL, "https://elsewhere.example"] {
        world.store.check_public_url(url).expect("anything goes before there is an account");
    }
    world.person("ada");
    world.store.check_public_url(URL).expect("the same");
    world.store.check_public_url("https://social.example/").expect("the same to a reader");

    let other = "https://elsewhere.example";
    let second = Store::open(world.data()).expect("opened");
    let checked = second.check_public_url(other);
    let Err(Error::PublicUrlChanged { stored, configured }) = checked else {
        panic!("{checked:?}");
    };
    assert_eq!((&*stored, &*configured), (URL, other));
    let made = second.create_account(&new_account("bob"), other, world.now());
    assert!(matches!(made, Err(Error::PublicUrlChanged { .. })), "{made:?}");
}

#[test]
fn usage_counts_people_notes_and_who_is_active() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    world.person("eve");
    world.posts(&ada, "kept");
    let gone = world.posts(&bob, "deleted");
    world.store.delete_note(bob.id, gone, world.now()).expect("deleted");

    let usage = world.store.usage(world.now()).expect("counted");
    assert_eq!((usage.users, usage.posts), (3, 1));
    assert_eq!((usage.active_month, usage.active_half_year), (2, 2));
    let days = |n: u64| world.now().after(Duration::from_secs(n * 24 * 3600));
    let later = world.store.usage(days(40)).expect("counted");
    assert_eq!((later.active_month, later.active_half_year), (0, 2));
    let much_later = world.store.usage(days(200)).expect("counted");
    assert_eq!((much_later.active_month, much_later.active_half_year), (0, 0));
}

#[test]
fn a_store_that_can_write_says_so_and_a_closed_one_does_not() {
    let world = World::new();
    world.store.can_write().expect("writable");
    world.person("ada");
    world.store.can_write().expect("proved by the account");
    world.store.close().expect("closed");
    let second = Store::open(world.data()).expect("opened");
    second.can_write().expect("writable");
    second.close().expect("closed");
    let fresh = Store::open(world.data()).expect("opened");
    fresh.close().expect("closed");
    assert!(matches!(fresh.can_write(), Err(Error::Closed { .. })));
}
