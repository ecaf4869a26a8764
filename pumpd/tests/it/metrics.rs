//! Figures of the whole cluster, as a scraper reads them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Reply, Upgrades};
use pump_test::openmetrics::Samples;
use pump_test::{TestCluster, eventually, fake};

use crate::client::{REQUEST, answer, connect};
use crate::{cluster, pumpd};

const QUICK: &str = "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\n";

fn metrics(cluster: &TestCluster) -> Samples {
    match cluster.ask(Ask::Metrics) {
        Reply::Metrics { text } => Samples::read(&text).unwrap_or_else(|e| panic!("{e:#}\n{text}")),
        other => panic!("{other:?}"),
    }
}

/// What the control socket answers to these bytes, up to its end.
fn over_http(cluster: &TestCluster, request: &str) -> String {
    let path = cluster.place().join("run/control.sock");
    let mut client = UnixStream::connect(path).expect("it listens");
    client.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers and closes");
    answer
}

#[test]
fn a_scraper_reads_the_metrics_over_http() {
    let cluster = cluster(2, QUICK);
    let answer = over_http(&cluster, "GET /metrics HTTP/1.1\r\nHost: pump\r\nAccept: */*\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(kind), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    let samples = Samples::read(body).unwrap_or_else(|error| panic!("{error:#}\n{body}"));
    let build = cluster.status().workers_build.short();
    let ready = format!("pump_workers{{state=\"ready\",build=\"{build}\"}}");
    assert_eq!(samples.get(&ready), Some(2.0), "{body}");
    assert_eq!(samples.get("pump_latched"), Some(0.0));

    let refused = over_http(&cluster, "GET /status HTTP/1.1\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 404 "), "{refused}");
    let refused = over_http(&cluster, "POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("Allow: GET"), "{refused}");
    // A head without an end costs no more than its limit.
    let endless = format!("GET /metrics HTTP/1.1\r\n{}", "a: b\r\n".repeat(2000));
    let refused = over_http(&cluster, &endless);
    assert!(refused.starts_with("HTTP/1.1 431 "), "{refused}");
}

#[test]
fn rolls_are_counted_by_how_they_ended() {
    let cluster = cluster(2, QUICK);
    let rolls = |outcome: &str| {
        metrics(&cluster).get(&format!("pump_rolls_total{{outcome=\"{outcome}\"}}"))
    };
    assert_eq!((rolls("done"), rolls("failed")), (Some(0.0), Some(0.0)));
    let new = fake::other_build(pumpd(), cluster.place(), "new").expect("a copy of the program");
    cluster.roll(Some(&new));
    let bad = fake::candidate(pumpd(), cluster.place(), "9.9.9", fake::Fault::Exits(3));
    cluster.roll(Some(&bad.expect("a script")));
    assert_eq!((rolls("done"), rolls("failed")), (Some(1.0), Some(1.0)));
    let after = metrics(&cluster);
    assert_eq!(after.get("pump_latched"), Some(1.0));
    assert_eq!(after.get("pump_master_replaced_total"), Some(1.0));
    assert!(after.get("pump_roll_seconds").is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn a_worker_that_does_not_answer_keeps_nobody_waiting() {
    let cluster = cluster(2, QUICK);
    let stopped = cluster.workers().remove(0);
    stopped.signal(Signal::SIGSTOP).expect("it lives");
    let status = cluster.status();
    let samples = metrics(&cluster);
    stopped.signal(Signal::SIGCONT).expect("it lives");
    assert_eq!(status.workers.len(), 2, "{status:?}");
    assert_eq!(samples.get("pump_workers_wanted"), Some(2.0));
}
#[test]
fn what_workers_did_outlives_them() {
    let cluster = cluster(2, QUICK);
    for _ in 0..20 {
        let mut stream = connect(&cluster);
        stream.write_all(REQUEST).expect("it reads");
        answer(&mut stream);
    }
    let requests = || metrics(&cluster).get("pump_requests_total").expect("it is there");
    eventually(std::time::Duration::from_secs(60), || match requests() {
        many if many >= 20.0 => Ok(()),
        few => Err(few),
    });
    let before = metrics(&cluster);
    let new = fake::other_build(pumpd(), cluster.place(), "new").expect("a copy of the program");
    cluster.roll(Some(&new));
    // Nor does a sum fall when a worker is killed, which says nothing any more.
    cluster.workers()[0].signal(Signal::SIGKILL).expect("it lives");
    cluster.eventually(|status| status.workers.len() == 2 && status.roll.is_none());
    let after = metrics(&cluster);
    for name in before.names().filter(|name| name.contains("_total") || name.contains("_bucket")) {
        assert!(after.get(name) >= before.get(name), "{name} fell");
    }
    assert!(after.get("pump_request_seconds_count") >= Some(20.0));
}

/// It was in the middle of its request when the master became another build.
#[test]
fn a_scraper_that_is_slow_is_answered_by_whichever_master_there_is() {
    let cluster = cluster(2, "[roll]\nlinger_seconds = 0\nwatch_seconds = 0\n");
    let path = cluster.place().join("run/control.sock");
    let mut scraper = UnixStream::connect(path).expect("it listens");
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nHost: pu").expect("it reads");
    // Whoever asks after it is answered after it was read.
    let before = cluster.status().master;
    let new = fake::other_build(pumpd(), cluster.place(), "new").expect("a copy");
    assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
    assert_ne!(cluster.status().master.build, before.build);
    scraper.write_all(b"mp\r\n\r\n").expect("it reads");
    let mut told = String::new();
    scraper.read_to_string(&mut told).expect("it answers and closes");
    assert!(told.starts_with("HTTP/1.1 200") && told.ends_with("# EOF\n"), "{told}");
}

#[test]
fn what_pump_tells_of_upgrades_is_told_with_the_figures_and_outlives_the_master() {
    let cluster = cluster(2, QUICK);
    assert_eq!(metrics(&cluster).get("pump_upgrade_held"), None, "nothing was told so far");
    let told = Upgrades {
        checks: [("0".to_owned(), 7), ("75".to_owned(), 2)].into(),
        last_check: Some(1_795_000_000),
        held: true,
        target: "9.9.9+0\"1".to_owned(),
        ..Upgrades::default()
    };
    assert!(matches!(cluster.ask(Ask::Upgrades(Box::new(told))), Reply::Noted));
    let check = || {
        let found = metrics(&cluster);
        assert_eq!(found.get("pump_upgrade_checks_total{exit=\"75\"}"), Some(2.0));
        assert_eq!(found.get("pump_upgrade_last_check_timestamp_seconds"), Some(1_795_000_000.0));
        assert_eq!(found.get("pump_upgrade_held"), Some(1.0));
    };
    check();
    let new = fake::other_build(pumpd(), cluster.place(), "new").expect("a copy of the program");
    assert_eq!(cluster.roll(Some(&new)).outcome.exit, ExitStatus::Done);
    check();
}
