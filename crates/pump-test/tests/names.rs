//! The load client calls each failure by its right name, and finds none where there is none.
//!
//! The server here is a toy that does one thing wrong, counts how often it did, and is otherwise
//! good: keep-alive, an outbox, pages of it.

#[path = "names/toy.rs"]
mod toy;

use std::time::Duration;

use pump_test::ledger::Problem;
use pump_test::load::{Class, Failure, Load, Method, Mix, Plan, Record, Report};
use pump_test::{Account, Api, eventually};

use toy::{Misdeed, Toy};

/// A small mix, quick thinkers and a short patience, so that each case takes a second.
fn plan(toy: &Toy) -> Plan {
    let mut plan = Plan::new(toy.address(), "toy.example");
    plan.mix = Mix { new: 3, keepalive: 3, brisk: 3, slow_upload: 3, slow_reader: 1 };
    plan.lasts = Duration::from_secs(30);
    plan.new_per_second = 300;
    plan.think = Duration::from_millis(40);
    plan.brisk_think = Duration::from_millis(10);
    plan.upload_bytes = 20_000;
    plan.upload_lasts = (Duration::from_millis(40), Duration::from_millis(200));
    plan.big_page = "/big".to_owned();
    plan.read_per_second = 400_000;
    plan.answer_within = Duration::from_secs(10);
    plan.authors = vec![Account { name: "alice".to_owned(), bearer: "secret".to_owned() }];
    plan
}

/// Runs the mix against a toy until it has seen enough of the misdeed.
fn against(misdeed: Misdeed) -> (Toy, Report) {
    let toy = Toy::start(misdeed);
    let mut plan = plan(&toy);
    if misdeed == Misdeed::Stall {
        plan.answer_within = Duration::from_secs(1);
    }
    let load = Load::start(plan);
    let good = matches!(misdeed, Misdeed::None | Misdeed::SaysClose);
    eventually(Duration::from_secs(20), || {
        let seen = (load.requests(), toy.misdeeds());
        if seen.0 >= 200 && (good || seen.1 >= 8) { Ok(()) } else { Err(seen) }
    });
    let report = load.stop();
    (toy, report)
}

/// The names of all failures and how many there are of each.
fn names(report: &Report) -> Vec<(String, usize)> {
    let mut names: Vec<(String, usize)> = Vec::new();
    for ((_, failure), count) in report.failures_by_kind() {
        match names.iter_mut().find(|(name, _)| *name == failure.to_string()) {
            Some((_, sum)) => *sum += count,
            None => names.push((failure.to_string(), count)),
        }
    }
    names
}

fn problems(toy: &Toy, report: &Report) -> Vec<Problem> {
    let shown = Api::new(toy.address(), "http://toy.example").outbox("alice").expect("an outbox");
    report.ledger().check(Some("alice"), &shown).problems
}

#[test]
fn a_good_server_has_no_failures() {
    let (toy, report) = against(Misdeed::None);
    let connections = toy.connections();
    assert_eq!(names(&report), [], "{report}");
    assert_eq!(problems(&toy, &report), []);
    for class in Class::ALL {
        assert!(report.records.iter().any(|record| record.class == class), "no {class} request");
    }
    let fresh = |record: &&Record| !matches!(record.class, Class::Keepalive | Class::Brisk);
    let fresh = report.records.iter().filter(fresh).count();
    assert_eq!(connections, fresh + 6, "each keep-alive client uses one connection");
    assert_eq!(report.servers().len(), 1, "the toy names itself");
    let walked = report.ledger().check(
        Some("alice"),
        &Api::new(toy.address(), "http://toy.example").outbox("alice").expect("an outbox"),
    );
    assert!(walked.acknowledged > 10, "over several pages: {}", walked.acknowledged);
}

#[test]
fn an_announced_close_is_no_failure() {
    let (toy, report) = against(Misdeed::SaysClose);
    assert_eq!(names(&report), [], "{report}");
    assert_eq!(problems(&toy, &report), []);
}

#[test]
fn each_misdeed_on_a_request_is_called_by_its_name() {
    let cases = [
        (Misdeed::ResetBeforeAnswer, "reset-before-answer", true),
        (Misdeed::EofBeforeAnswer, "eof-before-answer", true),
        (Misdeed::CutBody, "cut-body", false),
        (Misdeed::CutChunks, "cut-body", false),
        (Misdeed::CutHead, "cut-body", false),
        (Misdeed::Stall, "timeout", false),
        (Misdeed::Says503, "status-503", false),
        (Misdeed::NoHttp, "wrong-answer", false),
    ];
    std::thread::scope(|scope| {
        for (misdeed, name, reuse_differs) in cases {
            scope.spawn(move || check(misdeed, name, reuse_differs));
        }
    });
}

