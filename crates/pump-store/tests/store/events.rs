//! What happened in home feeds, told from a place onwards.

use std::collections::BTreeSet;
use std::time::Duration;

use pump_model::{AccountId, Position, Timestamp};
use pump_store::{Account, Event, Events, Happened, Store, TokenHash, TokenKind, Unheard};

use crate::{World, note};

const MANY: usize = 100;

fn told(events: &[Event]) -> Vec<String> {
    let tell = |event: &Event| match &event.happened {
        Happened::Posted(note) => note.source.clone(),
        Happened::Deleted(_) => "deleted".to_owned(),
    };
    events.iter().map(tell).collect()
}

impl World {
    fn signs_in(&self, account: &Account) -> (AccountId, TokenHash) {
        let year = Duration::from_secs(365 * 24 * 3600);
        let token = self.store.new_token(account.id, TokenKind::Bearer, year, self.now());
        (account.id, TokenHash::of(token.expect("a token").as_str()))
    }

    fn events(&self, who: (AccountId, TokenHash), after: Position) -> Events {
        let events = self.store.home_events(who, after, MANY, MANY, self.now());
        events.expect("read").expect("signed in, and not too far behind")
    }
}

#[test]
fn everything_after_a_place_is_told_once_in_order() {
    let world = World::new();
    let (ada, bob, eve) = (world.person("ada"), world.person("bob"), world.person("eve"));
    world.follows(&ada, &bob);
    let who = world.signs_in(&ada);
    let begin = world.store.position().expect("read");
    let slip = world.posts(&bob, "a slip");
    world.posts(&ada, "mine");
    world.posts(&eve, "not for ada");
    world.posts(&bob, "bob's");
    world.store.like(ada.id, slip, world.now()).expect("liked");
    world.store.delete_note(bob.id, slip, world.now()).expect("deleted");
    world.posts(&bob, "later");

    let all = world.events(who, begin);
    assert_eq!(told(&all.events), ["mine", "bob's", "deleted", "later"]);
    assert_eq!((all.until, all.more), (world.store.position().expect("read"), false));
    assert!(all.events.is_sorted_by(|a, b| a.position < b.position));
    assert_eq!(all.posters[&bob.id].totals.notes, 2);
    assert_eq!(all.posters[&bob.id].account.name, bob.name);
    for (number, event) in all.events.iter().enumerate() {
        let rest = world.events(who, event.position);
        assert_eq!(rest.events, all.events[number + 1..]);
    }
    // In pages.
    let (mut after, mut pages) = (begin, Vec::new());
    loop {
        let page = world.store.home_events(who, after, 2, MANY, world.now()).expect("read");
        let page = page.expect("signed in");
        pages.extend(page.events);
        after = page.until;
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, all.events);
    assert_eq!(after, all.until);
}

#[test]
fn who_is_signed_out_or_lost_is_told_so() {
    let world = World::new();
    let (ada, bob) = (world.person("ada"), world.person("bob"));
    let (mine, other) = (world.signs_in(&ada), world.signs_in(&bob));
    let begin = world.store.position().expect("read");
    for number in 0..3 {
        world.posts(&ada, &number.to_string());
    }
    let now = world.store.position().expect("read");
    let ask = |who, after, at| world.store.home_events(who, after, 1, 2, at).expect("read");
    assert_eq!(ask(mine, begin, world.now()), Err(Unheard::Lost { now }));
    let third = world.events(mine, begin).events[0].position;
    assert!(ask(mine, third, world.now()).expect("two are few").more);
    let future = i64::MAX.to_string().parse().expect("a position");
    assert_eq!(ask(mine, future, world.now()), Err(Unheard::Lost { now }));

    assert_eq!(ask((ada.id, other.1), third, world.now()), Err(Unheard::SignedOut));
    let late = Timestamp::from_millis(i64::MAX);
    assert_eq!(ask(mine, third, late), Err(Unheard::SignedOut));
    let ended = |at| world.store.signed_out(&[mine, other], at).expect("read");
    assert_eq!(ended(world.now()), []);
    world.store.delete_tokens(ada.id).expect("signed out");
    assert_eq!(ended(world.now()), [mine.1]);
    assert_eq!(ask(mine, third, world.now()), Err(Unheard::SignedOut));
}

