//! The steps of a hop, one file each, in the order in which they are made.
//!
//! A step knows nothing of the journal: what it has done is noted by `hop` when it returns. It may be killed
//! at any moment and made again, so each first looks at what is there.

mod back;
mod backup;
mod bake;
mod confirm;
mod expand;
mod fetch;
mod gates;
mod preflight;
mod roll;
mod unpack;
mod verify;

pub(super) use back::back;
pub(super) use backup::backup;
pub(super) use bake::bake;
pub(super) use confirm::confirm;
pub(super) use expand::expand;
pub(super) use fetch::fetch;
pub(super) use gates::{allowed, open, open_to_packages, pass, pass_package};
pub(super) use preflight::preflight;
pub(super) use roll::roll;
pub(super) use unpack::unpack;
pub(super) use verify::verify;
