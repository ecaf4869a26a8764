//! The processes, played: what is due, in order of time, and what must hold after each step.

use std::collections::{BTreeMap, BTreeSet};

use pump_control::ExitStatus;

use super::super::*;
use super::fates::{Ask, Candidate, Fate, History, Verdict};

/// What will happen.
#[derive(Clone, Debug)]
enum Due {
    Ready(WorkerId),
    Leaving(WorkerId),
    Progress(WorkerId, u64),
    Refused(WorkerId),
    Exited(WorkerId),
    Inspected(RollId),
    Prepared(RollId),
    Rehearsed(RollId),
    Judged(RollId, bool),
    Replaced(RollId),
    Ask(usize),
    Stop,
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) now: u64,
    /// What a master's clock shows less than ours: another master has another clock.
    behind: u64,
    queue: BTreeMap<(u64, u64), Due>,
    next: u64,
    fates: BTreeMap<WorkerId, Fate>,
    /// When a worker was asked to leave.
    asked_to_leave: BTreeMap<WorkerId, u64>,
    said_ready: BTreeSet<WorkerId>,
    first: Vec<Fate>,
    asks: Vec<Ask>,
    pub(super) rolls: BTreeMap<RollId, usize>,
    pub(super) generations: BTreeMap<GenerationId, RollId>,
    pub(super) endings: BTreeMap<RollId, Ending>,
    /// Rolls whose master was rehearsed, and whose master has taken over.
    rehearsed: BTreeSet<RollId>,
    replaced: BTreeSet<RollId>,
    /// What stands on the disk.
    pub(super) kept: Option<Latch>,
    pub(super) ended: bool,
    pub(super) abandoned: bool,
    /// Every action, for comparing two plays.
    pub(super) log: Vec<(u64, Action)>,
    pub(super) steps: usize,
    /// What was carried before the last step.
    before: CarriedCluster,
}

/// Milliseconds after which nothing that was asked can still be under way.
const LONG_AFTER: u64 = 3_600_000;

pub(super) fn settings(workers: usize) -> Settings {
    Settings {
        workers,
        ready_within: Duration::from_secs(20),
        drain_within: Duration::from_secs(30),
        hard_stop: Duration::from_secs(600),
        watched_for: Duration::from_secs(2),
        canary: Duration::ZERO,
        parallel: 1,
    }
}

pub(super) fn key(number: u8) -> Key {
    Key { build: format!("build {number}"), config: String::new() }
}

impl World {
    pub(super) fn new(history: &History) -> Self {
        let mut world = Self {
            cluster: Cluster::new(settings(history.workers), None, history.dice),
            now: 0,
            behind: 0,
            queue: BTreeMap::new(),
            next: 0,
            fates: BTreeMap::new(),
            asked_to_leave: BTreeMap::new(),
            said_ready: BTreeSet::new(),
            first: history.first.clone(),
            asks: history.asks.clone(),
            rolls: BTreeMap::new(),
            generations: BTreeMap::new(),
            endings: BTreeMap::new(),
            rehearsed: BTreeSet::new(),
            replaced: BTreeSet::new(),
            kept: None,
            ended: false,
            abandoned: false,
            log: Vec::new(),
            steps: 0,
            before: CarriedCluster::default(),
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
        world.before = world.cluster.carried(world.clock());
        world
    }

    /// The time as the master's clock shows it.
    fn clock(&self) -> Moment {
        Duration::from_millis(self.now - self.behind)
    }

    fn plan(&mut self, at: u64, due: Due) {
        self.next += 1;
        self.queue.insert((at.max(self.now), self.next), due);
    }

    /// Plays until nothing is due and nothing has a deadline, or the cluster has ended.
    pub(super) fn play(&mut self) {
        assert!(
            self.play_steps(200_000),
            "the history does not come to an end: {:#?}",
            self.cluster
        );
    }

    /// Plays so many steps; true when there are no more.
    pub(super) fn play_steps(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            if self.ended || self.now > LONG_AFTER {
                return true;
            }
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.cluster.deadline();
            let deadline = deadline.map(|at| at.as_millis() as u64 + self.behind);
            self.before = self.cluster.carried(self.clock());
            self.steps += 1;
            match (event, deadline) {
                (None, None) => return true,
                (Some(event), deadline) if deadline.is_none_or(|deadline| event <= deadline) => {
                    let ((at, _), due) = self.queue.pop_first().expect("it was just seen");
                    self.now = self.now.max(at);
                    self.happen(due);
                }
                (_, Some(deadline)) => {
                    self.now = self.now.max(deadline);
                    self.tell(Event::Tick);
                }
                (Some(_), None) => unreachable!("an event without a deadline comes first"),
            }
        }
        false
    }

