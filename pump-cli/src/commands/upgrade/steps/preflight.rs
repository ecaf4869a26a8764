//! What has to be so before anything is changed: room, and who may meet whom.

use std::path::Path;

use pump_control::ExitStatus;

use crate::commands::upgrade::hop::{Hop, Offered};
use crate::lock;
use crate::report::Failure;
use crate::switch::{self, Step};

/// What has to stay free besides the release itself, in bytes.
const ROOM_TO_SPARE: u64 = 64 * 1024 * 1024;

/// Checks what can be checked without changing anything, and waits for workers that still finish what they
/// began and may not meet the candidate.
///
/// # Errors
/// Exit 50, and exit 75 when such workers stay.
pub(in crate::commands::upgrade) fn preflight(
    hop: &Hop<'_>,
    offered: &Offered<'_>,
) -> Result<(), Failure> {
    if hop.present().is_none() {
        room(hop, offered)?;
    }
    if hop.step == Step::Roll {
        switch::settle(hop.context, hop.releases, &hop.candidate)?;
    }
    Ok(())
}

/// Refuses when there is no room for the bundle and what is in it.
pub(super) fn room(hop: &Hop<'_>, offered: &Offered<'_>) -> Result<(), Failure> {
    let (layout, artifact) = (&hop.context.layout, offered.artifact);
    need_space(&layout.releases(), artifact.installed_size.saturating_add(ROOM_TO_SPARE))?;
    need_space(&layout.upgrade_data(), artifact.size.saturating_add(ROOM_TO_SPARE))
}

fn need_space(folder: &Path, needed: u64) -> Result<(), Failure> {
    let free = lock::free_space(folder)?;
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes / (1024 * 1024);
    Err(Failure::new(
        ExitStatus::Preflight,
        format!(
            "the release needs {} MiB in `{}` and {} MiB are free; nothing was changed",
            mib(needed),
            folder.display(),
            mib(free)
        ),
    )
    .hint("make room and run it again"))
}
