//! Made-up histories: whatever candidates, workers and operators do, in whatever order.
//!
//! A [`World`] plays the processes. What becomes of each of them is drawn by proptest; the world
//! keeps the queue of what will happen, hands it to the policy in order of time, and checks after
//! every step what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use pump_control::ExitStatus;

use super::*;

/// What a process that was started will do.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Ready after so many milliseconds; serves; drains within so many when asked.
    Good { ready: u64, drain: u64 },
    /// Ready, then dies so many milliseconds later.
    DiesLater { ready: u64, dies: u64 },
    /// Dies before it is ready.
    DiesAtOnce { dies: u64 },
    /// Says that it cannot serve.
    Refuses { after: u64 },
    /// Never says anything, and ends only when killed.
    Hangs,
    /// Ready; never drains; is not even ended by SIGKILL.
    Stuck { ready: u64 },
}

/// What a candidate is like.
#[derive(Clone, Debug)]
struct Candidate {
    inspect: Option<bool>,
    prepare: Option<bool>,
    key: u8,
    workers: usize,
    fates: Vec<Fate>,
}

#[derive(Clone, Debug)]
struct Ask {
    after: u64,
    by_signal: bool,
    candidate: Candidate,
}

#[derive(Clone, Debug)]
struct History {
    workers: usize,
    dice: u64,
    first: Vec<Fate>,
    asks: Vec<Ask>,
    stop_after: Option<u64>,
}

#[derive(Clone, Debug)]
enum Due {
    Ready(WorkerId),
    Refused(WorkerId),
    Exited(WorkerId),
    Inspected(RollId),
    Prepared(RollId),
    Ask(usize),
    Stop,
}

struct World {
    cluster: Cluster,
    now: u64,
    queue: BTreeMap<(u64, u64), Due>,
    next: u64,
    fates: BTreeMap<WorkerId, Fate>,
    spawned: u64,
    first: Vec<Fate>,
    asks: Vec<Ask>,
    rolls: BTreeMap<RollId, usize>,
    generations: BTreeMap<GenerationId, RollId>,
    endings: BTreeMap<RollId, Ending>,
    ended: bool,
}

/// Milliseconds after which nothing that was asked can still be under way.
const LONG_AFTER: u64 = 3_600_000;

const WATCHED: Duration = Duration::from_secs(2);

const SETTLE: Duration = Duration::from_secs(20);

fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        ready_within: SETTLE,
        drain_within: Duration::from_secs(30),
        watched_for: WATCHED,
    }
}

fn key(number: u8) -> Key {
    Key { build: format!("build {number}"), config: String::new() }
}

impl World {
    fn new(history: &History) -> Self {
        let mut world = Self {
            cluster: Cluster::new(settings(history.workers), history.dice),
            now: 0,
            queue: BTreeMap::new(),
            next: 0,
            fates: BTreeMap::new(),
            spawned: 0,
            first: history.first.clone(),
            asks: history.asks.clone(),
            rolls: BTreeMap::new(),
            generations: BTreeMap::new(),
            endings: BTreeMap::new(),
            ended: false,
        };
        let mut at = 0;
        for (number, ask) in history.asks.iter().enumerate() {
            at += ask.after;
            world.plan(at, Due::Ask(number));
        }
        if let Some(after) = history.stop_after {
            world.plan(after, Due::Stop);
        }
        let actions = world.cluster.start(Duration::ZERO);
        world.carry_out(actions);
        world
    }