#[test]
fn a_session_of_a_browser_is_no_token_for_events() {
    let world = World::new();
    let ada = world.person("ada");
    let hour = Duration::from_secs(3600);
    let token = world.store.new_token(ada.id, TokenKind::Session, hour, world.now());
    let who = (ada.id, TokenHash::of(token.expect("a token").as_str()));
    let asked = world.store.home_events(who, Position::START, 1, 1, world.now());
    assert_eq!(asked.expect("read"), Err(Unheard::SignedOut));
}

#[test]
fn one_reading_says_for_whom_each_event_is() {
    let world = World::new();
    let (ada, bob, eve) = (world.person("ada"), world.person("bob"), world.person("eve"));
    world.follows(&ada, &bob);
    world.follows(&eve, &bob);
    let begin = world.store.position().expect("read");
    world.posts(&bob, "bob's");
    world.posts(&eve, "eve's");
    let listeners = BTreeSet::from([ada.id, bob.id]);
    let heard = world.store.hear(begin, MANY, &listeners).expect("read");
    assert_eq!(told(&heard.events.events), ["bob's"], "nobody who listens hears eve");
    assert_eq!(heard.audiences[&bob.id], BTreeSet::from([ada.id, bob.id]));
    assert_eq!(heard.audiences.len(), 1);
    let one = world.store.hear(begin, 1, &listeners).expect("read");
    assert_eq!((told(&one.events.events), one.events.more), (vec!["bob's".to_owned()], true));
    let rest = world.store.hear(one.events.until, 1, &listeners).expect("read");
    assert_eq!((told(&rest.events.events), rest.events.more), (Vec::new(), false));
    assert_eq!(rest.events.until, world.store.position().expect("read"));

    assert_eq!(world.store.hear_all(begin, 1, &listeners).expect("read"), None);
    assert_eq!(world.store.hear_all(begin, 2, &listeners).expect("read"), Some(heard));
    let future = i64::MAX.to_string().parse().expect("a position");
    assert_eq!(world.store.hear_all(future, 2, &listeners).expect("read"), None);
}

/// The promise that positions rest on. The clocks of the writers go as they like.
#[test]
fn what_is_kept_later_has_the_greater_position_whoever_writes_it() {
    let world = World::new();
    let people = [world.person("ada"), world.person("bob"), world.person("eve")];
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = people
            .iter()
            .enumerate()
            .map(|(number, who)| {
                let store = Store::open(world.data()).expect("opened");
                scope.spawn(move || {
                    for turn in 0..40_i64 {
                        let clock = 1_795_285_800_000 - turn * 7_919 * (number as i64 - 1);
                        let now = Timestamp::from_millis(clock);
                        store.post_note(who.id, &note("x"), now).expect("posted");
                    }
                })
            })
            .collect();
        let (done, store) = (&done, &world.store);
        let all: BTreeSet<_> = people.iter().map(|who| who.id).collect();
        let reader = scope.spawn(move || {
            let (mut place, mut seen) = (Position::START, Vec::new());
            loop {
                let last = done.load(std::sync::atomic::Ordering::Acquire);
                let heard = store.hear(place, 7, &all).expect("read").events;
                seen.extend(heard.events.iter().map(|event| event.position));
                place = heard.until;
                if last && !heard.more {
                    return seen;
                }
            }
        });
        for writer in writers {
            writer.join().expect("no panic");
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        let seen = reader.join().expect("no panic");
        assert_eq!(seen.len(), 120, "nothing is missed that was kept while reading");
        assert!(seen.is_sorted_by(|a, b| a < b));
    });
}
