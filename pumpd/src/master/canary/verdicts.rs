//! The judge on its own: what it must notice, and what it must not take for worse.

use pump_control::channel::Figures;
use pump_control::constants::LATENCY_PLACES;

use super::judge::{verdict, worse};
use super::seen::Seen;
use super::side::Side;

/// A build as it answers.
#[derive(Clone, Copy)]
struct Build {
    errors_percent: f64,
    /// Half of the answers take so long, in milliseconds.
    median: f64,
    /// How far others are from that: the spread of the logarithm.
    spread: f64,
    /// Memory that each second takes, in MiB.
    leaks: f64,
    /// How late the event loop is every second, in milliseconds.
    lag: f64,
}

/// Of a hundred of its answers the slowest takes some eight times as long as the middle one.
const WELL: Build = Build { errors_percent: 0.0, median: 6.0, spread: 0.9, leaks: 0.0, lag: 3.0 };

/// Numbers that look random and are the same in each run (xorshift64).
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn throw(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.throw()).sum::<f64>() - 6.0
    }
}

/// What a worker of this build says each second, at so many requests a second.
fn plays(
    build: Build,
    fresh: bool,
    per_second: u64,
    seconds: usize,
    dice: &mut Dice,
) -> Vec<Figures> {
    let mut figures = Figures { latency: vec![0; LATENCY_PLACES], ..Figures::default() };
    // A fresh process grows in its first seconds, whatever it is.
    let mut resident = 16.0;
    let mut said = vec![Figures { resident: (resident * MIB) as u64, ..figures.clone() }];
    for second in 0..seconds {
        for _ in 0..per_second {
            figures.requests += 1;
            if dice.throw() * 100.0 < build.errors_percent {
                figures.server_errors += 1;
            }
            let micros = build.median * 1000.0 * (build.spread * dice.normal()).exp();
            let place = (64 - (micros as u64).leading_zeros() as usize).min(LATENCY_PLACES - 1);
            figures.latency[place] += 1;
            figures.latency_sum += micros as u64;
        }
        resident += build.leaks + if fresh && second < 2 { 40.0 } else { 0.2 * dice.throw() };
        figures.resident = (resident * MIB) as u64;
        figures.lag = (1000.0 * build.lag * (1.0 + dice.throw())) as u64;
        said.push(figures.clone());
    }
    said
}

const MIB: f64 = 1_048_576.0;

/// The second at whose end the new build is found to be worse, and why; else the verdict.
fn compare(new: Build, old: Build, per_second: u64, seed: u64) -> Result<String, (usize, String)> {
    const SECONDS: usize = 10;
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let new = plays(new, true, per_second, SECONDS, &mut dice);
    let olds = [0; 2].map(|_| plays(old, false, per_second, SECONDS, &mut dice));
    let mut seen = [Seen::new_worker(), Seen::default(), Seen::default()];
    let sides = |seen: &[Seen; 3]| {
        let (mut is, mut was) = (Side::default(), Side::default());
        seen[0].add_to(&mut is);
        seen[1..].iter().for_each(|one| one.add_to(&mut was));
        (is, was)
    };
    for second in 0..=SECONDS {
        let said = [&new[second], &olds[0][second], &olds[1][second]];
        for (seen, figures) in seen.iter_mut().zip(said) {
            seen.heard(figures, std::time::Duration::from_secs(second as u64));
        }
        let (is, was) = sides(&seen);
        if let Some(reason) = worse(&is, Some(&was)) {
            return Err((second, reason));
        }
    }
    let (mut is, mut was) = sides(&seen);
    is.probes.push(Ok(9_000));
    was.probes.push(Ok(9_000));
    verdict(&is, Some(&was)).map_err(|reason| (SECONDS, reason))
}

/// It is found in each of many canaries, by then, for this reason.
#[track_caller]
fn is_noticed(new: Build, old: Build, per_second: u64, by: usize, reason: &str) {
    for seed in 1..60 {
        match compare(new, old, per_second, seed) {
            Err((second, why)) => {
                assert!(why.contains(reason), "{why}");
                assert!(second <= by, "only after {second} s: {why}");
            }
            Ok(figures) => panic!("not noticed with seed {seed}: {figures}"),
        }
    }
}

#[test]
fn five_errors_in_a_hundred_are_noticed_within_seconds() {
    let bad = Build { errors_percent: 5.0, ..WELL };
    is_noticed(bad, WELL, 200, 3, "with 5xx, the old one 0.0 %");
    is_noticed(Build { errors_percent: 60.0, ..WELL }, WELL, 10, 3, "with 5xx");
    let worse = Build { errors_percent: 20.0, ..WELL };
    is_noticed(worse, Build { errors_percent: 5.0, ..WELL }, 200, 3, "with 5xx");
}

#[test]
fn three_times_slower_is_noticed() {
    is_noticed(Build { median: 18.0, ..WELL }, WELL, 100, 2, "half of the answers");
    is_noticed(
        Build { median: 0.8 + 20.0, ..WELL },
        Build { median: 0.8, ..WELL },
        100,
        2,
        "half of the answers",
    );
}

#[test]
fn a_leak_is_noticed_and_a_cache_that_fills_is_not() {
    is_noticed(Build { leaks: 25.0, ..WELL }, WELL, 100, 4, "grew steadily");
    is_noticed(Build { leaks: 6.0, ..WELL }, WELL, 100, 10, "grew steadily");
}

#[test]
fn an_event_loop_that_is_late_is_noticed() {
    is_noticed(Build { lag: 150.0, ..WELL }, WELL, 5, 3, "event loop");
}

