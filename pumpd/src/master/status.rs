//! What the master says of the cluster, to `pump` and to systemd.

use pump_control::channel::Classes;
use pump_control::control::{Latch, Phase, Roll, RollStage, Status, Worker, WorkerState};

use super::Master;
use super::cluster::{self, GenerationId, Stage, State};

impl Master {
    pub(super) fn status(&self) -> Status {
        let pinned = self.pinned();
        let build = |id: GenerationId| {
            self.generations.get(&id).map(|generation| generation.build()).unwrap_or_default()
        };
        let master = self.own.clone();
        let workers_build = build(pinned);
        let mut notes = self.notes.clone();
        if master.build != workers_build.build {
            notes.push(format!(
                "the master runs {}, the workers {}; it follows with the next roll onto another build, or \
                 with `pump stop` and `pump start`",
                master.short(),
                workers_build.short()
            ));
        }
        for address in self.listeners.in_vain() {
            notes.push(super::in_vain(address, &self.setting.config_path));
        }
        let cluster = self.cluster.as_ref();
        Status {
            pid: std::process::id(),
            sentence: self.sentence(),
            phase: self.phase(),
            master,
            workers_build,
            generation: pinned.0,
            wanted: cluster.map_or(0, |cluster| cluster.settings().workers as u32),
            workers: self.worker_list(),
            public_url: self.public_url(pinned),
            listen: self.addresses(pinned),
            config: self.setting.config_path.clone(),
            up_seconds: self.now().as_secs(),
            roll: cluster.and_then(|cluster| cluster.roll()).map(|roll| Roll {
                roll: roll.id.0,
                sentence: stage(roll).to_owned(),
                candidate: build(roll.generation),
                generation: roll.generation.0,
                stage: roll_stage(roll),
                millis: self.rolls.millis(self.now()),
                canary: self.canary.as_ref().map(|watch| watch.shown(self.now())),
            }),
            last_roll: self.rolls.last.as_ref().map(|last| last.outcome.clone()),
            last_roll_number: self.rolls.last.as_ref().map(|last| last.roll),
            last_roll_millis: self.rolls.last.as_ref().map(|last| last.millis),
            latch: cluster.and_then(|cluster| cluster.latch()).map(|latch| Latch {
                build: latch.build.clone(),
                reason: latch.failure.text.clone(),
                output: latch.failure.output.clone(),
                hint: Some(
                    "`pump upgrade` or `pump restart` onto another build; `pump restart --clear-latch` \
                     tries this one again"
                        .to_owned(),
                ),
            }),
            confinement: Some(self.setting.confinement),
            notes,
        }
    }

    /// Where the running generation is to be found.
    fn addresses(&self, pinned: GenerationId) -> Vec<String> {
        let wanted = self.generations.get(&pinned).map(|one| one.listen()).unwrap_or_default();
        let listening = match wanted.is_empty() {
            true => self.listeners.all().iter().collect(),
            false => self.listeners.of(&wanted),
        };
        listening.into_iter().map(|one| one.address.to_string()).collect()
    }

    /// One sentence that reads alone: "2 workers on 0.1.0, ready".
    pub(super) fn sentence(&self) -> String {
        let Some(cluster) = &self.cluster else {
            return "starting: the database and the configuration are checked".to_owned();
        };
        let ready = cluster.workers().values().filter(|worker| worker.is_ready()).count();
        let wanted = cluster.settings().workers;
        let version = self.generations.get(&cluster.pinned()).map(|one| one.build().version);
        let version = version.unwrap_or_default();
        let workers = |count: usize| match count {
            1 => "1 worker".to_owned(),
            count => format!("{count} workers"),
        };
        if cluster.is_stopping() {
            return format!("stopping: {} left", workers(cluster.workers().len()));
        }
        if cluster.is_starting() {
            return format!("starting: {ready} of {} on {version} ready", workers(wanted));
        }
        if let Some(roll) = cluster.roll() {
            let candidate = self.generations.get(&roll.generation).map(|one| one.build());
            let to = candidate.map(|build| build.version).unwrap_or_default();
            let to = if to.is_empty() { "a candidate".to_owned() } else { to };
            return format!("{} ready, rolling onto {to}: {}", workers(ready), stage(roll));
        }
        let latched = match cluster.latch() {
            Some(_) => "; the last roll failed, see `pump status`",
            None => "",
        };
        match ready < wanted {
            false => format!("{} on {version}, ready{latched}", workers(ready)),
            true => format!("{ready} of {} on {version} ready{latched}", workers(wanted)),
        }
    }

