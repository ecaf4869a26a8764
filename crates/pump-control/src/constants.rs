//! Every number that master, workers and `pump` must agree on, in one file.

use std::time::Duration;

/// What this build speaks: the channel between processes, the handover state, and any logic across
/// workers. Raise it when the other side could no longer follow; `tests/magic.rs` fails when the
/// messages change and this does not.
pub const MAGIC: u32 = 2;

/// Other magics this build can also run beside. A build that lists any is a bridge release. Workers of
/// magic 1 know nothing of figures, nudges and adoption and do without; a master of magic 1 cannot take
/// the place of another one, so none is asked to.
pub const ACCEPTS: &[u32] = &[1];

/// The first magic whose master can take the place of a running one.
pub const MASTER_MOVES_SINCE: u32 = 2;

/// The first magic whose workers say their figures when they are asked.
pub const FIGURES_SINCE: u32 = 2;

/// Raised when the code needs something that the sandbox of the last number may lack.
pub const UNIT: u32 = 1;

/// Version of the control socket's language. A request of another version is answered with an error
/// that names this one.
pub const CONTROL_VERSION: u32 = 1;

/// Longest line on the control socket, in bytes, its newline included.
pub const MAX_CONTROL_LINE: usize = 64 * 1024;

/// Longest line on a worker's channel, in bytes. The first one carries the configuration.
pub const MAX_CHANNEL_LINE: usize = 256 * 1024;

/// Largest configuration file, in bytes: it has to fit, JSON-escaped, into one channel line.
pub const MAX_CONFIG: usize = 64 * 1024;

/// Connections that the control socket serves at one time. One more takes the place of whoever has asked
/// nothing for the longest time; if all wait for an answer, it is told so and closed.
pub const MAX_CONTROL_CLIENTS: usize = 16;

/// Bytes waiting for a control client that does not read, and so the longest reply: the status of a roll
/// with 2 × 256 workers. Beyond it the client is closed.
pub const MAX_CONTROL_BACKLOG: usize = 512 * 1024;

/// Lines of a child's last output that are kept to explain its death.
pub const KEPT_OUTPUT_LINES: usize = 20;

/// Longest output line that is kept or passed on, in bytes.
pub const MAX_OUTPUT_LINE: usize = 4 * 1024;

/// How long `pumpd release-info` of a candidate may take.
pub const INSPECT_WITHIN: Duration = Duration::from_secs(20);

/// How long `pumpd migrate` of a candidate may take within a roll.
pub const PREPARE_WITHIN: Duration = Duration::from_secs(600);

/// How long a candidate's master may take to say, as a child on a copy of the state, that it would take
/// over.
pub const REHEARSE_WITHIN: Duration = Duration::from_secs(10);

/// How long the replacement of the master may take, from the request until the new one has confirmed.
pub const REPLACE_WITHIN: Duration = Duration::from_secs(30);

/// How long the first new worker is compared with the old ones by default (`roll.canary_seconds`).
pub const CANARY: Duration = Duration::from_secs(10);

/// Longest time that it may be compared, whoever asks.
pub const MAX_CANARY: Duration = Duration::from_secs(600);

/// How long after a canary's time the verdict may take: the last figures and the last probe.
pub const JUDGE_WITHIN: Duration = Duration::from_secs(20);

/// Most workers that are replaced at a time, whoever asks.
pub const MAX_PARALLEL: usize = 256;

/// How long after SIGKILL a process may stay before it is reported as stuck and left behind.
pub const REAP_WITHIN: Duration = Duration::from_secs(10);

/// How long a worker must live for its slot's back-off to start afresh.
pub const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// First pause before a worker that died early is replaced; doubled each time.
pub const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// Longest pause before a worker that keeps dying is replaced.
pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// How long an orphaned worker serves on before it ends by itself.
pub const ORPHAN_LIVES: Duration = Duration::from_secs(60);

/// Longest time without progress that an upload, or anything else, may hold up a worker that leaves is
/// `roll.drain_seconds`; this is how long an upload that does make progress may take by default.
pub const HARD_STOP: Duration = Duration::from_secs(600);

/// Places of the histogram of latencies.
pub const LATENCY_PLACES: usize = 32;

/// What the names of descriptors begin with that a master has kept for the next one. The socket unit's
/// sockets have the unit's name.
pub const KEPT_PREFIX: &str = "pump-";

/// Longest state of a master that another one takes over, in bytes. Configurations of 64 KiB each are
/// the largest part of it.
pub const MAX_STATE: u64 = 16 << 20;

/// How long a new master may take, from its exec until it has confirmed. Workers serve all the while.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// Descriptors that `pumpd hold` keeps at most: four for each worker there may be, old and new.
pub const MAX_HELD: usize = 4096;

/// Longest message that `pumpd hold` reads, in bytes.
pub const MAX_NOTIFICATION: usize = 4096;
