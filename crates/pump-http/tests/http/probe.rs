//! A worker that is asked whether a person could use it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use pump_http::{Body, Service, probe_as_person};
use rusqlite::Connection;

use crate::server::{AS2, HTML, Server};

type Answering = <Service as tower::Service<http::Request<Body>>>::Future;

fn as_it_is(answer: Answering) -> Answering {
    answer
}

/// Every file in the folder, and every row of every table.
fn everything(data: &Path) -> BTreeMap<String, String> {
    let names =
        fs::read_dir(data).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut all: BTreeMap<String, String> = names.map(|name| (name, String::new())).collect();
    let database = Connection::open(data.join("pump.sqlite3")).unwrap();
    let mut tables = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'probe'")
        .unwrap();
    let tables: Vec<String> =
        tables.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for table in tables {
        let mut rows = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let rows = rows.query_map((), |row| {
            Ok((0..columns)
                .map(|at| format!("{:?} ", row.get_ref(at).unwrap()))
                .collect::<String>())
        });
        all.insert(format!("table {table}"), rows.unwrap().map(Result::unwrap).collect());
    }
    all
}

#[tokio::test]
async fn a_good_worker_passes_and_nobody_ever_sees_it() {
    let server = Server::new();
    let alice = server.app("alice").await;
    alice.posts("hello").await;
    server.get("/readyz", HTML).await;
    let before = everything(server.data());
    for _ in 0..2 {
        probe_as_person(&server.service, as_it_is).await.unwrap();
        assert_eq!(everything(server.data()), before);
    }
    assert_eq!(server.get("/users/probe", AS2).await.status, StatusCode::NOT_FOUND);
    // The name is no more taken than any other.
    server.account("probe");
    probe_as_person(&server.service, as_it_is).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_probes_at_once_do_not_disturb_each_other_nor_anybody_else() {
    let server = Server::new();
    let alice = server.app("alice").await;
    let workers: Vec<Service> = (0..4).map(|_| server.worker()).collect();
    let probes = workers.iter().map(|worker| {
        let worker = worker.clone();
        tokio::spawn(async move { probe_as_person(&worker, as_it_is).await })
    });
    let probes: Vec<_> = probes.collect();
    for number in 0..20 {
        alice.posts(&number.to_string()).await;
    }
    for probe in probes {
        probe.await.unwrap().unwrap();
    }
    assert_eq!(alice.walk("outbox").await.len(), 20);
    let left = fs::read_dir(server.data()).unwrap().filter_map(Result::ok);
    assert_eq!(left.filter(|it| it.path().is_dir()).count(), 0);
}

#[tokio::test]
async fn a_worker_that_answers_wrongly_does_not_pass() {
    let server = Server::new();
    server.account("alice");
    // Each answer in turn is spoiled, until a probe comes to its end without meeting it.
    let mut told = Vec::new();
    for spoiled in 0.. {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let probed = probe_as_person(&server.service, |answer: Answering| {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                let mut answer = answer.await?;
                if number == spoiled {
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok(answer)
            }
        });
        match probed.await {
            Err(why) => told.push(why),
            Ok(()) => break,
        }
    }
    assert!(told.len() >= 15, "{told:#?}");
    assert!(told.iter().all(|why| why.contains("500 Internal Server Error")), "{told:#?}");
    for path in ["/register", "/oauth/token", "/api/v1/streaming/user", "POST /users/probe/outbox"]
    {
        assert!(told.iter().any(|why| why.contains(path)), "{path}: {told:#?}");
    }
}

#[tokio::test]
async fn a_probe_that_is_given_up_leaves_nothing_that_the_next_does_not_clear_away() {
    let server = Server::new();
    let stuck = probe_as_person(&server.service, |answer: Answering| async move {
        let answer = answer.await?;
        if answer.headers().contains_key("set-cookie") {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    });
    // As long as it takes to have begun.
    let mut stuck = Box::pin(stuck);
    let is_trial = |it: &fs::DirEntry| it.file_name().to_string_lossy().starts_with("trial-");
    let trials = || fs::read_dir(server.data()).unwrap().filter_map(Result::ok).filter(is_trial);
    while trials().count() == 0 {
        let step = tokio::time::timeout(Duration::from_millis(1), &mut stuck).await;
        assert!(step.is_err(), "it is stuck");
    }
    // Killed: nothing is dropped.
    let folder = trials().next().unwrap().path();
    fs::create_dir(server.data().join("trial-old")).unwrap();
    let old = fs::File::open(server.data().join("trial-old")).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    old.set_modified(long_ago).unwrap();
    fs::File::open(&folder).unwrap().set_modified(long_ago).unwrap();
    probe_as_person(&server.service, as_it_is).await.unwrap();
    let left: Vec<_> = trials().map(|it| it.path()).collect();
    assert_eq!(left, [folder], "what is in use stays");
    drop(stuck);
    assert_eq!(trials().count(), 0);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_told_of() {
    let server = Server::new();
    server.store.close().unwrap();
    let why = probe_as_person(&server.service, as_it_is).await.unwrap_err();
    assert!(why.contains("GET /readyz was answered with 503"), "{why}");
}
