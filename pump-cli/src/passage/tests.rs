//! Every state, every world: what is done about it ends, and ends with one release that serves and is
//! current.

use super::*;

const SERVES: [Serves; 5] =
    [Serves::Nothing, Serves::From, Serves::To, Serves::Other, Serves::Moving];
const LINKS: [Links; 3] = [Links::From, Links::To, Links::Other];
const WAYS: [Way; 3] = [Way::Links, Way::Roll, Way::Restart];

fn cut(action: Action, way: Way, state: State) -> Transition {
    let asked = Asked::default();
    let layout = Layout::private("/nowhere");
    let mut passage = Passage::begin(&layout, action, asked);
    passage.about(|it| (it.way, it.state) = (way, state));
    passage.last.clone()
}

fn all() -> Vec<(Transition, World)> {
    let mut all = Vec::new();
    for action in [Action::Upgrade, Action::Rollback] {
        for way in WAYS {
            for state in State::ALL {
                for serves in SERVES {
                    for current in LINKS {
                        for whole in [true, false] {
                            let world = World { serves, current, whole };
                            all.push((cut(action, way, state), world));
                        }
                    }
                }
            }
        }
    }
    all
}

#[test]
fn nothing_is_decided_while_something_moves() {
    for (last, world) in all() {
        assert_eq!(next(&last, world) == Next::Wait, world.serves == Serves::Moving, "{last:?}");
    }
}

#[test]
fn a_release_that_is_not_whole_becomes_current_in_no_state() {
    for (last, world) in all().into_iter().filter(|(_, world)| !world.whole) {
        let next = next(&last, world);
        let on = matches!(next, Next::Forward | Next::Bake | Next::Confirm);
        assert!(!on, "{:?} in {world:?} is {next:?}", last.state);
    }
}

#[test]
fn what_somebody_else_has_done_meanwhile_stays() {
    for (last, world) in all() {
        let other = world.serves == Serves::Other || world.current == Links::Other;
        if other && world.serves != Serves::Moving {
            assert_eq!(next(&last, world), Next::EndOther, "{:?} in {world:?}", last.state);
        }
    }
}

#[test]
fn before_the_roll_nothing_needs_to_be_undone() {
    for (last, world) in all() {
        let world = World { serves: Serves::From, current: Links::From, ..world };
        if last.state < State::Rolled {
            let next = next(&last, world);
            assert!(matches!(next, Next::Again | Next::Forward), "{:?}: {next:?}", last.state);
        }
    }
}

/// What doing it changes, when it goes well.
fn done(last: &mut Transition, world: World, next: Next) -> World {
    let to = World { serves: Serves::To, current: Links::To, whole: true };
    let back = World { serves: Serves::From, current: Links::From, ..world };
    let (state, world) = match next {
        Next::Wait => (last.state, World { serves: Serves::From, ..world }),
        // From the beginning: it is fetched and unpacked.
        Next::Again => (State::Unpacked, World { whole: true, ..world }),
        Next::Forward => (State::Rolled, World { serves: Serves::To, ..world }),
        Next::Bake | Next::Confirm if world.serves == Serves::Nothing => {
            (State::Confirmed, World { current: Links::To, ..world })
        }
        Next::Bake | Next::Confirm => (State::Confirmed, to),
        Next::Back => (State::RolledBack, back),
        Next::EndBack => (State::RolledBack, world),
        Next::EndOther => (State::Failed, world),
    };
    last.state = state;
    world
}

