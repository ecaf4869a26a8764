//! Plans over other releases, against an oracle that knows nothing of how they are found: it walks every
//! way there is, by the rules as `docs/UPGRADING.md` tells them, and takes the best.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use pump_release::{
    Artifact, Blocked, Channel, Digest, Gait, Index, MAX_HOPS, MAX_RELEASES, NoPlan, Plan, Release,
    ReleaseInfo, Rules, Schema, Standing, TARGET, plan,
};
use semver::{Version, VersionReq};

const ELSEWHERE: &str = "riscv64gc-unknown-linux-gnu";

/// A release as a publisher would list it; its place in the list is its minor version.
#[derive(Clone, Debug)]
struct Made {
    magic: u32,
    accepts: Vec<u32>,
    unit: u32,
    schema: (u32, u32),
    from: Option<u64>,
    barrier: bool,
    revoked: bool,
    halted: bool,
    elsewhere: bool,
}

/// Any release, with numbers that mostly rise with its version as they do in real life.
fn made(at: u32) -> impl Strategy<Value = Made> {
    let numbers = (0u32..4, prop::collection::vec(0u32..4, 0..3), 0u32..10, 0u32..4, 0u32..4);
    let rules = (0u32..5, 0u64..6, 0u32..8, 0u32..12, 0u32..12, 0u32..15);
    (numbers, rules).prop_map(move |(numbers, rules)| {
        let (magic, accepts, unit, schema, compat) = numbers;
        let (from_some, from, barrier, revoked, halted, elsewhere) = rules;
        let version = 1 + at / 2 + schema;
        Made {
            magic: 1 + (at + magic) / 3,
            accepts: accepts.into_iter().map(|it| 1 + (at + it) / 2).collect(),
            unit: if unit == 0 { 2 } else { 1 },
            schema: (version, version.saturating_sub(compat).max(1)),
            from: (from_some == 0).then_some(from),
            barrier: barrier == 0,
            revoked: revoked == 0,
            halted: halted == 0,
            elsewhere: elsewhere == 0,
        }
    })
}

/// A channel, what runs (workers, and the master that may be older), and what is wanted.
#[derive(Clone, Debug)]
struct Case {
    releases: Vec<Made>,
    workers: usize,
    master: usize,
    wanted: usize,
    runs: bool,
    zero_downtime: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let releases = (2u32..9).prop_flat_map(|count| (0..count).map(made).collect::<Vec<_>>());
    releases.prop_flat_map(|releases| {
        let last = releases.len();
        // Mostly an upgrade from near the beginning to near the end.
        let wanted = prop_oneof![3 => Just(last - 1), 1 => 0..last];
        let workers = prop_oneof![3 => Just(0), 1 => 0..last];
        let old = prop_oneof![4 => Just(false), 1 => Just(true)];
        let runs = prop_oneof![9 => Just(true), 1 => Just(false)];
        (Just(releases), workers, old, wanted, runs, any::<bool>()).prop_map(
            |(releases, workers, old, wanted, runs, zero_downtime)| {
                let master = if old && runs { 0 } else { workers };
                Case { releases, workers, master, wanted, runs, zero_downtime }
            },
        )
    })
}

fn info(at: usize, made: &Made) -> ReleaseInfo {
    let mut build = [0; 32];
    build[..8].copy_from_slice(&at.to_be_bytes());
    ReleaseInfo {
        version: Version::new(1, at as u64, 0),
        build: Digest::from(build),
        magic: made.magic,
        accepts: made.accepts.clone(),
        unit: made.unit,
        schema: Schema { version: made.schema.0, compat: made.schema.1 },
    }
}

fn release(at: usize, made: &Made) -> Release {
    let info = info(at, made);
    let target = if made.elsewhere { ELSEWHERE } else { TARGET };
    Release {
        version: info.version.clone(),
        published: jiff::Timestamp::UNIX_EPOCH,
        security: false,
        notes_url: None,
        magic: info.magic,
        accepts: info.accepts,
        unit: info.unit,
        schema: info.schema,
        rules: Rules {
            upgrade_from: made
                .from
                .map(|minor| VersionReq::parse(&format!(">=1.{minor}.0")).unwrap()),
            barrier: made.barrier,
            revoked: made.revoked.then(|| "it lost posts".to_owned()),
            halted: made.halted.then(|| "being looked at".to_owned()),
            rollout: None,
        },
        artifacts: vec![Artifact {
            target: target.to_owned(),
            name: format!("pump-{}-{target}.tar.zst", info.version),
            size: 1,
            installed_size: 1,
            sha256: info.build,
            build: info.build,
            files: None,
        }],
    }
}

