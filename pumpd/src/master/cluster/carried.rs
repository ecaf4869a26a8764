//! How the policy survives its master: as text that another build reads.
//!
//! [`Cluster::carried`] writes down all it knows. A master that takes the place of another one in the
//! same process goes on with [`Cluster::resume`], in the middle of a roll if need be. One that follows on
//! a master which was killed begins with [`Cluster::adopt`]: the roll is over, and the workers are what
//! they were.
//!
//! These are types of their own, for the other build may be older or younger: each field has a default,
//! one that is not known is dropped, and so is a state that is not known. Moments are written as the time
//! that is left until then, because another master has another clock. Times are in microseconds.

mod text;

use std::time::Duration;

use pump_control::constants::REAP_WITHIN;

use super::{
    Asked, BackOff, Canary, Cluster, Failure, GenerationId, Moment, Patience, Roll, RollId,
    Settings, Stage, State, Worker, WorkerId,
};
use text::{CarriedRoll, CarriedStage, CarriedState, CarriedWorker, micros};

pub(crate) use text::{CarriedCluster, CarriedLatch};

impl Cluster {
    /// All of it, as of now.
    pub(crate) fn carried(&self, now: Moment) -> CarriedCluster {
        let left = |until: Moment| micros(until.saturating_sub(now));
        let worker = |(id, worker): (&WorkerId, &Worker)| {
            let mut carried = CarriedWorker {
                worker: id.0,
                generation: worker.generation.0,
                adopted: worker.adopted,
                ..CarriedWorker::default()
            };
            (carried.state, carried.left) = match worker.state {
                State::Starting { until } => (CarriedState::Starting, left(until)),
                State::Ready { settled } => (CarriedState::Ready, left(settled)),
                State::Killed { until } => (CarriedState::Killed, left(until)),
                State::Stuck => (CarriedState::Stuck, 0),
                State::Draining(patience) => {
                    carried.hard_stop_left = left(patience.hard_stop);
                    carried.within = micros(patience.within);
                    carried.lingers_left = patience.lingers.map(left);
                    (CarriedState::Draining, left(patience.until))
                }
            };
            carried
        };
        CarriedCluster {
            settings: self.settings.into(),
            pinned: self.pinned.0,
            workers: self.workers.iter().map(worker).collect(),
            roll: self.roll.as_ref().map(|roll| carry_roll(roll, now)),
            latch: self.latch.clone().map(Into::into),
            starting_left: self.starting_until.map(left),
            stopping: self.stopping,
            abandoned: self.abandoned,
            early_deaths: self.back_off.early_deaths,
            back_off_left: left(self.back_off.not_before),
            next_worker: self.next_worker,
            next_roll: self.next_roll,
            next_generation: self.next_generation,
            dice: self.dice,
        }
    }

    /// Goes on where another master in the same process was: everything is as it was, the roll included.
    /// `dice` is for a text that has none. Say [`super::Event::Tick`] next.
    pub(crate) fn resume(carried: CarriedCluster, now: Moment, dice: u64) -> Self {
        let settings = Settings::from(carried.settings);
        let until = |left: u64| now + Duration::from_micros(left);
        let workers =
            carried.workers.iter().map(|one| (WorkerId(one.worker), worker(one, settings, now)));
        let roll = carried.roll.map(|roll| resume_roll(roll, now));
        // Whatever the text says, no number is used again.
        let last_worker = carried.workers.iter().map(|one| one.worker).max().unwrap_or(0);
        let of_workers = carried.workers.iter().map(|one| one.generation);
        let last_generation = of_workers
            .chain([carried.pinned])
            .chain(roll.as_ref().map(|roll| roll.generation.0))
            .max()
            .unwrap_or(0);
        let last_roll = roll.as_ref().map_or(0, |roll| roll.id.0);
        Self {
            settings,
            pinned: GenerationId(carried.pinned),
            workers: workers.collect(),
            roll,
            latch: carried.latch.map(Into::into),
            starting_until: carried.starting_left.map(until),
            stopping: carried.stopping,
            abandoned: carried.abandoned,
            back_off: BackOff {
                early_deaths: carried.early_deaths,
                not_before: until(carried.back_off_left),
            },
            next_worker: carried.next_worker.max(last_worker.saturating_add(1)),
            next_roll: carried.next_roll.max(last_roll.saturating_add(1)),
            next_generation: carried.next_generation.max(last_generation.saturating_add(1)),
            dice: if carried.dice == 0 { dice | 1 } else { carried.dice },
        }
    }

