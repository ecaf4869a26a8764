//! For tests and for the demo: real servers, and a load client that sees each socket's fate.
//!
//! [`TestCluster`] starts a real `pumpd` by its path in a private place and ends it again. [`load`]
//! asks it for pages and posts notes through sockets it opens itself, and [`ledger`] proves
//! afterwards that nothing was lost and nothing stands twice. [`fake`] makes bad candidates. Nothing
//! here links the daemon: what is tested is the program that people run.
//!
//! Everything that is public here blocks, so it is called from a plain `#[test]`; the load runs in a
//! thread of its own. See the crate's tests for each of them in use.

mod api;
pub mod census;
mod cluster;
mod control;
mod eventually;
pub mod fake;
pub mod fleet;
pub mod ledger;
pub mod load;
pub mod machine;
pub mod openmetrics;
pub mod process;
mod random;
pub mod releases;
pub mod wire;

pub use api::{Account, Api};
pub use cluster::{Setup, TestCluster, create_account, pump, pumpd};
pub use control::{Control, Rolled};
pub use eventually::eventually;
