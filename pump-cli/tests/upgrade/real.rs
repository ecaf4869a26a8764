//! With the real daemon: a private place that is started, upgraded under its own master, and stopped.
//!
//! Needs `pumpd` built beside these tests: `cargo build -p pumpd`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use pump_control::ExitStatus;
use pump_control::control::Restart;
use pump_release::{ReleaseInfo, Rules, TARGET};
use pump_repository::{Bundle, Entry, Expiry, sha256};
use pump_test::fake::{Faults, faulty};
use pump_test::load::{Load, Plan};
use pump_test::process::Process;
use pump_test::{Account, Api};
use serde_json::Value;

use crate::place::{Place, version};

/// A private place whose server is stopped when the test ends, however it ends.
pub(crate) struct Served {
    pub(crate) place: Place,
    info: ReleaseInfo,
    program: Vec<u8>,
}

impl Served {
    fn new() -> Self {
        Self::lingering(1)
    }

    /// With workers that leave idle connections open for so many seconds when they go.
    pub(crate) fn lingering(seconds: u32) -> Self {
        Self::with(&format!("linger_seconds = {seconds}"))
    }

    /// With these keys of `[roll]`.
    pub(crate) fn with(roll: &str) -> Self {
        let path = pump_test::pumpd().expect("the daemon is built: `cargo build -p pumpd`");
        let program = fs::read(&path).expect("the daemon can be read");
        let told = Command::new(&path).arg("release-info").output().expect("the daemon can be run");
        let info: ReleaseInfo = serde_json::from_slice(&told.stdout).expect("release information");
        let place = Place::new();
        place.install_release(&info, vec![Entry::program("bin/pumpd", program.clone())]);
        for folder in ["var/lib/pump", "run/pump"] {
            fs::create_dir_all(place.path(folder)).expect("our own folder");
        }
        let config = format!(
            "domain = \"social.example\"\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n\
             data_dir = \"{}\"\nruntime_dir = \"{}\"\n[roll]\ncanary_seconds = 0\n{roll}\n\
             [test]\ngeneration_header = true\n",
            place.path("var/lib/pump").display(),
            place.path("run/pump").display(),
        );
        fs::write(place.path("etc/pump/pumpd.toml"), config).expect("our own file");
        let served = Self { place, info, program };
        served.place.pump(&["start"]).ended(0, "");
        served
    }

    /// Offers the same program with a few bytes behind its end, which make it another build.
    pub(crate) fn offer_other_build(&self, mark: &str) -> ReleaseInfo {
        let program = [self.program.as_slice(), mark.as_bytes()].concat();
        let info = ReleaseInfo { build: sha256(&program), ..self.info.clone() };
        self.offer(&info, program);
        info
    }

    pub(crate) fn offer(&self, info: &ReleaseInfo, program: Vec<u8>) {
        let bundle = Bundle::pack(info, vec![Entry::program("bin/pumpd", program)]);
        self.place.offer_info(info, &bundle.expect("an honest bundle can be packed"));
    }

    pub(crate) fn api(&self) -> Api {
        let status = self.status();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let address = text(&status["listen"][0]).parse().expect("an address");
        Api::new(address, text(&status["public_url"]))
    }

    pub(crate) fn account(&self, name: &str) -> Account {
        let pumpd = self.place.path("opt/pump/current/bin/pumpd");
        let config = self.place.path("etc/pump/pumpd.toml");
        let password = "correct horse battery";
        pump_test::create_account(&pumpd, &config, name, password).expect("an account is made");
        self.api().sign_in(name, password).expect("the account signs in")
    }

    /// Rolls the server onto a program, as an upgrade does before it changes a link.
    pub(crate) fn roll_onto(&self, candidate: &std::path::Path) {
        let control = pump_test::Control::at(&self.place.path("run/pump/control.sock"));
        let ask =
            Restart { candidate: Some(candidate.to_owned()), wait: true, ..Restart::default() };
        let rolled = control.restart(ask, |_| {}).expect("it can be asked");
        assert_eq!(rolled.outcome.exit, ExitStatus::Done, "{rolled:?}");
    }

    pub(crate) fn master(&self) -> Process {
        let pid = self.status()["pid"].as_u64().expect("a number");
        Process::of(pid as u32).expect("the master is there")
    }

    pub(crate) fn status(&self) -> Value {
        self.place.pump(&["status", "--json"]).ended(0, "").json()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let stopped = self.place.pump(&["stop"]);
        if !std::thread::panicking() {
            stopped.ended(0, "");
        }
    }
}

#[test]
fn a_running_server_is_rolled_forth_and_back_by_the_same_master() {
    let served = Served::new();
    let began = served.status();
    let new = served.offer_other_build("the next build");
    let version = new.version.to_string();
    served.place.pump(&["upgrade", "--zero-downtime", "--to", &version]).ended(0, "serves");
    assert_eq!(served.place.link("current"), Some(new.name()));
    let now = served.status();
    assert_eq!(now["workers_build"]["build"], new.build.to_string());
    for worker in now["workers"].as_array().expect("a list") {
        let link = format!("/proc/{}/exe", worker["pid"]);
        // A worker that is leaving may be gone by now.
        let Ok(exe) = fs::read(&link) else { continue };
        let builds = [new.build, served.info.build];
        assert!(builds.contains(&sha256(&exe)), "{worker}");
        assert!(worker["state"] != "ready" || sha256(&exe) == new.build, "{worker}");
    }
    assert_eq!(now["pid"], began["pid"]);

    served.place.pump(&["rollback", "--zero-downtime"]).ended(0, "serves");
    assert_eq!(served.place.link("current"), Some(served.info.name()));
    assert_eq!(served.place.link("previous"), Some(new.name()));
    assert_eq!(served.status()["workers_build"]["build"], served.info.build.to_string());
}