    /// Begins where another master was killed. There is no roll and nobody has asked to stop; the workers
    /// are what they were, and each may say once more what it is. Those of other generations than the
    /// pinned one leave. Say [`super::Event::Tick`] next.
    ///
    /// The caller leaves out workers that it cannot reach, and says of the rest what it hears.
    pub(crate) fn adopt(carried: CarriedCluster, now: Moment, dice: u64) -> Self {
        let mut cluster = Self::resume(carried, now, dice);
        let (old, roll) = (cluster.settings, cluster.roll.take());
        let (new, parallel) = roll.map_or((old, 1), |roll| (roll.settings, roll.parallel()));
        cluster.stopping = false;
        cluster.abandoned = false;
        cluster.back_off = BackOff::default();
        // What the other master did last may not have been written down any more.
        cluster.next_worker += 2 * (old.workers.max(new.workers) + parallel) as u64;
        cluster.next_roll += 1;
        cluster.next_generation += 1;
        // Time has passed while there was no master, and nobody knows how much.
        let fresh = now + cluster.settings.ready_within;
        cluster.starting_until = cluster.starting_until.map(|_| fresh);
        for worker in cluster.workers.values_mut() {
            worker.adopted = true;
            match &mut worker.state {
                State::Starting { until } => *until = fresh,
                // What it said in the meantime has not been heard yet.
                State::Draining(patience) => patience.extend(now),
                State::Ready { .. } | State::Killed { .. } | State::Stuck => {}
            }
        }
        cluster
    }
}

fn worker(carried: &CarriedWorker, settings: Settings, now: Moment) -> Worker {
    let until = now + Duration::from_micros(carried.left);
    let (state, adopted) = match carried.state {
        CarriedState::Starting => (State::Starting { until }, carried.adopted),
        CarriedState::Ready => (State::Ready { settled: until }, carried.adopted),
        CarriedState::Killed => (State::Killed { until }, carried.adopted),
        CarriedState::Stuck => (State::Stuck, carried.adopted),
        CarriedState::Draining => {
            let patience = Patience {
                until,
                hard_stop: now + Duration::from_micros(carried.hard_stop_left),
                within: Duration::from_micros(carried.within),
                lingers: carried.lingers_left.map(|left| now + Duration::from_micros(left)),
            };
            (State::Draining(patience), carried.adopted)
        }
        // It has as long as a new one to say what it is.
        CarriedState::Other => (State::Starting { until: now + settings.ready_within }, true),
    };
    Worker { generation: GenerationId(carried.generation), state, adopted }
}

fn carry_roll(roll: &Roll, now: Moment) -> CarriedRoll {
    let left = |until: Moment| micros(until.saturating_sub(now));
    let (stage, failure) = match &roll.stage {
        Stage::Inspecting => (CarriedStage::Inspecting, None),
        Stage::Preparing => (CarriedStage::Preparing, None),
        Stage::Rehearsing => (CarriedStage::Rehearsing, None),
        Stage::Surging => (CarriedStage::Surging, None),
        Stage::Settling => (CarriedStage::Settling, None),
        Stage::Replacing => (CarriedStage::Replacing, None),
        Stage::RollingBack(failure) => (CarriedStage::RollingBack, Some(failure.clone())),
    };
    let (canary_ahead, canary_left) = match roll.canary {
        Canary::Ahead(lasts) => (Some(micros(lasts)), None),
        Canary::Under { until } => (None, Some(left(until))),
        Canary::Over => (None, None),
    };
    CarriedRoll {
        roll: roll.id.0,
        generation: roll.generation.0,
        stage,
        left: left(roll.until),
        key: roll.key.clone().into(),
        build: roll.build.clone(),
        settings: roll.settings.into(),
        master: roll.master,
        by_signal: roll.asked.by_signal,
        one_worker: roll.asked.one_worker,
        clear_latch: roll.asked.clear_latch,
        canary: roll.asked.canary.map(micros),
        parallel: roll.asked.parallel,
        canary_ahead,
        canary_left,
        touched: roll.touched,
        watched_left: roll.watched_until.map(left),
        failure: failure.unwrap_or_default().into(),
    }
}

fn resume_roll(carried: CarriedRoll, now: Moment) -> Roll {
    let until = |left: u64| now + Duration::from_micros(left);
    let settings = Settings::from(carried.settings);
    let mut ends = until(carried.left);
    let stage = match carried.stage {
        CarriedStage::Inspecting => Stage::Inspecting,
        CarriedStage::Preparing => Stage::Preparing,
        CarriedStage::Rehearsing => Stage::Rehearsing,
        CarriedStage::Surging => Stage::Surging,
        CarriedStage::Settling => Stage::Settling,
        CarriedStage::Replacing => Stage::Replacing,
        CarriedStage::RollingBack => Stage::RollingBack(carried.failure.into()),
        // Nobody here can finish it.
        CarriedStage::Other => {
            ends = ends.max(now + settings.ready_within + settings.drain_within + REAP_WITHIN);
            Stage::RollingBack(Failure::new("the roll was where this build knows no way on"))
        }
    };
    let canary = match (carried.canary_ahead, carried.canary_left) {
        (Some(lasts), _) => Canary::Ahead(Duration::from_micros(lasts)),
        (None, Some(left)) => Canary::Under { until: until(left) },
        (None, None) => Canary::Over,
    };
    Roll {
        id: RollId(carried.roll),
        generation: GenerationId(carried.generation),
        stage,
        until: ends,
        key: carried.key.into(),
        build: carried.build,
        settings,
        master: carried.master,
        asked: Asked {
            by_signal: carried.by_signal,
            one_worker: carried.one_worker,
            clear_latch: carried.clear_latch,
            canary: carried.canary.map(Duration::from_micros),
            parallel: carried.parallel,
        },
        canary,
        touched: carried.touched,
        watched_until: carried.watched_left.map(until),
    }
}
