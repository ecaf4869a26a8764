//! Accounts, signing in, and tokens.

use std::time::Duration;

use pump_model::limits::{MAX_PASSWORD, MAX_TOKENS};
use pump_model::{DisplayName, Summary};
use pump_store::{Error, TokenKind};

use crate::{URL, World, name, new_account};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn an_account_is_found_by_its_name_in_any_case() {
    let world = World::new();
    let ada = world.person("ada");
    assert_eq!(world.store.account_by_name(&name("ADA")).expect("looked"), Some(ada.clone()));
    assert_eq!(world.store.account(ada.id).expect("looked"), Some(ada));
    assert_eq!(world.store.account_by_name(&name("bob")).expect("looked"), None);
}

#[test]
fn a_name_is_given_away_once() {
    let world = World::new();
    world.person("ada");
    let again = world.store.create_account(&new_account("Ada"), URL, world.now());
    assert!(matches!(again, Err(Error::NameTaken(_))), "{again:?}");
    let reserved = world.store.create_account(&new_account("admin"), URL, world.now());
    assert!(matches!(reserved, Err(Error::NameReserved(_))), "{reserved:?}");
}

#[test]
fn of_many_who_want_a_name_at_once_one_gets_it() {
    let world = World::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let ask = || world.store.create_account(&new_account("ada"), URL, world.now());
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|it| it.join().expect("no panic")).collect()
    });
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1, "{results:?}");
    let taken = |it: &&Result<_, Error>| matches!(it, Err(Error::NameTaken(_)));
    assert_eq!(results.iter().filter(taken).count(), 3, "{results:?}");
}

#[test]
fn only_the_right_password_signs_in() {
    let world = World::new();
    let ada = world.person("ada");
    let signs_in = |name: &str, password: &str| world.store.sign_in(name, password).expect("tried");
    assert_eq!(signs_in("ada", "adas password"), Some(ada.clone()));
    assert_eq!(signs_in("Ada", "adas password"), Some(ada));
    for (name, password) in [
        ("ada", "adas passwore"),
        ("ada", ""),
        ("bob", "adas password"),
        ("not a name", "adas password"),
        ("ada", &"x".repeat(MAX_PASSWORD + 1)),
        ("ada", &"x".repeat(10_000_000)),
    ] {
        assert_eq!(signs_in(name, password), None, "{name}");
    }
}

#[test]
fn a_password_is_nowhere_in_the_files_nor_is_a_token() {
    let world = World::new();
    let ada = world.person("ada");
    let token =
        world.store.new_token(ada.id, TokenKind::Bearer, DAY, world.now()).expect("a token");
    let shown = format!("{token:?}");
    assert!(!shown.contains(token.as_str()), "{shown}");
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(world.data()).expect("a folder") {
        stored.extend(std::fs::read(entry.expect("an entry").path()).expect("a file"));
    }
    let holds = |text: &str| stored.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!holds("adas password"));
    assert!(!holds(token.as_str()));
}

#[test]
fn a_profile_changes_and_stays_changed() {
    let world = World::new();
    let ada = world.person("ada");
    let display_name = DisplayName::new("Ada Lovelace").expect("a display name");
    let summary = Summary::new("I write notes.").expect("a summary");
    let changed = world.store.set_profile(ada.id, &display_name, &summary).expect("changed");
    assert_eq!((&*changed.display_name, &*changed.summary), ("Ada Lovelace", "I write notes."));
    assert_eq!(world.store.account(ada.id).expect("looked"), Some(changed));
    let nobody = world.store.set_profile("1".parse().expect("an id"), &display_name, &summary);
    assert!(matches!(nobody, Err(Error::NotFound { .. })), "{nobody:?}");
}

#[test]
fn a_token_is_good_for_its_kind_and_its_time() {
    let world = World::new();
    let ada = world.person("ada");
    let now = world.now();
    let token = world.store.new_token(ada.id, TokenKind::Bearer, DAY, now).expect("a token");
    let owner = |token: &str, kind, at| world.store.token_owner(token, kind, at).expect("asked");
    let almost = now.after(DAY - Duration::from_millis(1));
    assert_eq!(owner(token.as_str(), TokenKind::Bearer, almost), Some(ada));
    assert_eq!(owner(token.as_str(), TokenKind::Bearer, now.after(DAY)), None);
    assert_eq!(owner(token.as_str(), TokenKind::Session, now), None);
    assert_eq!(owner("", TokenKind::Bearer, now), None);
    assert_eq!(owner(&token.as_str().to_uppercase(), TokenKind::Bearer, now), None);
}

#[test]
fn signing_in_often_ends_the_oldest_sign_in_of_that_kind() {
    let world = World::new();
    let [ada, bob] = ["ada", "bob"].map(|name| world.person(name));
    let sign_in = |account, kind| {
        let token = world.store.new_token(account, kind, DAY, world.now()).expect("a token");
        token.as_str().to_owned()
    };
    let bobs = sign_in(bob.id, TokenKind::Bearer);
    let session = sign_in(ada.id, TokenKind::Session);
    let tokens: Vec<_> = (0..MAX_TOKENS + 2).map(|_| sign_in(ada.id, TokenKind::Bearer)).collect();
    let now = world.now();
    let good =
        |token: &str, kind| world.store.token_owner(token, kind, now).expect("asked").is_some();
    assert!(!good(&tokens[0], TokenKind::Bearer));
    assert!(!good(&tokens[1], TokenKind::Bearer));
    assert!(tokens[2..].iter().all(|token| good(token, TokenKind::Bearer)));
    assert!(good(&session, TokenKind::Session));
    assert!(good(&bobs, TokenKind::Bearer));
}

#[test]
fn signing_out_ends_one_token_or_all() {
    let world = World::new();
    let ada = world.person("ada");
    let sign_in =
        || world.store.new_token(ada.id, TokenKind::Session, DAY, world.now()).expect("a token");
    let good = |token: &str| {
        let owner = world.store.token_owner(token, TokenKind::Session, world.now());
        owner.expect("asked").is_some()
    };
    let (one, two, three) = (sign_in(), sign_in(), sign_in());
    assert!(world.store.delete_token(one.as_str()).expect("deleted"));
    assert!(!world.store.delete_token(one.as_str()).expect("nothing to delete"));
    assert!(!good(one.as_str()) && good(two.as_str()));
    assert_eq!(world.store.delete_tokens(ada.id).expect("deleted"), 2);
    assert!(!good(two.as_str()) && !good(three.as_str()));
}