#[test]
fn a_way_over_a_barrier_is_rolled_twice_by_the_same_master() {
    let served = Served::new();
    let began = served.status();
    let real = served.place.path("opt/pump/current/bin/pumpd");
    let offer = |version: &str, barrier| {
        let faults = Faults { version: Some(version.to_owned()), ..Faults::default() };
        let path = faulty(&real, served.place.folder(), version, &faults).expect("it is made");
        let told = Command::new(&path).arg("release-info").output().expect("it can be run");
        let info: ReleaseInfo = serde_json::from_slice(&told.stdout).expect("release information");
        let program = fs::read(&path).expect("our own file");
        let bundle = Bundle::pack(&info, vec![Entry::program("bin/pumpd", program)]);
        let bundle = bundle.expect("an honest bundle can be packed");
        let rules = Rules { barrier, ..Rules::default() };
        served.place.put(&info, &rules, &bundle, TARGET, Expiry::usual(Timestamp::now()));
        info
    };
    let (barrier, new) = (offer("9.1.0", true), offer("9.2.0", false));
    let ran = served.place.pump(&["upgrade", "--zero-downtime"]);
    ran.ended(0, &format!("{} serves", barrier.name()));
    ran.ended(0, &format!("{} serves", new.name()));
    assert_eq!(served.place.link("current"), Some(new.name()));
    assert_eq!(served.place.link("previous"), Some(barrier.name()));
    let now = served.status();
    assert_eq!(now["pid"], began["pid"]);
    assert_eq!(now["workers_build"]["build"], new.build.to_string());
    assert_eq!(now["master"]["build"], new.build.to_string());
}

#[test]
fn b09_p3_a_release_whose_workers_die_ends_where_it_began() {
    let served = Served::new();
    let said = serde_json::to_string(&ReleaseInfo {
        version: "9.0.0".parse().expect("a version"),
        ..served.info.clone()
    })
    .expect("JSON")
    .replace(&served.info.build.to_string(), "@BUILD@");
    // All that comes before its workers is as it should be.
    let real = served.place.path("opt/pump/current/bin/pumpd");
    let real = real.display();
    let program = format!(
        "#!/bin/sh\ncase $1 in\nrelease-info) build=$(/usr/bin/sha256sum <\"$0\")\n\
         echo '{said}' | /bin/sed \"s/@BUILD@/${{build%% *}}/\" ;;\ncheck | migrate | master) exec {real} \"$@\" ;;\n\
         *) echo 'no good' >&2; exit 9 ;;\nesac\n"
    )
    .into_bytes();
    let info = ReleaseInfo {
        version: "9.0.0".parse().expect("a version"),
        build: sha256(&program),
        ..served.info.clone()
    };
    served.offer(&info, program);
    served.place.pump(&["upgrade"]).ended(62, "no good");
    assert_eq!(served.place.link("current"), Some(served.info.name()));
    let now = served.status();
    assert_eq!(now["workers_build"]["build"], served.info.build.to_string());
    assert_eq!(now["latch"]["build"]["build"], info.build.to_string());
    served.place.pump(&["upgrade"]).ended(34, "");
    // Another build clears the latch.
    let next = served.offer_other_build("mended");
    served.place.pump(&["upgrade", "--to", &next.version.to_string()]).ended(0, "serves");
}

#[test]
fn a_restart_onto_a_release_that_does_not_start_goes_back_by_itself() {
    let served = Served::new();
    let broken = crate::place::Wanted {
        magic: served.info.magic + 1,
        schema: served.info.schema,
        ..version("9.0.0")
    };
    served.place.offer(&broken);
    served.place.pump(&["upgrade", "--zero-downtime"]).ended(30, "magic");
    served.place.pump(&["upgrade", "--yes"]).ended(60, "serves again");
    assert_eq!(served.place.link("current"), Some(served.info.name()));
    assert_eq!(served.status()["workers_build"]["build"], served.info.build.to_string());
}

#[test]
#[ignore = "a long proof: `cargo xtask test --long` runs it"]
fn long_p1_ten_upgrades_and_ten_rollbacks_in_a_row_fail_nobody() {
    let served = Served::lingering(5);
    let new = served.offer_other_build("the next build");
    let (alice, bob) = (served.account("alice"), served.account("bob"));
    let before = (served.master().pid, served.master().descriptors().expect("its /proc is ours"));
    let api = served.api();
    let mut plan = Plan::new(api.address().clone(), api.host());
    plan.authors = vec![alice, bob];
    plan.lasts = Duration::from_secs(900);
    // Two cores are shared by all: a pace at which an answer that is late is the server's doing.
    plan.new_per_second = 400;
    let load = Load::start(plan);
    for _ in 0..10 {
        let version = new.version.to_string();
        served.place.pump(&["upgrade", "--zero-downtime", "--to", &version]).ended(0, "serves");
        served.place.pump(&["rollback", "--zero-downtime"]).ended(0, "serves");
    }
    let report = load.stop();
    assert_eq!(report.failures_by_kind(), BTreeMap::new(), "of {}", report.requests());
    assert!(report.first_answers().len() >= 2, "both builds answered");
    for author in report.ledger().authors() {
        let outbox = api.outbox(author).expect("the outbox can be read");
        let audit = report.ledger().check(Some(author), &outbox);
        assert!(audit.problems.is_empty(), "{author}: {audit:?}");
    }
    let master = served.master();
    assert_eq!(before, (master.pid, master.descriptors().expect("its /proc is ours")));
}
