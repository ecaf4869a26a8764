//! Workers that say what no sound build says. A script stands in for a build that lies: it is the true
//! program in all but its worker.

use std::path::PathBuf;

use pump_control::ExitStatus;
use pump_test::{TestCluster, fake};

use crate::{cluster, pumpd, script};

const QUICK: &str =
    "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\nready_seconds = 10\ndrain_seconds = 1\n";

/// A build whose worker says these lines, in each of which `@` is its generation, and then waits.
fn liar(cluster: &TestCluster, lines: &[&str]) -> PathBuf {
    let path = cluster.place().join("liar");
    let says: Vec<String> =
        lines.iter().map(|line| format!("echo '{line}' | sed \"s/@/$generation/\" >&$3")).collect();
    let real = pumpd().display();
    script(
        &path,
        &format!(
            "case $1 in\n\
             release-info) build=$(sha256sum <\"$0\" | cut -c1-64)\n\
             '{real}' release-info | sed 's/\"build\":\"[0-9a-f]*\"/\"build\":\"'$build'\"/' ;;\n\
             worker) IFS= read -r start <&$3\n\
             generation=$(echo \"$start\" | sed 's/.*\"generation\":\\([0-9]*\\).*/\\1/')\n\
             {}\nexec sleep 600 ;;\n\
             *) exec '{real}' \"$@\" ;;\nesac",
            says.join("\n")
        ),
    );
    path
}

#[track_caller]
fn is_found_out(lines: &[&str], text: &str) {
    let cluster = cluster(2, QUICK);
    let rolled = cluster.roll(Some(&liar(&cluster, lines)));
    assert!(
        matches!(rolled.outcome.exit, ExitStatus::RollFailed | ExitStatus::RolledBack),
        "{rolled:?}"
    );
    assert!(rolled.outcome.text.contains(text), "{rolled:?}");
    let status = cluster.eventually(|status| status.workers.len() == 2);
    assert!(status.latch.is_some(), "{status:?}");
    let old = pump_test::process::sha256(pumpd()).expect("the program is there");
    assert!(status.workers.iter().all(|worker| worker.build.build == old), "{status:?}");
    let good = fake::other_build(pumpd(), cluster.place(), "good").expect("a copy of the program");
    assert_eq!(cluster.roll(Some(&good)).outcome.exit, ExitStatus::Done);
}

#[test]
fn a_worker_that_says_twice_that_it_is_ready_is_closed() {
    let ready = r#"{"say":"ready","generation":@}"#;
    is_found_out(&[ready, ready], "it said twice that it is ready");
}

#[test]
fn a_worker_that_speaks_for_another_generation_is_closed() {
    is_found_out(&[r#"{"say":"ready","generation":1}"#], "it spoke for generation 1");
}

#[test]
fn a_worker_that_leaves_right_after_it_was_ready_is_not_taken_for_good() {
    let ready = r#"{"say":"ready","generation":@}"#;
    let leaves = r#"{"say":"draining","generation":@,"connections":0}"#;
    is_found_out(&[ready, leaves], "it leaves without having been asked to");
}

/// What is not known may be of a later build, and is no lie.
#[test]
fn a_worker_that_says_what_nobody_knows_is_left_alone() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\nready_seconds = 10\n");
    let rolled = cluster.roll(Some(&liar(&cluster, &[r#"{"say":"hello","generation":9}"#, "{"])));
    assert!(rolled.outcome.text.contains("not ready in time"), "{rolled:?}");
    cluster.eventually_logs("something that this build does not know");
}