/// As many failures as misdeeds, all of that name; on a used connection it may be a stale reuse.
fn check(misdeed: Misdeed, name: &str, reuse_differs: bool) {
    let (toy, report) = against(misdeed);
    let seen = names(&report);
    let sum: usize = seen.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, toy.misdeeds(), "{misdeed:?}: {report}");
    for (seen, _) in &seen {
        let stale = reuse_differs && seen.starts_with("stale-reuse-");
        assert!(seen == name || stale, "{misdeed:?} was called {seen}");
    }
    assert!(seen.iter().any(|(seen, _)| seen == name), "{misdeed:?}: {seen:?}");
    for (class, failure) in report.failures_by_kind().into_keys() {
        let fresh = matches!(class, Class::New | Class::SlowUpload | Class::SlowReader);
        let stale = matches!(failure, Failure::StaleReuse(_));
        assert!(!(fresh && stale), "{misdeed:?}: {class} {failure}");
    }
}

#[test]
fn an_idle_connection_closed_without_notice_is_a_stale_reuse() {
    for misdeed in [Misdeed::ClosesIdle, Misdeed::ResetsIdle] {
        let (_, report) = against(misdeed);
        let kinds = report.failures_by_kind();
        for (class, failure) in kinds.keys() {
            assert!(matches!(failure, Failure::StaleReuse(_)), "{misdeed:?}: {class} {failure}");
            assert!(matches!(class, Class::Keepalive | Class::Brisk), "{misdeed:?}: {class}");
        }
        for method in [Method::Get, Method::Post] {
            let stale = Failure::StaleReuse(method);
            assert!(kinds.keys().any(|(_, seen)| *seen == stale), "{misdeed:?}: {report}");
        }
    }
}

#[test]
fn a_server_that_is_gone_refuses() {
    let toy = Toy::start(Misdeed::None);
    let load = Load::start(plan(&toy));
    eventually(Duration::from_secs(20), || match load.requests() {
        0..100 => Err(load.requests()),
        _ => Ok(()),
    });
    toy.stop_listening();
    eventually(Duration::from_secs(20), || match load.failures() {
        0..20 => Err(load.failures()),
        _ => Ok(()),
    });
    let report = load.stop();
    let kinds = report.failures_by_kind();
    assert!(kinds.keys().all(|(_, failure)| *failure == Failure::Refused), "{report}");
}

#[test]
fn an_upload_cut_by_the_server_is_a_reset() {
    let (toy, report) = against(Misdeed::CutsUpload);
    assert_eq!(names(&report), [("reset-before-answer".to_owned(), toy.misdeeds())]);
    assert!(report.failures_by_kind().keys().all(|(class, _)| *class == Class::SlowUpload));
}

#[test]
fn an_early_no_to_an_upload_is_read_although_the_server_has_gone() {
    let (toy, report) = against(Misdeed::RefusesUpload);
    assert_eq!(names(&report), [("status-413".to_owned(), toy.misdeeds())]);
}

#[test]
fn lost_doubled_and_altered_notes_are_found_although_every_answer_was_good() {
    let (toy, report) = against(Misdeed::LosesPost);
    assert_eq!(names(&report), []);
    let found = problems(&toy, &report);
    assert!(found.iter().all(|problem| matches!(problem, Problem::Lost { .. })), "{found:?}");
    assert_eq!(found.len(), toy.misdeeds());

    let (toy, report) = against(Misdeed::DoublesPost);
    assert_eq!(names(&report), []);
    let found = problems(&toy, &report);
    let doubled = |problem: &Problem| matches!(problem, Problem::Doubled { times: 2, .. });
    assert!(found.iter().all(doubled), "{found:?}");
    assert_eq!(found.len(), toy.misdeeds());

    let (toy, report) = against(Misdeed::AltersPost);
    let found = problems(&toy, &report);
    assert!(found.iter().all(|problem| matches!(problem, Problem::Altered { .. })), "{found:?}");
    assert_eq!(found.len(), toy.misdeeds());
}

#[test]
fn a_note_that_was_stored_and_not_answered_is_a_failed_request_and_no_loss() {
    let (toy, report) = against(Misdeed::StoresAndGoes);
    assert_eq!(names(&report).iter().map(|(_, count)| count).sum::<usize>(), toy.misdeeds());
    let shown = Api::new(toy.address(), "http://toy.example").outbox("alice").expect("an outbox");
    let audit = report.ledger().check(Some("alice"), &shown);
    assert_eq!((audit.unseen, audit.problems.len()), (toy.misdeeds(), 0));
}
