//! Between the master and one worker.
//!
//! The worker is told everything it needs by the first message; its command line holds nothing but
//! the descriptor of the channel. Every message of a worker carries the generation it believes to be
//! of, and the master believes it no further than that.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// From the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ToWorker {
    /// The first message: who you are and what you serve.
    Start(Start),
    /// Stop accepting, let what is in flight end, then end.
    Drain {
        /// A descriptor comes along: a socket to another worker, which takes connections over. A build
        /// that does not know this closes them itself.
        #[serde(default)]
        hand_over: bool,
    },
    /// A descriptor comes along: a socket on which another worker hands its connections over. A build
    /// that does not know this closes it, and the other worker keeps its connections.
    TakeOver,
    /// A descriptor comes along: the pidfd of a new master, which has taken the place of one that died.
    /// The worker says again what it is ([`FromWorker::Ready`] or [`FromWorker::Draining`]) and is no
    /// orphan any more.
    Adopted,
    /// Say your figures now ([`FromWorker::Figures`]).
    Figures,
    /// Do what a person does (sign in, read the home feed, post, delete) on the probe account, through
    /// your own service, and say how it went ([`FromWorker::Probed`]).
    Probe,
    /// Somebody published something. Event streams look whether it is for them.
    Nudge,
}

/// What a worker is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The generation: one build with one configuration.
    pub generation: u64,
    /// The worker's number, never used again by this master.
    pub worker: u64,
    /// SHA-256 of the build's file, in hex.
    pub build: String,
    /// Where the configuration was read from, for messages only. A worker never reads it again.
    pub config_path: PathBuf,
    /// The configuration's text.
    pub config: String,
    /// The listening sockets, already open in the worker.
    pub listeners: Vec<Listener>,
    /// The number of an inherited pidfd of the master. While the other end of the channel is kept by
    /// somebody else, only this tells that the master is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<i32>,
    /// Serve also when nothing can be saved because the disk is full: the worker takes the place of one that
    /// has served, and what can be read is better than nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub even_if_full: bool,
}

/// A listening socket that the worker inherited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The descriptor's number in the worker.
    pub fd: i32,
    /// The address as the configuration writes it: `127.0.0.1:8000` or `unix:/run/pump/http.sock`.
    pub address: String,
}

/// From a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FromWorker {
    /// A request would be answered now.
    Ready {
        /// The generation the worker is of.
        generation: u64,
    },
    /// It cannot serve, and ends. Said instead of `Ready`.
    Refused {
        /// The generation the worker is of.
        generation: u64,
        /// Why, as a sentence for the operator.
        reason: String,
        /// The machine has no room for it, which says nothing against the build.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        exhausted: bool,
    },
    /// While draining: what is still open. Said when it changes, at most ten times a second.
    Draining {
        /// The generation the worker is of.
        generation: u64,
        /// Open connections.
        connections: u64,
        /// What they are doing.
        #[serde(default)]
        classes: Classes,
        /// Bytes of requests' bodies that came in since the drain began. An upload that makes progress
        /// is what may take longer than the rest.
        #[serde(default)]
        uploaded: u64,
    },
    /// To [`ToWorker::Figures`].
    Figures {
        /// The generation the worker is of.
        generation: u64,
        /// What it has done since it was started.
        figures: Figures,
    },
    /// To [`ToWorker::Probe`].
    Probed {
        /// The generation the worker is of.
        generation: u64,
        /// Why it failed, as a sentence; none when all went well.
        #[serde(default)]
        failure: Option<String>,
        /// How long it took, in microseconds.
        #[serde(default)]
        micros: u64,
    },
    /// A request that published something was answered. Said at most every few milliseconds; the master
    /// passes it on to all other workers as [`ToWorker::Nudge`].
    Published {
        /// The generation the worker is of.
        generation: u64,
    },
}

/// Open connections by what they are doing: each has a budget of its own when the worker leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Classes {
    /// Between two requests, or before the first.
    pub idle: u64,
    /// A request is read or answered.
    pub in_flight: u64,
    /// A request's body is being read.
    pub upload: u64,
    /// An event stream is open.
    pub stream: u64,
}

impl Classes {
    /// How many there are in all.
    pub fn all(&self) -> u64 {
        [self.idle, self.in_flight, self.upload, self.stream]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// What a worker has done since it was started. Sums only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Requests that were answered.
    pub requests: u64,
    /// Answers with a status of 500 and above.
    pub server_errors: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// How long answers took until their head was ready: `latency[i]` counts those that took less than
    /// 2^i microseconds and were not counted before. 32 places; the last one has all the rest.
    pub latency: Vec<u64>,
    /// The sum of it, in microseconds.
    pub latency_sum: u64,
    /// The longest time that the event loop was late by since the last time this was asked, in
    /// microseconds. Measured only between two questions that are at most a few seconds apart.
    pub lag: u64,
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Connections accepted, or taken over from another worker.
    pub connections: u64,
    /// Connections given to another worker.
    pub handed_over: u64,
    /// Event streams given to another worker.
    pub streams_handed_over: u64,
    /// Event streams that were ended because the worker left, their clients told to come back.
    pub streams_sent_back: u64,
    /// What is open now.
    pub open: Classes,
    /// What the worker has given up. A build that does not say has given up nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
}

/// What a process has given up for good, on top of what systemd forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Confinement {
    /// The version of Landlock's interface that is in force (landlock(7)); 0 where there is none.
    pub landlock: u32,
    /// Whether system calls are filtered.
    pub seccomp: bool,
}