/// What is as good is not taken for worse, however often it is looked at: chance has few tries.
#[test]
fn a_build_that_is_as_good_passes() {
    let wells = [
        WELL,
        Build { median: 0.3, ..WELL },
        Build { median: 200.0, ..WELL },
        Build { errors_percent: 1.0, ..WELL },
        Build { leaks: 5.0, ..WELL },
        Build { lag: 90.0, ..WELL },
    ];
    for per_second in [4, 40, 150] {
        for (number, well) in wells.into_iter().enumerate() {
            let failed: Vec<_> =
                (1..60).filter_map(|seed| compare(well, well, per_second, seed).err()).collect();
            assert!(failed.len() <= 1, "build {number} at {per_second}/s: {failed:?}");
        }
    }
}

/// A little worse is no reason to go back: tomorrow's load is a larger difference.
#[test]
fn a_build_that_is_a_little_slower_passes() {
    let old = Build { median: 0.8, ..WELL };
    for seed in 1..30 {
        let verdict = compare(Build { median: 1.2, ..old }, old, 300, seed);
        assert!(verdict.is_ok(), "{verdict:?}");
    }
}

/// A histogram has places, and a place that ends between the two makes a small difference a large one.
#[test]
fn what_only_the_histogram_shows_is_no_difference() {
    let old = Build { median: 120.0, spread: 0.02, ..WELL };
    for seed in 1..30 {
        let verdict = compare(Build { median: 145.0, ..old }, old, 40, seed);
        assert!(verdict.is_ok(), "{verdict:?}");
    }
}

/// On a machine that is busy with something else three of 230 answers were that late, and a good build was taken back.
#[test]
fn a_few_late_answers_are_no_slow_build_and_many_are() {
    let side = |fast: u64, middle: u64, late: (usize, u64), mean: u64| {
        let mut side = side(fast + middle + late.1, &[]);
        side.latency[11] = fast;
        side.latency[12] = middle;
        side.latency[late.0] = late.1;
        side.latency_sum = side.requests * mean;
        side
    };
    let old = side(200, 99, (16, 3), 2_000);
    assert_eq!(worse(&side(60, 167, (17, 3), 4_000), Some(&old)), None);
    let reason = worse(&side(60, 147, (17, 23), 9_000), Some(&old)).expect("slower");
    assert!(reason.contains("99 % in"), "{reason}");
}

fn side(requests: u64, probes: &[Result<u64, String>]) -> Side {
    Side { requests, probes: probes.to_vec(), ..Side::default() }
}

#[test]
fn without_evidence_there_is_no_pass() {
    let works = || Ok(10_000);
    let fails = || Err("no room".to_owned());
    let check = |new: Side, old: Option<Side>, passes: bool, text: &str| {
        let verdict = verdict(&new, old.as_ref());
        assert_eq!(verdict.is_ok(), passes, "{verdict:?}");
        let (Ok(said) | Err(said)) = verdict;
        assert!(said.contains(text), "{said}");
    };
    check(side(0, &[]), Some(side(0, &[])), false, "no probe came to its end");
    check(side(29, &[]), Some(side(900, &[])), false, "29 answers");
    check(side(30, &[]), Some(side(30, &[])), true, "30 requests");
    check(side(0, &[works()]), Some(side(0, &[works()])), true, "1 of 1 probes");
    check(side(900, &[fails()]), Some(side(900, &[works()])), false, "no room");
    check(side(0, &[fails()]), Some(side(0, &[fails()])), false, "fails in both builds: no room");
    check(side(900, &[fails()]), Some(side(900, &[fails()])), true, "900 requests");
    // The old build is of before canaries.
    check(side(0, &[works()]), None, true, "bounds for any build");
    check(side(900, &[fails()]), None, false, "no room");
    check(side(0, &[]), None, false, "no probe");
}

#[test]
fn one_probe_that_fails_may_have_met_a_busy_database() {
    let (works, fails) = (Ok(10_000), Err("busy".to_owned()));
    let old = side(0, &[works.clone(), works.clone()]);
    assert_eq!(worse(&side(0, std::slice::from_ref(&fails)), Some(&old)), None);
    assert!(worse(&side(0, &[fails.clone(), works, fails]), Some(&old)).is_some());
}

#[test]
fn probes_that_take_far_longer_are_worse() {
    let old = side(0, &[Ok(90_000), Ok(100_000), Ok(110_000)]);
    let slow = |micros| side(0, &[Ok(micros), Ok(micros), Ok(micros)]);
    assert_eq!(worse(&slow(490_000), Some(&old)), None);
    let reason = worse(&slow(510_000), Some(&old)).expect("slower");
    assert!(reason.contains("510.0 ms, of the old one 100.0 ms"), "{reason}");
}

#[test]
fn a_panic_that_the_old_build_has_not_is_worse() {
    let panics = Side { panics: 1, ..side(900, &[]) };
    assert!(worse(&panics, Some(&side(900, &[]))).is_some());
    assert!(worse(&panics, None).is_some());
    assert_eq!(worse(&panics, Some(&panics)), None);
}

#[test]
fn a_worker_may_say_any_number() {
    let most = Figures {
        requests: u64::MAX,
        server_errors: u64::MAX,
        latency: vec![u64::MAX; 40],
        latency_sum: u64::MAX,
        lag: u64::MAX,
        resident: u64::MAX,
        ..Figures::default()
    };
    let none = Figures { latency: vec![9], ..Figures::default() };
    let mut seen = Seen::new_worker();
    for (second, figures) in [&none, &most, &none, &most, &most, &none].into_iter().enumerate() {
        seen.heard(figures, std::time::Duration::from_secs(second as u64));
        let mut side = Side::default();
        seen.add_to(&mut side);
        seen.add_to(&mut side);
        // Whatever it comes to, it comes to something.
        let _ = (worse(&side, Some(&side)), verdict(&side, None), side.grown(), side.lag());
    }
}
