//! What a release is, and which releases may run beside which.
//!
//! [`ReleaseInfo`] is what a build says about itself; [`way`] is how to get from one build to
//! another; [`Index`] is what a channel offers, [`choose`] what to take of it and [`plan()`] how to get
//! there; [`FileList`] is what
//! a bundle holds. Pure: nothing here opens a file or reads a clock.

mod beside;
mod digest;
mod files;
mod index;
mod info;
mod plan;
mod rollout;

pub use beside::{Incompatible, Reason, SchemaTooNew, Way, may_open, may_run_beside, way};
pub use digest::{Digest, InvalidDigest};
pub use files::{FileList, InvalidFileList, ListedFile, MAX_FILES, MAX_PATH, safe_path};
pub use index::{
    Artifact, Choice, INDEX_FORMAT, Index, InvalidIndex, MAX_INDEX, MAX_RELEASES, Release, Rules,
    Wanted, choose,
};
pub use info::{
    Channel, InvalidChannel, ROOT_PURPOSE, ReleaseInfo, Schema, TARGET, TEST_PURPOSE, release_name,
};
pub use plan::{Blocked, Gait, Hop, MAX_HOPS, Missing, NoPlan, Plan, Standing, gait, plan};
pub use rollout::{BUCKETS, Delay, InvalidDelay, MAX_WAVES, Rollout, Wave};
