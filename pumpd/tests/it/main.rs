//! `pumpd` through its front doors: the real program, its sockets, its signals.

mod adopt;
mod canary;
mod client;
mod confine;
mod control;
mod drain;
mod fake_master;
mod faults;
mod hand_over;
mod hardest;
mod http2;
mod lies;
mod limits;
mod listeners;
mod metrics;
mod operator;
mod orphan;
mod probe;
mod proxy;
mod replace;
mod roll;
mod start;
mod streams;
mod takers;
mod worker;

use std::path::Path;

use pump_test::{Setup, TestCluster};

/// The program under test.
fn pumpd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pumpd"))
}

/// Writes a script that stands in for a program.
fn script(path: &Path, text: &str) {
    let text = format!("#!/bin/bash\n{text}\n");
    pump_test::fake::write_executable(path, text.as_bytes()).expect("the folder takes a file");
}

/// A cluster of the program under test.
fn cluster(workers: u32, more: &str) -> TestCluster {
    let pumpd = Some(pumpd().to_owned());
    TestCluster::start(Setup { pumpd, workers, more: more.to_owned(), ..Setup::default() })
}
