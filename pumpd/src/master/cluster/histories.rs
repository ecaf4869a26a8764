//! Made-up histories: whatever candidates, workers, operators and masters do, in whatever order.
//!
//! A [`World`] plays the processes. What becomes of each of them is drawn by proptest; the world
//! keeps the queue of what will happen, hands it to the policy in order of time, and checks after
//! every step what must always hold.

mod checks;
mod fates;
mod world;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use fates::{History, candidate, fate, good, history};
use world::World;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Whether every roll that is known has a result, and the cluster has ended or is whole. The old build
/// has to be good.
fn ends_whole(world: &World, history: &History) -> Result<(), TestCaseError> {
    for roll in world.rolls.keys() {
        prop_assert!(world.endings.contains_key(roll), "{roll:?} has no result");
    }
    // A build that passes as good and dies later is replaced for ever: no roll can know that.
    let pinned = world.generations.get(&world.cluster.pinned());
    let fates = pinned.map(|roll| &history.asks[world.rolls[roll]].candidate.fates);
    if fates.is_some_and(|fates| !fates.iter().all(|fate| fate.is_good())) {
        return Ok(());
    }
    if world.ended || world.cluster.is_stopping() {
        prop_assert!(world.ended, "a stop comes to an end");
    } else {
        let ready = world.cluster.count_ready(world.cluster.pinned());
        prop_assert_eq!(ready, world.cluster.settings().workers);
        prop_assert_eq!(world.cluster.count_all_ready(), ready, "nobody else serves");
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(3_000))]

    /// With an old build that is good, every roll ends in one result and the cluster is whole again.
    #[test]
    fn whatever_candidates_do_the_cluster_ends_whole(
        history in history(good(), candidate(fate(20), 1)),
    ) {
        let mut world = World::new(&history);
        world.play();
        ends_whole(&world, &history)?;
    }

    /// However long uploads take, and whether or not the master is replaced too.
    #[test]
    fn rolls_of_good_builds_are_done(history in history(good(), candidate(good(), 0))) {
        let mut world = World::new(&history);
        world.play();
        ends_whole(&world, &history)?;
        for ending in world.endings.values() {
            prop_assert!(matches!(ending, Ending::Done | Ending::Stopped), "{ending:?}");
        }
    }

    /// P4: another build goes on in the middle of anything, with a clock of its own, and nobody notices.
    #[test]
    fn a_master_that_is_replaced_in_place_goes_on_as_if_nothing_had_been(
        history in history(fate(12), candidate(fate(20), 1)),
        cuts in prop::collection::vec(0usize..60, 1..4),
    ) {
        let mut history = history;
        history.stop_after.get_or_insert(600_000);
        let mut one = World::new(&history);
        one.play();
        let mut other = World::new(&history);
        for steps in cuts {
            if other.play_steps(steps) {
                break;
            }
            other.exec_master();
        }
        other.play();
        prop_assert_eq!(one.log, other.log);
    }

    /// P5: a master that was killed, at any moment, with what it kept in its last step or in the one
    /// before. What failed is not started again (the world looks), and the cluster is whole again.
    #[test]
    fn after_a_kill_of_the_master_the_next_one_makes_the_cluster_whole(
        history in history(good(), candidate(fate(20), 1)),
        kills in prop::collection::vec((0usize..40, any::<bool>(), 0u64..9_000), 1..4),
    ) {
        let mut history = history;
        history.stop_after = None;
        let mut world = World::new(&history);
        for (steps, all, away) in kills {
            if world.play_steps(steps) {
                break;
            }
            world.kill_master(all, away);
        }
        world.play();
        ends_whole(&world, &history)?;
    }

    /// What another build wrote is read, whatever is missing, and is a cluster that can go on.
    #[test]
    fn a_text_of_another_build_is_a_cluster(
        history in history(good(), candidate(fate(9), 1)),
        steps in 0usize..60,
        lost in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        adopt in any::<bool>(),
    ) {
        let mut world = World::new(&history);
        world.play_steps(steps);
        let carried = world.cluster.carried(Duration::from_millis(world.now));
        let mut text = serde_json::to_value(&carried).expect("plain data has a JSON form");
        for index in lost {
            spoil(&mut text, index);
        }
        let Ok(carried) = serde_json::from_value::<CarriedCluster>(text) else { return Ok(()) };
        let mut cluster = match adopt {
            true => Cluster::adopt(carried, Duration::ZERO, 7),
            false => Cluster::resume(carried, Duration::ZERO, 7),
        };
        // Nobody answers: whatever it waits for has a deadline.
        let mut now = Duration::ZERO;
        for _ in 0..200 {
            cluster.on(Event::Tick, now);
            let Some(deadline) = cluster.deadline() else { break };
            now = now.max(deadline);
        }
        prop_assert!(cluster.roll().is_none(), "a roll without an end: {cluster:#?}");
    }
}

