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
    },
    /// While draining: what is still open. Said when it changes, at most ten times a second.
    Draining {
        /// The generation the worker is of.
        generation: u64,
        /// Open connections.
        connections: u64,
    },
}
