//! What a worker reads of others' bytes, for `crate::fuzz`.

use pump_control::Line;

pub(crate) fn to_worker(line: &Line) {
    let _said = super::channel::understand(line);
}

/// What is understood is said again, and understood the same way.
pub(crate) fn hand_over(bytes: &[u8]) {
    super::hand_over::decode(bytes);
}