/// Leaves out a field, or writes a word that nobody knows yet.
fn spoil(text: &mut serde_json::Value, index: prop::sample::Index) {
    match text {
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            let which = index.index(fields.len());
            let Some(name) = fields.keys().nth(which).cloned() else { return };
            match fields.get_mut(&name) {
                Some(serde_json::Value::String(word)) => *word = "later".to_owned(),
                Some(deeper @ (serde_json::Value::Object(_) | serde_json::Value::Array(_)))
                    if index.index(3) > 0 =>
                {
                    spoil(deeper, index);
                }
                _ => drop(fields.remove(&name)),
            }
        }
        serde_json::Value::Array(entries) if !entries.is_empty() => {
            let which = index.index(entries.len());
            spoil(&mut entries[which], index);
        }
        _ => {}
    }
}

/// With one worker there is one old one to be compared with, and if it dies in between another comes.
#[test]
fn a_canary_always_has_somebody_to_be_compared_with() {
    let mut cluster = Cluster::new(world::settings(1), None, 1);
    let now = Duration::from_secs;
    cluster.start(now(0));
    cluster.on(Event::Ready { worker: WorkerId(1) }, now(1));
    let asked = Asked { one_worker: true, ..Asked::default() };
    let (roll, generation, _) = cluster.ask(asked, now(20)).expect("nothing refuses");
    let settings = Settings { canary: now(10), ..world::settings(1) };
    let (key, build) = (world::key(7), Build::default());
    let found = Ok(Found { key, build, settings, master: false });
    cluster.on(Event::Inspected { roll, found }, now(21));
    cluster.on(Event::Prepared { roll, result: Ok(()) }, now(22));
    let actions = cluster.on(Event::Ready { worker: WorkerId(2) }, now(23));
    assert!(actions.iter().any(|action| matches!(action, Action::Compare { .. })), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Drain(_))), "{actions:?}");
    let died = Event::Exited { worker: WorkerId(1), failure: Failure::new("died") };
    let actions = cluster.on(died, now(25));
    let again = Action::Spawn { worker: WorkerId(3), generation: GenerationId(1) };
    assert!(actions.contains(&again), "{actions:?}");
    cluster.on(Event::Judged { roll, result: Ok(String::new()) }, now(33));
    cluster.on(Event::Tick, now(36));
    assert_eq!(cluster.count_ready(generation), 1);
}

/// The old build may be bad too: then the cluster may never be whole, but it never hangs.
#[test]
fn whatever_anybody_does_every_roll_has_one_result() {
    TestRunner::new(config(3_000))
        .run(&history(fate(3), candidate(fate(20), 1)), |mut history| {
            // An old build that dies again and again is replaced for ever; the history ends anyway.
            history.stop_after.get_or_insert(600_000);
            let mut world = World::new(&history);
            world.play();
            prop_assert!(world.ended, "a stop comes to an end");
            for roll in world.rolls.keys() {
                prop_assert!(world.endings.contains_key(roll), "{roll:?} has no result");
            }
            Ok(())
        })
        .expect("no history breaks a promise");
}
