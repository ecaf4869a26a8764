//! Whoever answers on the control socket: it says what runs and does what a roll is told to do.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use pump_control::control::{
    Ask, Build, Event, Outcome, Phase, Reply, Request, Restart, Status, Worker,
};
use pump_control::{ExitStatus, encode};
use pump_repository::sha256;

use crate::place::{Place, Wanted};

/// What it answers from.
struct State {
    status: Status,
    asked: Vec<Restart>,
    outcome: Option<Outcome>,
    /// Whether a roll ends with the master, as it does in a server that can replace it in place.
    replaced: bool,
    /// How often a worker of the build before is still seen after a roll.
    lingers: usize,
    seen: usize,
    /// It ends in the middle of so many rolls; what the next master says then, one after another.
    after_death: VecDeque<Vec<Status>>,
    next: Vec<Status>,
    /// Why every probe of a worker fails.
    probes_fail: Option<String>,
    /// After so many rolls each ends like this.
    outcome_after: Option<(usize, Outcome)>,
    ended: bool,
}

/// A master that runs until it is dropped.
pub(crate) struct Master {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Master {
    /// One that runs an installed release.
    pub(crate) fn of(place: &Place, running: &Wanted) -> Self {
        let folder = place.path("run/pump");
        fs::create_dir_all(&folder).expect("our own folder");
        let socket = folder.join("control.sock");
        let listener = UnixListener::bind(&socket).expect("a socket in our own folder");
        let path = place.path("opt/pump/releases").join(running.info().name()).join("bin/pumpd");
        let build = build_at(&path, running.version);
        let status = Status {
            pid: std::process::id(),
            sentence: "2 workers, ready".to_owned(),
            phase: Phase::Running,
            master: build.clone(),
            workers_build: build,
            generation: 1,
            wanted: 2,
            public_url: "https://social.example".to_owned(),
            config: place.path("etc/pump/pumpd.toml"),
            up_seconds: 1,
            ..Status::default()
        };
        let state = State {
            status,
            asked: Vec::new(),
            outcome: None,
            replaced: false,
            lingers: 0,
            seen: 0,
            after_death: VecDeque::new(),
            next: Vec::new(),
            probes_fail: None,
            outcome_after: None,
            ended: false,
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if shared.lock().expect("no test panics with it").ended {
                    return;
                }
                // A client that went away is no failure of the master.
                let _ = answer(stream, &shared);
            }
        });
        Self { socket, state, thread: Some(thread) }
    }

    /// Every roll ends like this from now on, and changes nothing.
    pub(crate) fn fails(&self, exit: ExitStatus, text: &str) {
        let outcome =
            Outcome { exit, text: text.to_owned(), hint: None, output: vec!["no good".into()] };
        self.state.lock().expect("no test panics with it").outcome = Some(outcome);
    }

    /// Every roll after so many ends like this, and changes nothing.
    pub(crate) fn fails_after(&self, rolls: usize, exit: ExitStatus, text: &str) {
        let outcome = Outcome { exit, text: text.to_owned(), hint: None, output: Vec::new() };
        let mut state = self.state.lock().expect("no test panics with it");
        state.outcome_after = Some((rolls, outcome));
    }

    /// Every probe of a worker fails like this from now on.
    pub(crate) fn fails_probes(&self, why: &str) {
        self.state.lock().expect("no test panics with it").probes_fail = Some(why.to_owned());
    }

    /// Every roll ends with the master from now on, which becomes the candidate.
    pub(crate) fn is_replaced(&self) {
        self.state.lock().expect("no test panics with it").replaced = true;
    }

    /// After every roll a worker of the build before is seen so many times.
    pub(crate) fn lingers(&self, times: usize) {
        self.state.lock().expect("no test panics with it").lingers = times;
    }

    /// In the middle of the next roll, or of the one after that which is told of already, it closes every connection.
    /// The next master says these, one after another, whenever it is asked, and the last one again and again.
    pub(crate) fn dies_in_the_roll(&self, next: &[Status]) {
        let next = next.iter().rev().cloned().collect();
        self.state.lock().expect("no test panics with it").after_death.push_back(next);
    }

    /// What it says how it is.
    pub(crate) fn status(&self) -> Status {
        self.state.lock().expect("no test panics with it").status.clone()
    }

    /// Rolls that were asked for.
    pub(crate) fn asked(&self) -> Vec<Restart> {
        self.state.lock().expect("no test panics with it").asked.clone()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.ended = true;
        }
        // Wakes the thread, which then sees that it has ended.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

fn answer(stream: UnixStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let say = |reply: &Reply| (&stream).write_all(&encode(reply));
    match request.ask {
        Ask::Status => {
            let mut state = state.lock().expect("no test panics with it");
            if state.seen == 0 {
                state.status.workers.clear();
            }
            state.seen = state.seen.saturating_sub(1);
            let says = Box::new(state.status.clone());
            if let Some(next) = state.next.pop() {
                state.status = next;
            }
            say(&Reply::Status(says))
        }
        Ask::Restart(restart) => {
            let mut state = state.lock().expect("no test panics with it");
            state.asked.push(restart.clone());
            say(&Reply::Accepted { roll: 1 })?;
            say(&Reply::Step {
                roll: 1,
                text: "worker 3 is ready, worker 1 leaves".to_owned(),
                event: Box::new(Event::Other),
                millis: 1,
            })?;
            if let Some(next) = state.after_death.pop_front() {
                state.next = next;
                if let Some(first) = state.next.pop() {
                    state.status = first;
                }
                return Ok(());
            }
            let rolls = state.asked.len();
            let after = state.outcome_after.clone().filter(|(after, _)| rolls > *after);
            let outcome = state.outcome.clone().or(after.map(|(_, outcome)| outcome));
            let outcome = outcome.unwrap_or_else(|| {
                let path = restart.candidate.expect("pump names its candidate");
                let new = build_at(&path, "2.0.0");
                if state.replaced {
                    state.status.master = new.clone();
                }
                let old = std::mem::replace(&mut state.status.workers_build, new);
                state.status.workers = vec![Worker { worker: 1, build: old, ..Worker::default() }];
                state.seen = state.lingers;
                let text = "all workers are new".to_owned();
                Outcome { exit: ExitStatus::Done, text, hint: None, output: Vec::new() }
            });
            say(&Reply::Ended { roll: 1, outcome })
        }
        Ask::Probe => {
            let failure = state.lock().expect("no test panics with it").probes_fail.clone();
            say(&Reply::Probed { worker: 1, failure, micros: 1 })
        }
        Ask::Metrics => say(&Reply::Metrics { text: "# EOF\n".to_owned() }),
        Ask::Upgrades(_) => say(&Reply::Noted),
        Ask::Reload | Ask::Stop => Ok(()),
    }
}

fn build_at(path: &Path, version: &str) -> Build {
    let build = sha256(&fs::read(path).expect("the candidate can be read")).to_string();
    Build { version: version.to_owned(), build, path: path.to_owned() }
}
