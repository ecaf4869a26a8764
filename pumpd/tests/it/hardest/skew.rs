//! 14: builds of several ages.

use pump_control::ExitStatus;
use pump_control::constants::{ACCEPTS, MAGIC};
use pump_test::fake::{self, Faults};
use pump_test::{Setup, TestCluster};

use super::{QUICK, Tried, pids};
use crate::pumpd;

/// A build that says it speaks this magic number, and accepts no other.
fn of(magic: u32) -> Faults {
    Faults { magic: Some(magic), ..Faults::default() }
}

#[test]
fn b14_builds_that_accept_each_other_roll_both_ways() {
    for magic in ACCEPTS {
        let builds = tempfile::tempdir().expect("a folder");
        let earlier = fake::faulty(pumpd(), builds.path(), "earlier", &of(*magic)).expect("a copy");
        let (pumpd, more) = (Some(earlier), QUICK.to_owned());
        let cluster = TestCluster::start(Setup { pumpd, more, ..Setup::default() });
        let tried = Tried { cluster, builds };
        let up = tried.cluster.roll(Some(&tried.other("later")));
        assert_eq!(up.outcome.exit, ExitStatus::Done, "from {magic} to {MAGIC}: {up:?}");
        let down = tried.cluster.roll(Some(&tried.broken("earlier-again", &of(*magic))));
        assert_eq!(down.outcome.exit, ExitStatus::Done, "from {MAGIC} to {magic}: {down:?}");
        tried.good_roll();
    }
}

#[test]
fn b14_a_build_that_does_not_is_refused_before_anything_is_touched() {
    let tried = Tried::new(QUICK);
    let before = pids(&tried.cluster.workers());
    for magic in [MAGIC + 1, MAGIC + 2, 77, 0] {
        let rolled = tried.cluster.roll(Some(&tried.broken("other", &of(magic))));
        assert_eq!(rolled.outcome.exit, ExitStatus::OtherMagic, "{magic}: {rolled:?}");
        assert!(rolled.outcome.text.contains(&magic.to_string()), "{rolled:?}");
        assert_eq!(pids(&tried.cluster.workers()), before, "{magic}: no worker was touched");
        assert_eq!(tried.cluster.status().latch, None, "{magic}: it was never tried");
    }
    tried.good_roll();
}
