//! What master, workers and `pump` say to each other.
//!
//! Two languages of JSON lines: [`control`] between `pump` and the master over the control socket,
//! [`channel`] between the master and each worker over a socket pair. Both sides may be of different
//! builds, so a field that is not known is dropped, one that is missing has a default, and a message
//! that is not known is told or logged and then dropped. Nothing here opens anything.

pub mod answers;
pub mod channel;
pub mod constants;
pub mod control;
mod exit;
mod layout;
mod lines;

pub use answers::{Checked, Created};
pub use exit::ExitStatus;
pub use layout::{Layout, USER};
pub use lines::{Line, Lines, encode};