    fn plan(&mut self, at: u64, due: Due) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), due);
    }

    /// Plays until nothing is due and nothing has a deadline, or the cluster has ended.
    fn play(&mut self) {
        for _ in 0..20_000 {
            if self.ended || self.now > LONG_AFTER {
                return;
            }
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.cluster.deadline().map(|at| at.as_millis() as u64);
            match (event, deadline) {
                (None, None) => return,
                (Some(event), deadline) if deadline.is_none_or(|deadline| event <= deadline) => {
                    let ((at, _), due) = self.queue.pop_first().expect("it was just seen");
                    self.now = at;
                    self.happen(due);
                }
                (_, Some(deadline)) => {
                    self.now = self.now.max(deadline);
                    self.tell(Event::Tick);
                }
                (Some(_), None) => unreachable!("an event without a deadline comes first"),
            }
        }
        panic!("the history does not come to an end: {:#?}", self.cluster);
    }

    fn happen(&mut self, due: Due) {
        let failure = || Failure { text: "died".to_owned(), output: Vec::new() };
        match due {
            Due::Ready(worker) => self.tell(Event::Ready { worker }),
            Due::Refused(worker) => {
                self.tell(Event::Refused { worker, reason: "no".to_owned() });
            }
            Due::Exited(worker) => {
                if self.fates.remove(&worker).is_some() {
                    self.tell(Event::Exited { worker, failure: failure() });
                }
            }
            Due::Inspected(roll) => {
                let candidate = self.asks[self.rolls[&roll]].candidate.clone();
                let found = match candidate.inspect {
                    Some(true) => {
                        Ok(Found { key: key(candidate.key), settings: settings(candidate.workers) })
                    }
                    _ => Err(NotAllowed {
                        exit: ExitStatus::OtherMagic,
                        text: "other magic".to_owned(),
                        hint: None,
                    }),
                };
                self.tell(Event::Inspected { roll, found });
            }
            Due::Prepared(roll) => {
                let good = self.asks[self.rolls[&roll]].candidate.prepare == Some(true);
                let result = if good { Ok(()) } else { Err(failure()) };
                self.tell(Event::Prepared { roll, result });
            }
            Due::Ask(number) => self.ask(number),
            Due::Stop => self.tell(Event::Stop),
        }
    }

    fn ask(&mut self, number: usize) {
        let before = self.cluster.clone();
        let asked = Asked { by_signal: self.asks[number].by_signal, one_worker: false };
        match self.cluster.ask(asked, Duration::from_millis(self.now)) {
            Err(_) => assert_eq!(before, self.cluster, "a refusal changes nothing"),
            Ok((roll, generation, actions)) => {
                assert!(before.roll.is_none(), "one roll at a time");
                assert!(!(asked.by_signal && before.latch.is_some()), "a latch refuses the signal");
                self.rolls.insert(roll, number);
                self.generations.insert(generation, roll);
                self.carry_out(actions);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let ready = |cluster: &Cluster| -> BTreeSet<WorkerId> {
            let ids = cluster.workers().iter().filter(|(_, worker)| worker.is_ready());
            ids.map(|(id, _)| *id).collect()
        };
        let mut served = ready(&self.cluster);
        if let Event::Ready { worker } = &event {
            served.insert(*worker);
        }
        let actions = self.cluster.on(event, Duration::from_millis(self.now));
        self.check_drains(&served, &actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Inspect(roll) => {
                    if self.asks[self.rolls[&roll]].candidate.inspect.is_some() {
                        self.plan(self.now + 5, Due::Inspected(roll));
                    }
                }
                Action::Prepare(roll) => {
                    if self.asks[self.rolls[&roll]].candidate.prepare.is_some() {
                        self.plan(self.now + 5, Due::Prepared(roll));
                    }
                }
                Action::Spawn { worker, generation } => self.spawn(worker, generation),
                Action::Drain(worker) => self.drained(worker),
                Action::Kill(worker) => {
                    if !matches!(self.fates.get(&worker), Some(Fate::Stuck { .. })) {
                        self.plan(self.now + 1, Due::Exited(worker));
                    }
                }
                Action::Ended { roll, ending } => {
                    assert!(self.rolls.contains_key(&roll), "only an accepted roll ends");
                    let before = self.endings.insert(roll, ending);
                    assert_eq!(before, None, "an accepted roll has one result");
                }
                Action::Exit => self.ended = true,
                Action::Cancel(_) | Action::Step(_) | Action::Abandon(_) => {}
            }
        }
        self.check();
    }

    fn spawn(&mut self, worker: WorkerId, generation: GenerationId) {
        if let Some(latch) = self.cluster.latch() {
            assert_ne!(latch.generation, generation, "what failed is never started again");
        }
        self.spawned += 1;
        let fates = match self.generations.get(&generation) {
            Some(roll) => &self.asks[self.rolls[roll]].candidate.fates,
            None => &self.first,
        };
        let fate = fates[(self.spawned as usize) % fates.len()];
        self.fates.insert(worker, fate);
        match fate {
            Fate::Good { ready, .. } | Fate::Stuck { ready } => {
                self.plan(self.now + ready, Due::Ready(worker));
            }
            Fate::DiesLater { ready, dies } => {
                self.plan(self.now + ready, Due::Ready(worker));
                self.plan(self.now + ready + dies, Due::Exited(worker));
            }
            Fate::DiesAtOnce { dies } => self.plan(self.now + dies, Due::Exited(worker)),
            Fate::Refuses { after } => {
                self.plan(self.now + after, Due::Refused(worker));
                self.plan(self.now + after + 1, Due::Exited(worker));
            }
            Fate::Hangs => {}
        }
    }

    fn drained(&mut self, worker: WorkerId) {
        match self.fates.get(&worker) {
            Some(Fate::Good { drain, .. }) => self.plan(self.now + drain, Due::Exited(worker)),
            Some(Fate::DiesLater { .. }) => self.plan(self.now + 50, Due::Exited(worker)),
            _ => {}
        }
    }

    /// Asking workers that serve to leave never takes the cluster below N.
    fn check_drains(&self, served: &BTreeSet<WorkerId>, actions: &[Action]) {
        let leaves = |action: &Action| matches!(action, Action::Drain(id) if served.contains(id));
        if self.cluster.is_stopping() || !actions.iter().any(leaves) {
            return;
        }
        let wanted = match self.cluster.roll() {
            Some(roll) if roll.stage == Stage::Settling => roll.settings.workers,
            _ => self.cluster.settings().workers,
        };
        let ready = self.cluster.count_all_ready();
        assert!(
            ready >= wanted,
            "{ready} ready of {wanted} after {actions:?}: {:#?}",
            self.cluster
        );
    }

    /// What holds at every moment.
    fn check(&self) {
        let cluster = &self.cluster;
        for (id, worker) in cluster.workers() {
            let rests = matches!(worker.state, State::Ready { .. } | State::Stuck);
            assert!(rests || worker.deadline().is_some(), "{id:?} has no deadline");
        }
        if cluster.roll().is_some() || cluster.is_starting() {
            assert!(cluster.deadline().is_some(), "a roll without a deadline");
        }
        let settled = cluster.roll().is_none() && !cluster.is_stopping();
        if let (true, Some(latch)) = (settled, cluster.latch()) {
            assert_ne!(latch.generation, cluster.pinned(), "what failed is not pinned");
        }
    }
}