    fn phase(&self) -> Phase {
        match &self.cluster {
            None => Phase::Starting,
            Some(cluster) if cluster.is_stopping() => Phase::Stopping,
            Some(cluster) if cluster.is_starting() => Phase::Starting,
            Some(cluster) if cluster.roll().is_some() => Phase::Rolling,
            Some(_) => Phase::Running,
        }
    }

    fn pinned(&self) -> GenerationId {
        self.cluster.as_ref().map_or(GenerationId(1), |cluster| cluster.pinned())
    }

    fn public_url(&self, pinned: GenerationId) -> String {
        let generation = self.generations.get(&pinned);
        let inspected = generation.and_then(|generation| generation.inspected.as_ref());
        match inspected {
            Some(found) => found.checked.public_url.clone(),
            None => self.config.public_url(),
        }
    }

    fn worker_list(&self) -> Vec<Worker> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let describe = |(id, worker): (&cluster::WorkerId, &cluster::Worker)| {
            let process = self.workers.get(id);
            let figures = self.metrics.of(*id);
            let connections = process.and_then(|process| process.connections);
            let classes = figures.map(|figures| figures.open);
            // An older build says how many are open while it drains, and no more.
            let classes =
                classes.filter(|open| connections.is_none() || *open != Classes::default());
            let said = figures.filter(|figures| figures.resident > 0);
            let generation = self.generations.get(&worker.generation);
            Worker {
                worker: id.0,
                pid: process.map_or(0, |process| process.child.pid),
                generation: worker.generation.0,
                build: generation.map(|generation| generation.build()).unwrap_or_default(),
                state: match worker.state {
                    State::Starting { .. } => WorkerState::Starting,
                    State::Ready { .. } => WorkerState::Ready,
                    State::Draining { .. } => WorkerState::Draining,
                    State::Killed { .. } => WorkerState::Killed,
                    State::Stuck => WorkerState::Stuck,
                },
                connections: connections.or_else(|| classes.map(|open| open.all())),
                classes,
                age_seconds: self.metrics.age(*id).as_secs(),
                resident: said.map(|figures| figures.resident),
                requests: said.map(|figures| figures.requests),
                server_errors: said.map(|figures| figures.server_errors),
                panics: said.map(|figures| figures.panics),
                confinement: said.and_then(|figures| figures.confinement),
            }
        };
        cluster.workers().iter().map(describe).collect()
    }
}

fn roll_stage(roll: &cluster::Roll) -> RollStage {
    match roll.stage {
        Stage::Surging if matches!(roll.canary, cluster::Canary::Under { .. }) => RollStage::Canary,
        Stage::Inspecting => RollStage::Inspecting,
        Stage::Preparing => RollStage::Preparing,
        Stage::Rehearsing => RollStage::Rehearsing,
        Stage::Surging => RollStage::Surging,
        Stage::Settling => RollStage::Settling,
        Stage::Replacing => RollStage::Replacing,
        Stage::RollingBack(_) => RollStage::GoingBack,
    }
}

fn stage(roll: &cluster::Roll) -> &'static str {
    match roll.stage {
        Stage::Surging if matches!(roll.canary, cluster::Canary::Under { .. }) => {
            "the first new worker is compared with the old ones"
        }
        Stage::Inspecting => "the candidate is asked what it is",
        Stage::Preparing => "the candidate prepares the database",
        Stage::Rehearsing => "the candidate's master is tried on a copy of the state",
        Stage::Surging => "new workers come up and old ones are asked to leave",
        Stage::Settling => "all new workers are ready, old ones finish what they began",
        Stage::Replacing => "the candidate's master takes over",
        Stage::RollingBack(_) => "the candidate failed, old workers are brought back",
    }
}