    /// Another build takes the master's place in the same process.
    pub(super) fn exec_master(&mut self) {
        let carried = through_json(&self.cluster.carried(self.clock()));
        self.behind = self.now;
        self.cluster = Cluster::resume(carried, Duration::ZERO, 1);
    }

    /// The master is killed, and another one begins with what was kept: all of it, or all but the last
    /// step.
    pub(super) fn kill_master(&mut self, all: bool, away: u64) {
        let kept = if all { self.cluster.carried(self.clock()) } else { self.before.clone() };
        let mut carried = through_json(&kept);
        // Processes end while nobody looks; those that nobody knows of are orphans and end too.
        self.now += away;
        let known: BTreeSet<u64> = carried.workers.iter().map(|one| one.worker).collect();
        self.fates.retain(|id, _| known.contains(&id.0));
        carried.workers.retain(|one| self.fates.contains_key(&WorkerId(one.worker)));
        // The latch is written before anything else is done.
        carried.latch = self.kept.clone().map(Into::into);
        self.behind = self.now;
        self.cluster = Cluster::adopt(carried, Duration::ZERO, 1);
        let gone = |due: &Due| {
            !matches!(
                due,
                Due::Inspected(_)
                    | Due::Prepared(_)
                    | Due::Rehearsed(_)
                    | Due::Judged(..)
                    | Due::Replaced(_)
            )
        };
        self.queue.retain(|_, due| gone(due));
        self.rolls.retain(|roll, _| self.endings.contains_key(roll));
        // A master that has adopted keeps that before it does anything.
        self.before = self.cluster.carried(self.clock());
        self.tell(Event::Tick);
        let alive: Vec<WorkerId> = self.fates.keys().copied().collect();
        for worker in alive {
            if self.asked_to_leave.contains_key(&worker) {
                self.tell(Event::Leaving { worker });
            } else if self.said_ready.contains(&worker) {
                self.tell(Event::Ready { worker });
            }
        }
    }

    fn happen(&mut self, due: Due) {
        let failure = || Failure::new("died");
        let result = |good: Option<bool>| match good {
            Some(true) => Ok(()),
            _ => Err(failure()),
        };
        match due {
            Due::Ready(worker) => {
                if self.fates.contains_key(&worker) {
                    let known = self.cluster.workers().get(&worker);
                    let lies = known.is_some_and(|known| known.is_ready() && !known.adopted);
                    self.said_ready.insert(worker);
                    self.tell(Event::Ready { worker });
                    let known = self.cluster.workers().get(&worker);
                    let serves = known.is_some_and(Worker::is_ready);
                    assert!(!(lies && serves), "{worker:?} said it twice");
                }
            }
            Due::Leaving(worker) => {
                if self.fates.contains_key(&worker) {
                    self.asked_to_leave.entry(worker).or_insert(self.now);
                    self.tell(Event::Leaving { worker });
                }
            }
            Due::Progress(worker, every) => {
                if self.fates.contains_key(&worker) {
                    self.plan(self.now + every, Due::Progress(worker, every));
                    self.tell(Event::Progress { worker });
                }
            }
            Due::Refused(worker) => {
                // Whoever has no room is believed, and is not what is latched.
                let exhausted = worker.0 % 3 == 0;
                let failure = Failure { exhausted, ..Failure::new("no") };
                self.tell(Event::Refused { worker, failure });
            }
            Due::Exited(worker) => {
                if self.fates.remove(&worker).is_some() {
                    self.tell(Event::Exited { worker, failure: failure() });
                }
            }
            Due::Inspected(roll) => {
                let found = found(&self.candidate(roll));
                self.tell(Event::Inspected { roll, found });
            }
            Due::Prepared(roll) => {
                let result = result(self.candidate(roll).prepare);
                self.tell(Event::Prepared { roll, result });
            }
            Due::Rehearsed(roll) => {
                let result = result(self.candidate(roll).rehearse);
                self.rehearsed.insert(roll);
                self.tell(Event::Rehearsed { roll, result });
            }
            Due::Judged(roll, passes) => {
                let result = result(Some(passes)).map(|()| String::new());
                self.tell(Event::Judged { roll, result });
            }
            Due::Replaced(roll) => {
                let result = result(self.candidate(roll).replace);
                self.replaced.insert(roll);
                self.tell(Event::MasterReplaced { roll, result });
            }
            Due::Ask(number) => self.ask(number),
            Due::Stop => self.tell(Event::Stop),
        }
    }

