//! What may not be: each a count that has to be nothing.

use pump_test::fleet::Class;

use super::crowd::Crowd;
use super::fleet::{Outcome, WORKERS};
use super::still::Still;

/// Sentences about what the fleet lost. None when it lost nothing.
pub(super) fn of_fleet(fleet: &Outcome) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut none = |count: u64, what: String| {
        if count > 0 {
            reasons.push(what);
        }
    };
    for (class, tally) in &fleet.seen.tallies {
        let (failed, of) = (tally.failed(), tally.requests);
        none(failed, format!("{class}: {failed} of {of} requests failed"));
        for told in &tally.told {
            none(1, format!("{class}: {told}"));
        }
        // HTTP/2 is told to go by GOAWAY, which costs nothing; all else changes hands.
        if *class != Class::Http2 {
            let closed = tally.closed;
            none(closed, format!("{class}: {closed} connections were closed with an announcement"));
        }
        none(u64::from(of == 0), format!("{class}: nobody asked anything"));
    }
    for (class, made, of) in fleet.short() {
        none(1, format!("{class}: only {made} of {of} requests were made in the time there was"));
    }
    let streams = &fleet.seen.streams;
    none(streams.missing, format!("streams: {} notes did not come", streams.missing));
    none(streams.repeated, format!("streams: {} notes came again", streams.repeated));
    let unordered = streams.ids_out_of_order;
    none(unordered, format!("streams: {unordered} ids were not above the one before"));
    none(streams.cut, format!("streams: {} were cut", streams.cut));
    none(streams.ended, format!("streams: {} were ended instead of handed over", streams.ended));
    none(streams.refused, format!("streams: {} were refused", streams.refused));
    if let Some(last) = fleet.proclaimed.checked_sub(1) {
        let behind = streams.last.iter().filter(|seen| **seen != Some(last)).count() as u64;
        none(behind, format!("streams: {behind} did not come to the last note"));
    }
    // Otherwise they are those of the whole machine, and anybody's.
    if fleet.counted_alone {
        let resets = fleet.tcp.resets;
        none(resets, format!("{resets} resets were sent"));
        let drops = fleet.tcp.listen_drops;
        none(drops, format!("{drops} connections were dropped from a full queue"));
    }
    for problem in fleet.problems.iter().take(20) {
        none(1, format!("ledger: {problem}"));
    }
    let ready = fleet.census.least_ready;
    none(u64::from(ready < WORKERS), format!("there were only {ready} ready workers at a time"));
    none(u64::from(fleet.rolls.is_empty()), "nothing was rolled".to_owned());
    let piled = fleet.rolls.iter().filter(|roll| roll.gone.is_none()).count() as u64;
    none(piled, format!("after {piled} rolls old processes did not go"));
    if let (Some(first), Some(last)) = (fleet.rolls.get(1), fleet.rolls.last()) {
        let (first, last) = (first.descriptors, last.descriptors);
        // A client of the control socket may be there at the moment of the look.
        let more = u64::from(last > first + 2);
        none(more, format!("the master's descriptors grew from {first} to {last}"));
    }
    reasons
}

/// Sentences about idle connections.
pub(super) fn of_crowds(crowds: &[Crowd]) -> Vec<String> {
    let lost = crowds.iter().filter(|crowd| crowd.lost > 0);
    lost.map(|crowd| format!("{} of {} idle connections were lost", crowd.lost, crowd.connections))
        .collect()
}

/// Sentences about what wakes an idle cluster.
pub(super) fn of_still(still: &Still) -> Vec<String> {
    let workers = still.workers.iter().map(|count| ("a worker", *count));
    let all = workers.chain([("the master", still.master)]);
    // More often than once a second is a beat; less often is something that happened.
    all.filter(|(_, count)| *count > still.seconds)
        .map(|(who, count)| format!("{who} woke {count} times in {} idle seconds", still.seconds))
        .collect()
}
