//! No faults: what a release is built with. `armed` says what each of these would be.

use std::future::Future;
use std::io;

use pump_release::ReleaseInfo;

pub(crate) fn arm() {}

pub(crate) fn info(info: ReleaseInfo) -> ReleaseInfo {
    info
}

pub(crate) fn migrating() -> io::Result<()> {
    Ok(())
}

pub(crate) fn worker_starts() {}

pub(crate) fn worker_is_ready(_number: u64) {}

pub(crate) fn master_is_ready() {}

pub(crate) async fn worker_leaves() {}

pub(crate) fn master_took_over() -> io::Result<()> {
    Ok(())
}

pub(crate) fn rehearsing() -> io::Result<()> {
    Ok(())
}

pub(crate) fn answering<F: Future>(answer: F) -> F {
    answer
}