    fn candidate(&self, roll: RollId) -> Candidate {
        self.asks[self.rolls[&roll]].candidate.clone()
    }

    fn ask(&mut self, number: usize) {
        let before = self.cluster.clone();
        let ask = &self.asks[number];
        let asked = Asked {
            by_signal: ask.by_signal,
            clear_latch: ask.clear_latch,
            one_worker: true,
            ..Asked::default()
        };
        match self.cluster.ask(asked, self.clock()) {
            Err(_) => assert_eq!(before, self.cluster, "a refusal changes nothing"),
            Ok((roll, generation, actions)) => {
                assert!(before.roll.is_none(), "one roll at a time");
                assert!(!(asked.by_signal && before.latch.is_some()), "a latch refuses the signal");
                assert!(!self.generations.contains_key(&generation), "no number is used again");
                self.rolls.insert(roll, number);
                self.generations.insert(generation, roll);
                self.endings.remove(&roll);
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
        let actions = self.cluster.on(event, self.clock());
        self.check_drains(&served, &actions);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        self.log.extend(actions.iter().map(|action| (self.now, action.clone())));
        for action in actions {
            match action {
                Action::Inspect(roll) => {
                    self.answer(self.candidate(roll).inspect, Due::Inspected(roll));
                }
                Action::Prepare(roll) => {
                    self.answer(self.candidate(roll).prepare, Due::Prepared(roll));
                }
                Action::Rehearse(roll) => {
                    assert!(self.candidate(roll).master, "no other master is needed");
                    self.answer(self.candidate(roll).rehearse, Due::Rehearsed(roll));
                }
                Action::ReplaceMaster(roll) => {
                    self.answer(self.candidate(roll).replace, Due::Replaced(roll));
                }
                Action::Compare { roll, lasts, .. } => {
                    let lasts = lasts.as_millis() as u64;
                    match self.candidate(roll).verdict {
                        Verdict::Passes => self.plan(self.now + lasts, Due::Judged(roll, true)),
                        Verdict::Fails(at) => self.plan(self.now + at, Due::Judged(roll, false)),
                        Verdict::Never => {}
                    }
                }
                Action::KeepLatch(latch) => self.kept = latch,
                Action::Spawn { worker, generation } => self.spawn(worker, generation),
                Action::Drain(worker) => self.drained(worker),
                Action::Kill(worker) => self.killed(worker),
                Action::Ended { roll, ending } => {
                    assert!(self.rolls.contains_key(&roll), "only an accepted roll ends");
                    let whole = !self.candidate(roll).master || self.replaced.contains(&roll);
                    assert!(ending != Ending::Done || whole, "the master is of the old build");
                    let before = self.endings.insert(roll, ending);
                    assert_eq!(before, None, "an accepted roll has one result");
                }
                Action::Exit => self.ended = true,
                Action::Abandon(_) => self.abandoned = true,
                Action::Cancel(_) | Action::Step(_) => {}
            }
        }
        self.check();
    }

    fn answer(&mut self, answer: Option<bool>, due: Due) {
        if answer.is_some() {
            self.plan(self.now + 5, due);
        }
    }

    fn spawn(&mut self, worker: WorkerId, generation: GenerationId) {
        let roll = self.generations.get(&generation).copied();
        let fates = match roll {
            Some(roll) => {
                let candidate = &self.asks[self.rolls[&roll]].candidate;
                let tried = !candidate.master || self.rehearsed.contains(&roll);
                assert!(tried, "no worker of a build whose master was not rehearsed");
                if let Some(latch) =
                    self.cluster.latch().filter(|_| generation != self.cluster.pinned)
                {
                    assert_ne!(latch.key, key(candidate.key), "what failed is never started again");
                }
                &candidate.fates
            }
            None => &self.first,
        };
        assert!(!self.said_ready.contains(&worker), "no number is used again");
        let fate = fates[(worker.0 as usize) % fates.len()];
        self.fates.insert(worker, fate);
        let now = self.now;
        match fate {
            Fate::Good { ready, .. } | Fate::Uploads { ready, .. } | Fate::Stuck { ready } => {
                self.plan(now + ready, Due::Ready(worker));
            }
            Fate::DiesLater { ready, dies } => {
                self.plan(now + ready, Due::Ready(worker));
                self.plan(now + ready + dies, Due::Exited(worker));
            }
            Fate::DiesAtOnce { dies } => self.plan(now + dies, Due::Exited(worker)),
            Fate::Refuses { after } => {
                self.plan(now + after, Due::Refused(worker));
                self.plan(now + after + 1, Due::Exited(worker));
            }
            Fate::Lies { ready, again } => {
                self.plan(now + ready, Due::Ready(worker));
                self.plan(now + ready + again, Due::Ready(worker));
            }
            Fate::Leaves { ready, after } => {
                self.plan(now + ready, Due::Ready(worker));
                self.plan(now + ready + after, Due::Leaving(worker));
                self.plan(now + ready + after + 40_000, Due::Exited(worker));
            }
            Fate::Hangs => {}
        }
    }

    fn drained(&mut self, worker: WorkerId) {
        self.asked_to_leave.entry(worker).or_insert(self.now);
        let now = self.now;
        match self.fates.get(&worker).copied() {
            Some(Fate::Good { drain, .. }) => self.plan(now + drain, Due::Exited(worker)),
            Some(Fate::Uploads { drain, every, .. }) => {
                self.plan(now + every, Due::Progress(worker, every));
                self.plan(now + drain, Due::Exited(worker));
            }
            Some(Fate::DiesLater { .. } | Fate::Lies { .. } | Fate::Leaves { .. }) => {
                self.plan(now + 50, Due::Exited(worker));
            }
            _ => {}
        }
    }

    fn killed(&mut self, worker: WorkerId) {
        let fate = self.fates.get(&worker).copied();
        if let Some(Fate::Uploads { every, .. }) = fate
            && !self.cluster.is_stopping()
            && Duration::from_millis(every) < settings(1).drain_within
        {
            let since = self.asked_to_leave.get(&worker).map_or(0, |at| self.now - at);
            let hard_stop = settings(1).hard_stop.as_millis() as u64;
            assert!(
                since >= hard_stop,
                "an upload was cut {since} ms after its worker was to leave"
            );
        }
        if !matches!(fate, Some(Fate::Stuck { .. })) {
            self.plan(self.now + 1, Due::Exited(worker));
        }
    }
}

fn found(candidate: &Candidate) -> Result<Found, NotAllowed> {
    match candidate.inspect {
        Some(true) => Ok(Found {
            key: key(candidate.key),
            build: Build::default(),
            settings: Settings {
                canary: Duration::from_secs(candidate.canary),
                parallel: candidate.parallel,
                ..settings(candidate.workers)
            },
            master: candidate.master,
        }),
        _ => Err(NotAllowed {
            exit: ExitStatus::OtherMagic,
            text: "other magic".to_owned(),
            hint: None,
        }),
    }
}

fn through_json(carried: &CarriedCluster) -> CarriedCluster {
    let text = serde_json::to_string(carried).expect("plain data has a JSON form");
    serde_json::from_str(&text).expect("what was written can be read")
}