fn fate(good: u32) -> impl Strategy<Value = Fate> {
    let ready = 1u64..25_000;
    prop_oneof![
        good => (1u64..500, 1u64..40_000).prop_map(|(ready, drain)| Fate::Good { ready, drain }),
        1 => (ready.clone(), 1u64..60_000).prop_map(|(ready, dies)| Fate::DiesLater { ready, dies }),
        1 => (1u64..1000).prop_map(|dies| Fate::DiesAtOnce { dies }),
        1 => (1u64..1000).prop_map(|after| Fate::Refuses { after }),
        1 => Just(Fate::Hangs),
        1 => ready.prop_map(|ready| Fate::Stuck { ready }),
    ]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let answer = || prop_oneof![8 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    (answer(), answer(), 0u8..4, 2usize..5, prop::collection::vec(fate(20), 1..6)).prop_map(
        |(inspect, prepare, key, workers, fates)| Candidate {
            inspect,
            prepare,
            key,
            workers,
            fates,
        },
    )
}

fn history(first: impl Strategy<Value = Fate>) -> impl Strategy<Value = History> {
    let ask = (0u64..90_000, any::<bool>(), candidate())
        .prop_map(|(after, by_signal, candidate)| Ask { after, by_signal, candidate });
    (
        2usize..5,
        any::<u64>(),
        prop::collection::vec(first, 1..6),
        prop::collection::vec(ask, 0..6),
        prop::option::of(0u64..300_000),
    )
        .prop_map(|(workers, dice, first, asks, stop_after)| History {
            workers,
            dice,
            first,
            asks,
            stop_after,
        })
}

fn good() -> impl Strategy<Value = Fate> {
    (1u64..500, 1u64..40_000).prop_map(|(ready, drain)| Fate::Good { ready, drain })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// With an old build that is good, every roll ends in one result and the cluster is whole again.
    #[test]
    fn whatever_candidates_do_the_cluster_ends_whole(history in history(good())) {
        let mut world = World::new(&history);
        world.play();
        for roll in world.rolls.keys() {
            prop_assert!(world.endings.contains_key(roll), "{roll:?} has no result");
        }
        // A build that passes as good and dies later is replaced for ever: no roll can know that.
        let pinned = world.generations.get(&world.cluster.pinned());
        let fates = pinned.map(|roll| &history.asks[world.rolls[roll]].candidate.fates);
        if fates.is_some_and(|fates| !fates.iter().all(|fate| matches!(fate, Fate::Good { .. }))) {
            return Ok(());
        }
        if world.ended || world.cluster.is_stopping() {
            prop_assert!(world.ended, "a stop comes to an end");
        } else {
            let ready = world.cluster.count_ready(world.cluster.pinned());
            prop_assert_eq!(ready, world.cluster.settings().workers);
            prop_assert_eq!(world.cluster.count_all_ready(), ready, "nobody else serves");
        }
    }
}

/// The old build may be bad too: then the cluster may never be whole, but it never hangs.
#[test]
fn whatever_anybody_does_every_roll_has_one_result() {
    let mut config = ProptestConfig::with_cases(3_000);
    config.failure_persistence = None;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner
        .run(&history(fate(3)), |mut history| {
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