fn index(case: &Case) -> Index {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let mut index = Index::empty(Channel::Stable, now);
    for (at, made) in case.releases.iter().enumerate().rev() {
        index.releases.push(release(at, made));
    }
    index
}

fn standing(case: &Case) -> Standing {
    let workers = info(case.workers, &case.releases[case.workers]);
    let master = info(case.master, &case.releases[case.master]);
    if case.runs { Standing::running(master, workers) } else { Standing::stopped(workers) }
}

/// A way as the oracle sees it: for each hop the release, and whether connections wait.
type Walk = Vec<(usize, bool)>;

/// The oracle: every way of the case, by depth.
fn walks(case: &Case) -> Vec<Walk> {
    let mut all = Vec::new();
    let start = case.releases[case.workers].schema;
    walk(case, case.workers, case.master, start, &mut Vec::new(), &mut all);
    all
}

fn walk(
    case: &Case,
    workers: usize,
    master: usize,
    database: (u32, u32),
    so_far: &mut Walk,
    all: &mut Vec<Walk>,
) {
    if !so_far.is_empty() && workers == case.wanted {
        all.push(so_far.clone());
        return;
    }
    if !case.runs && !so_far.is_empty() {
        return;
    }
    for to in 0..case.releases.len() {
        let on_the_way = (workers < to && to <= case.wanted) || (case.wanted <= to && to < workers);
        // A hop onto what runs already only sets the links.
        let again = to == workers && to == case.wanted && so_far.is_empty();
        if !on_the_way && !again {
            continue;
        }
        let Some(waits) = step(case, workers, master, database, to) else { continue };
        if waits && case.zero_downtime {
            continue;
        }
        let (version, compat) = case.releases[to].schema;
        let after = if version > database.0 { (version, compat) } else { database };
        so_far.push((to, waits));
        walk(case, to, to, after, so_far, all);
        so_far.pop();
    }
}

/// Whether a hop is allowed, and whether connections wait in it.
fn step(case: &Case, workers: usize, master: usize, db: (u32, u32), to: usize) -> Option<bool> {
    let new = &case.releases[to];
    if new.revoked || new.halted || new.elsewhere {
        return None;
    }
    if case.runs && to == workers {
        return Some(false);
    }
    if to > workers {
        if case.releases[workers + 1..to].iter().any(|it| it.barrier) {
            return None;
        }
        if new.from.is_some_and(|minor| (workers as u64) < minor) {
            return None;
        }
    }
    if db.1 > new.schema.0 {
        return None;
    }
    if !case.runs {
        return Some(false);
    }
    let mut waits = false;
    for side in [workers, master] {
        let old = &case.releases[side];
        // A release that could not open what a side leaves is no way, but where a side has already
        // been found to need a restart the other one is stopped as well.
        if old.schema.1 > new.schema.0 {
            return waits.then_some(true);
        }
        let understand = old.magic == new.magic
            || old.accepts.contains(&new.magic)
            || new.accepts.contains(&old.magic);
        waits |= !understand || new.unit > old.unit || new.schema.1 > old.schema.0;
    }
    Some(waits)
}

/// The best of all ways: the fewest hops, then the fewest waits, then the newest releases.
fn best(walks: Vec<Walk>) -> Option<Walk> {
    walks.into_iter().filter(|it| it.len() <= MAX_HOPS).min_by_key(|walk| {
        let waits = walk.iter().filter(|(_, waits)| *waits).count();
        let newest: Vec<_> = walk.iter().map(|(at, _)| std::cmp::Reverse(*at)).collect();
        (walk.len(), waits, newest)
    })
}

