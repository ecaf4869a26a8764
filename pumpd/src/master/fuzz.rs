//! What the master reads of others' bytes, for `crate::fuzz`.

use std::time::Duration;

use pump_control::Line;

use super::carried::Carried;
use super::cluster::{Cluster, Event, GenerationId};
use super::control::fuzz as control_fuzz;

pub(crate) fn from_worker(line: Line) {
    let _said = super::worker::understand(line, GenerationId(3));
}

pub(crate) fn control(lines: Vec<Line>) {
    control_fuzz::lines(lines);
}

/// Reads a state, goes on with it in both ways, and leaves one for the next master, which reads it.
pub(crate) fn state(bytes: &[u8]) {
    let Ok(state) = Carried::parse(bytes) else { return };
    let now = Duration::from_secs(5);
    let begin = |adopt: bool| match adopt {
        true => Cluster::adopt(state.cluster.clone(), now, 1),
        false => Cluster::resume(state.cluster.clone(), now, 1),
    };
    for adopt in [false, true] {
        let mut cluster = begin(adopt);
        for later in [0, 1, 1_000_000] {
            let now = now + Duration::from_secs(later);
            let _actions = cluster.on(Event::Tick, now);
            let _deadline = cluster.deadline();
            let text = serde_json::to_vec(&cluster.carried(now)).expect("it has a JSON form");
            serde_json::from_slice::<super::cluster::CarriedCluster>(&text).expect("its own text");
        }
    }
}
