//! What was seen, as tables in Markdown.

use std::fmt::Write;
use std::time::Duration;

use pump_test::fleet::Waits;

use super::bare::{Compared, Rate};
use super::crowd::{ByWorkers, Crowd};
use super::fleet::Outcome;
use super::still::Still;

/// The fleet and its rolls.
pub(super) fn fleet(title: &str, outcome: &Outcome) -> String {
    let mut text = format!("\n{title}\n\n");
    text.push_str(
        "| clients | requests | failed | at most (95 %) | closed | p50 / p99 / p99.9 / worst ms outside of rolls \
         | in rolls |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let (mut requests, mut failed) = (0, 0);
    let (mut still, mut rolling) = (Waits::default(), Waits::default());
    for (class, tally) in &outcome.seen.tallies {
        requests += tally.requests;
        failed += tally.failed();
        still.merge(&tally.still);
        rolling.merge(&tally.rolling);
        let _ = writeln!(
            text,
            "| {class} | {} | {} | {} | {} | {} | {} |",
            tally.requests,
            tally.failed(),
            bound(tally.failed(), tally.requests),
            tally.closed,
            waits(&tally.still),
            waits(&tally.rolling)
        );
    }
    let _ = writeln!(
        text,
        "| all | {requests} | {failed} | {} | | {} | {} |",
        bound(failed, requests),
        waits(&still),
        waits(&rolling)
    );
    for (class, tally) in &outcome.seen.tallies {
        for (failure, count) in &tally.failures {
            let _ = writeln!(text, "\nfailed: {count} x {class}: {failure}");
        }
    }
    if let Some(each) = outcome.each {
        let short = outcome.short().count();
        let what =
            if short == 0 { "reached by all".to_owned() } else { format!("missed by {short}") };
        let _ = writeln!(
            text,
            "\n{each} requests of each class that can make them by the million: {what}"
        );
    }
    for absent in &outcome.absent {
        let _ = writeln!(text, "\nnot tried, because this build does not have it: {absent}");
    }
    text.push('\n');
    rolls(&mut text, outcome);
    text
}

fn rolls(text: &mut String, outcome: &Outcome) {
    let mut line = |what: &str, said: String| {
        let _ = writeln!(text, "{what:<44} {said}");
    };
    let rolls = &outcome.rolls;
    line("rolls", format!("{} in {} s", rolls.len(), outcome.lasted.as_secs()));
    line("a roll took", spread(rolls.iter().map(|roll| roll.took)));
    let firsts = rolls.iter().filter_map(|roll| roll.first);
    line("first answer of the new build", spread(firsts));
    line("last old process gone after the roll", spread(rolls.iter().filter_map(|roll| roll.gone)));
    let aimed = &outcome.aimed;
    line(
        "sent when a worker was asked to leave",
        format!(
            "{} within 1 ms, {} within 5 ms, {} within 50 ms, of {}",
            aimed.within_1, aimed.within_5, aimed.within_50, aimed.sent
        ),
    );
    let census = &outcome.census;
    line(
        "ready workers, from outside",
        format!(
            "never fewer than {}, of {} looks, at most {:.0} ms apart",
            census.least_ready,
            census.looks,
            millis(census.longest_pause)
        ),
    );
    line(
        "worker processes at a time",
        format!("at most {}, {} in all", census.most_processes, census.processes),
    );
    line(
        "notes",
        format!(
            "{} acknowledged, {} wrong, {} there of those with no answer",
            outcome.acknowledged,
            outcome.problems.len(),
            outcome.unseen
        ),
    );
    let streams = &outcome.seen.streams;
    line(
        "event streams",
        format!(
            "{}: {} events, {} missing, {} repeated, {} out of order",
            streams.streams,
            streams.events,
            streams.missing,
            streams.repeated,
            streams.ids_out_of_order
        ),
    );
    line(
        "event streams over rolls",
        format!(
            "{} went on, {} ended, {} cut, {} taken up again, {} refused",
            streams.continued, streams.ended, streams.cut, streams.resumed, streams.refused
        ),
    );
    let again: u64 = outcome.seen.tallies.values().map(|tally| tally.sent_again).sum();
    line("requests that GOAWAY excluded, sent again", again.to_string());
    let tcp = &outcome.tcp;
    line(
        "the kernel's counters",
        format!(
            "{} resets, {} of them for closing what was unread, {} dropped from a queue",
            tcp.resets, tcp.closed_unread, tcp.listen_drops
        ),
    );
    if let (Some(first), Some(last)) = (rolls.get(1).or(rolls.first()), rolls.last()) {
        line(
            "master, first and last",
            format!(
                "{} and {} descriptors, {} and {} KiB resident",
                first.descriptors, last.descriptors, first.memory.rss_kib, last.memory.rss_kib
            ),
        );
    }
}

/// Times, memory, throughput.
pub(super) fn figures(
    still: &Still,
    crowds: &[Crowd],
    by_workers: &[ByWorkers],
    bare: &Compared,
) -> String {
    let mut text = String::from("\n| what | measured | promised |\n|---|---|---|\n");
    let mut line = |what: String, measured: String, promised: &str| {
        let _ = writeln!(text, "| {what} | {measured} | {promised} |");
    };
    for by in by_workers {
        line(format!("a roll of {} workers", by.workers), spread(by.rolls.iter().copied()), "");
    }
    for crowd in crowds {
        let promised = if crowd.connections == 10_000 { "≤ 1500 ms" } else { "" };
        let what = format!("a roll with {} idle connections", crowd.connections);
        line(what, spread(crowd.rolls.iter().copied()), promised);
        if let Some(each) = crowd.each {
            let what = "worst request among them in a roll".to_owned();
            let worst = format!("{:.1} ms of {}", millis(crowd.worst), crowd.asked);
            line(what, worst, "≤ 40 ms");
            line("of them closed or lost".to_owned(), crowd.lost.to_string(), "0");
            let promised = if crowd.connections == 10_000 { "≤ 8 KiB" } else { "" };
            let kib = format!("{:.1} KiB", each as f64 / 1024.0);
            line("resident for each of them".to_owned(), kib, promised);
        }
    }
    for (what, [ours, site, bytes]) in
        [("kept connections", bare.kept), ("a new connection each", bare.anew)]
    {
        let rate = |rate: Rate| format!("{:.0}/s, {:.1} µs", rate.per_second, rate.micros);
        for (server, theirs, promised) in
            [("the same site", site, "≥ 90 %"), ("the same bytes and no site", bytes, "")]
        {
            let share = 100.0 * ours.per_second / theirs.per_second;
            line(
                format!("one worker and bare hyper with {server}, {what}"),
                format!("{} and {}: {share:.0} %", rate(ours), rate(theirs)),
                promised,
            );
        }
    }
    let workers: Vec<String> = still.workers.iter().map(ToString::to_string).collect();
    line(
        format!("woken in {} idle seconds: master, workers", still.seconds),
        format!("{}, {}", still.master, workers.join(" and ")),
        "no beat faster than 1 s",
    );
    text
}

/// With 95 %, the share of failures is not above this: the rule of three, or Poisson's upper bound.
fn bound(failed: u64, requests: u64) -> String {
    if requests == 0 {
        return String::new();
    }
    let most = match failed {
        0 => 3.0,
        // Wilson and Hilferty's approximation of the chi-squared quantile.
        failed => {
            let n = failed as f64 + 1.0;
            n * (1.0 - 1.0 / (9.0 * n) + 1.645 / (3.0 * n.sqrt())).powi(3)
        }
    };
    format!("{:.1e}", most / requests as f64)
}

fn waits(waits: &Waits) -> String {
    let at = |thousandths| waits.quantile(thousandths).map_or(0.0, millis);
    if waits.count() == 0 {
        return String::new();
    }
    format!("{:.1} / {:.1} / {:.1} / {:.1}", at(500), at(990), at(999), millis(waits.worst()))
}

/// The median and the longest.
fn spread(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => {
            format!("{:.0} ms (median), {:.0} ms at most", millis(*median), millis(*longest))
        }
        _ => "nothing".to_owned(),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