/// Whether a release lies between what runs and what is wanted that both understand, though they do not
/// understand each other.
fn has_bridge(case: &Case) -> bool {
    let understand = |a: &Made, b: &Made| {
        a.magic == b.magic || a.accepts.contains(&b.magic) || b.accepts.contains(&a.magic)
    };
    let all = &case.releases;
    all.iter().enumerate().any(|(at, old)| {
        all.iter().enumerate().skip(at + 2).any(|(to, new)| {
            !understand(old, new)
                && all[at + 1..to].iter().any(|it| understand(old, it) && understand(it, new))
        })
    })
}

fn minors(plan: &Plan<'_>) -> Walk {
    plan.hops.iter().map(|hop| (hop.to.version.minor as usize, hop.gait.waits())).collect()
}

/// So many random channels, each planned and compared. At least a third has a bridge.
#[expect(clippy::print_stdout, reason = "a long run tells what it was over")]
fn agree(cases: u32) {
    let (bridges, over_others) = (Cell::new(0), Cell::new(0));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let ran = TestRunner::new(config).run(&case(), |case| {
        bridges.set(bridges.get() + u32::from(has_bridge(&case)));
        let (index, standing) = (index(&case), standing(&case));
        let wanted = release(case.wanted, &case.releases[case.wanted]);
        let found = plan(&index, &standing, &wanted, TARGET, case.zero_downtime);
        let expected = best(walks(&case));
        let over = expected.as_ref().is_some_and(|it| it.len() > 1);
        over_others.set(over_others.get() + u32::from(over));
        prop_assert_eq!(found.as_ref().ok().map(minors), expected, "{:?}", found);
        if let Err(reason) = found {
            prop_assert!(!reason.to_string().is_empty());
            prop_assert!(reason != NoPlan::TooFar, "nine releases are not too far");
        }
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}\n{case:#?}"),
        Err(error) => panic!("{error}"),
    }
    let (bridges, over_others) = (bridges.get(), over_others.get());
    println!("{cases} channels, {bridges} with a bridge, {over_others} plans over others");
    assert!(bridges * 3 >= cases, "{bridges} of {cases} have a bridge");
    assert!(over_others * 20 >= cases, "{over_others} of {cases} plans lead over others");
}

#[test]
fn every_plan_is_the_best_of_all_ways_and_there_is_one_where_there_is_a_way() {
    agree(4000);
}

#[test]
#[ignore = "long: a hundred thousand channels"]
fn long_every_plan_is_the_best_of_all_ways() {
    agree(100_000);
}

/// A release that differs from others by its version only.
fn plain() -> Made {
    Made {
        magic: 1,
        accepts: Vec::new(),
        unit: 1,
        schema: (1, 1),
        from: None,
        barrier: false,
        revoked: false,
        halted: false,
        elsewhere: false,
    }
}

/// An upgrade from the first to the last of these.
fn upgrade(releases: Vec<Made>) -> Case {
    let wanted = releases.len() - 1;
    Case { releases, workers: 0, master: 0, wanted, runs: true, zero_downtime: true }
}

/// How a plan for the case goes, or why there is none, in words.
#[track_caller]
fn check(case: &Case, says: &str) {
    let (index, standing) = (index(case), standing(case));
    let wanted = release(case.wanted, &case.releases[case.wanted]);
    let told = match plan(&index, &standing, &wanted, TARGET, case.zero_downtime) {
        Ok(plan) => {
            let hops = plan.hops.iter().map(|hop| match hop.gait {
                Gait::Links => format!("{} links", hop.to.version),
                Gait::ZeroDowntime => hop.to.version.to_string(),
                Gait::ConnectionsWait(_) => format!("{} waits", hop.to.version),
            });
            hops.collect::<Vec<_>>().join(", ")
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(told, says);
}

#[test]
fn the_way_leads_over_the_newest_bridge_and_directly_where_connections_may_wait() {
    let bridge = Made { magic: 2, accepts: vec![1], ..plain() };
    let new = Made { magic: 2, ..plain() };
    let mut case = upgrade(vec![plain(), bridge.clone(), bridge, new]);
    check(&case, "1.2.0, 1.3.0");
    case.zero_downtime = false;
    check(&case, "1.3.0 waits");
    case.runs = false;
    check(&case, "1.3.0 links");
}

#[test]
fn what_the_hops_before_did_to_the_database_decides_how_it_goes_on() {
    let made = |magic, before, schema| Made { magic, accepts: vec![before], schema, ..plain() };
    // Over the newer of the two first hops, the database would be too new for the last one.
    check(
        &upgrade(vec![
            Made { schema: (4, 1), ..plain() },
            made(2, 1, (4, 1)),
            made(2, 1, (5, 4)),
            made(3, 2, (4, 1)),
            made(4, 3, (3, 1)),
        ]),
        "1.1.0, 1.3.0, 1.4.0",
    );
}

#[test]
fn what_is_missing_is_told_by_the_shortest_link() {
    let magic = |magic| Made { magic, ..plain() };
    check(
        &upgrade(vec![magic(3), magic(5)]),
        "from 1.0.0 (magic 3) nothing on offer leads to 1.1.0 (magic 5) without a wait; a release \
         that speaks 5 and accepts 3 is missing",
    );
    // The bridge from 4 to 5 is there: the one before it is missing.
    let bridge = Made { magic: 5, accepts: vec![4], ..plain() };
    check(
        &upgrade(vec![magic(3), magic(4), bridge, magic(5)]),
        "from 1.0.0 (magic 3) nothing on offer leads to 1.3.0 (magic 5) without a wait; a release \
         that speaks 5 and accepts 3 is missing",
    );
    check(
        &upgrade(vec![plain(), Made { unit: 2, ..plain() }]),
        "1.1.0 needs unit 2 and the service was started with unit 1; no release in between can \
         spare that restart",
    );
    check(
        &upgrade(vec![plain(), Made { schema: (9, 4), ..plain() }]),
        "from 1.0.0 (schema 1) nothing on offer leads to 1.1.0 without a wait; a release of schema \
         4 or later on whose database code of schema 1 still works is missing",
    );
    check(
        &upgrade(vec![plain(), Made { from: Some(5), ..plain() }]),
        "1.1.0 may be gone to from `>=1.5.0` only; a release of such a version that can be reached \
         from 1.0.0 is missing",
    );
    let mut back = upgrade(vec![plain(), Made { schema: (4, 4), ..plain() }]);
    (back.workers, back.master, back.wanted) = (1, 1, 0);
    check(
        &back,
        "1.0.0 cannot follow 1.1.0: the database has schema 4 and needs code of schema 4 or later; \
         this build has 1; no release in between changes that",
    );
}

#[test]
fn a_barrier_is_stopped_at_also_when_it_was_withdrawn() {
    let barrier = Made { barrier: true, ..plain() };
    check(&upgrade(vec![plain(), barrier.clone(), plain(), plain()]), "1.1.0, 1.3.0");
    let revoked = Made { revoked: true, ..barrier.clone() };
    check(
        &upgrade(vec![plain(), revoked, plain()]),
        "no upgrade from 1.0.0 to 1.2.0 may leap over 1.1.0, which is revoked (it lost posts)",
    );
    check(
        &upgrade(vec![plain(), Made { elsewhere: true, ..barrier.clone() }, plain()]),
        "no upgrade from 1.0.0 to 1.2.0 may leap over 1.1.0, which is not made for this machine",
    );
    // The way back does not care.
    let mut back = upgrade(vec![plain(), barrier, plain()]);
    (back.workers, back.master, back.wanted) = (2, 2, 0);
    check(&back, "1.0.0");
}

#[test]
fn nobody_goes_to_what_was_withdrawn() {
    check(
        &upgrade(vec![plain(), Made { halted: true, ..plain() }]),
        "1.1.0 is halted (being looked at)",
    );
    check(
        &upgrade(vec![plain(), Made { elsewhere: true, ..plain() }]),
        "1.1.0 is not on offer for this machine",
    );
    let revoked = Made { magic: 2, accepts: vec![1], revoked: true, ..plain() };
    let old = Made { revoked: false, ..revoked.clone() };
    check(&upgrade(vec![plain(), old, revoked, Made { magic: 2, ..plain() }]), "1.1.0, 1.3.0");
}

#[test]
fn a_server_that_is_down_is_not_taken_over_others() {
    let barrier = Made { barrier: true, ..plain() };
    let mut case = upgrade(vec![plain(), barrier, plain()]);
    case.runs = false;
    check(
        &case,
        "the way leads over 1.1.0 and 1.2.0, and the server does not run, so that they would do \
         nothing",
    );
}

#[test]
fn a_way_of_more_hops_than_the_limit_is_refused() {
    let barriers = |count: usize| upgrade(vec![Made { barrier: true, ..plain() }; count + 1]);
    let case = barriers(MAX_HOPS);
    let wanted = release(case.wanted, &case.releases[case.wanted]);
    let index = index(&case);
    let found = plan(&index, &standing(&case), &wanted, TARGET, true).unwrap();
    assert_eq!(found.hops.len(), MAX_HOPS);
    check(&barriers(MAX_HOPS + 1), "the way over other releases has more than 16 hops");
}

#[test]
fn the_largest_channel_is_planned_over() {
    // Each hundred understands its neighbours only, and each release migrates the database.
    let made = |at: u32| Made {
        magic: 1 + at / 100,
        accepts: vec![at / 100],
        schema: (1 + at, 1),
        ..plain()
    };
    let channel: Vec<Made> = (0..MAX_RELEASES as u32).map(made).collect();
    let case = upgrade(channel);
    let wanted = release(case.wanted, &case.releases[case.wanted]);
    let index = index(&case);
    let found = plan(&index, &standing(&case), &wanted, TARGET, true).unwrap();
    assert_eq!(found.hops.len(), 9);
    let mut gap = case;
    gap.releases[500..].iter_mut().for_each(|it| it.magic += 50);
    check_missing(&gap);
}

fn check_missing(case: &Case) {
    let wanted = release(case.wanted, &case.releases[case.wanted]);
    let error = plan(&index(case), &standing(case), &wanted, TARGET, true).unwrap_err();
    assert!(matches!(error, NoPlan::Missing(_)), "{error}");
}

#[test]
fn a_plan_is_another_one_when_what_runs_or_what_is_on_offer_is_another() {
    let line = |case: &Case| {
        let wanted = release(case.wanted, &case.releases[case.wanted]);
        plan(&index(case), &standing(case), &wanted, TARGET, false).unwrap().canonical()
    };
    let case = upgrade(vec![plain(), Made { barrier: true, ..plain() }, plain()]);
    assert_eq!(line(&case), line(&case.clone()));
    let mut other = case.clone();
    other.releases[1].barrier = false;
    let mut older = case.clone();
    older.releases[0].accepts = vec![7];
    let mut down = upgrade(vec![plain(), plain()]);
    let up = down.clone();
    down.runs = false;
    assert_ne!(line(&case), line(&other));
    assert_ne!(line(&case), line(&older));
    assert_ne!(line(&up), line(&down));
}

#[test]
fn what_a_publisher_says_is_read_and_what_he_does_not_say_is_no_rule() {
    let bare = release(1, &plain());
    let text = serde_json::to_string(&bare).unwrap();
    for absent in ["upgrade_from", "barrier", "revoked", "halted"] {
        assert!(!text.contains(absent), "{text}");
    }
    assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), bare);
    let ruled = release(1, &Made { from: Some(0), barrier: true, halted: true, ..plain() });
    let text = serde_json::to_string(&ruled).unwrap();
    assert!(text.contains(r#""upgrade_from":">=1.0.0","barrier":true"#), "{text}");
    assert_eq!(serde_json::from_str::<Release>(&text).unwrap(), ruled);
}

#[test]
fn the_names_of_what_is_in_the_way_can_be_branched_on() {
    let case = upgrade(vec![plain(), Made { from: Some(5), ..plain() }]);
    let wanted = release(1, &case.releases[1]);
    let error = plan(&index(&case), &standing(&case), &wanted, TARGET, true).unwrap_err();
    assert!(matches!(error, NoPlan::Missing(it) if matches!(it.blocked, Blocked::From(_))));
}