#[test]
fn whatever_the_state_and_the_world_going_on_ends_with_the_release_that_serves_being_current() {
    let mut ended = 0;
    for (mut last, world) in all() {
        let begun = (last.state, world);
        let mut world = world;
        if last.state.is_end() {
            continue;
        }
        let is_ours = |world: World| world.serves != Serves::Other && world.current != Links::Other;
        let ours = is_ours(world);
        for _ in 0..8 {
            if last.state.is_end() {
                break;
            }
            let next = next(&last, world);
            world = done(&mut last, world, next);
        }
        assert!(last.state.is_end(), "{begun:?} does not end: {last:?}");
        if ours {
            let agree = matches!(
                (world.serves, world.current),
                (Serves::From, Links::From) | (Serves::To, Links::To) | (Serves::Nothing, _)
            );
            assert!(agree, "{begun:?} by {:?} ends as {world:?}", last.way);
        }
        ended += 1;
    }
    assert!(ended > 500, "only {ended} were looked at");
}

fn place() -> (tempfile::TempDir, Layout) {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::private(place.path());
    std::fs::create_dir_all(layout.upgrade_data()).unwrap();
    (place, layout)
}

fn begun(layout: &Layout) -> Passage {
    let mut passage = Passage::begin(layout, Action::Upgrade, Asked::default());
    passage.about(|it| (it.from, it.to, it.of) = ("1".into(), "2".into(), 2));
    passage
}

#[test]
fn a_passage_is_unfinished_until_its_last_hop_has_ended() {
    let (_place, layout) = place();
    assert_eq!(last(&layout).unwrap(), Last::Ended);
    let mut passage = begun(&layout);
    passage.reach(State::Unpacked).unwrap();
    let Last::Unfinished(found) = last(&layout).unwrap() else { panic!("it is unfinished") };
    assert_eq!(*found, passage.last);
    passage.end(State::Confirmed, ExitStatus::Done, "it serves").unwrap();
    assert!(matches!(last(&layout).unwrap(), Last::Unfinished(_)), "there is a second hop");
    passage.about(|it| it.hop = 2);
    passage.end(State::Confirmed, ExitStatus::Done, "it serves").unwrap();
    assert_eq!(last(&layout).unwrap(), Last::Ended);
}

#[test]
fn a_torn_line_is_as_if_it_had_not_been_written() {
    let (_place, layout) = place();
    let mut passage = begun(&layout);
    passage.reach(State::Unpacked).unwrap();
    let text = std::fs::read_to_string(file(&layout)).unwrap();
    for length in [1, text.len() / 2, text.len() - 2] {
        let torn = format!("{text}{}", &text[..length]);
        std::fs::write(file(&layout), torn).unwrap();
        let Last::Unfinished(found) = last(&layout).unwrap() else { panic!("it is unfinished") };
        assert_eq!(*found, passage.last);
    }
    passage.reach(State::Expanded).unwrap();
    let Last::Unfinished(found) = last(&layout).unwrap() else { panic!("it is unfinished") };
    assert_eq!(found.state, State::Expanded);
}

#[test]
fn what_a_later_pump_has_begun_is_left_to_it_and_what_it_adds_is_no_hindrance() {
    let (_place, layout) = place();
    let mut line = serde_json::to_value(&begun(&layout).last).unwrap();
    line["colour"] = "green".into();
    assert!(matches!(last_of(vec![line.clone()]), Last::Unfinished(_)));
    for (key, value) in [("state", "teleported"), ("way", "sideways")] {
        let mut line = line.clone();
        line[key] = value.into();
        assert_eq!(last_of(vec![line]), Last::Later);
    }
    line["format"] = 2.into();
    assert_eq!(last_of(vec![line]), Last::Later);
}

#[test]
fn the_file_does_not_grow_without_end() {
    let (_place, layout) = place();
    let line = serde_json::to_string(&begun(&layout).last).unwrap();
    std::fs::write(file(&layout), format!("{line}\n").repeat(3000)).unwrap();
    let mut passage = begun(&layout);
    passage.reach(State::Checked).unwrap();
    let text = std::fs::read_to_string(file(&layout)).unwrap();
    assert_eq!(text.lines().count(), KEPT_LINES + 1);
    assert!(matches!(last(&layout).unwrap(), Last::Unfinished(_)));
}
