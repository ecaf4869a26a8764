//! Waiting for a state.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Pause between two looks. Short, because a test waits for the state and not for this.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks at a state until it is the wanted one, and returns what `look` made of it.
///
/// `look` returns `Ok` when the state is as wanted and else `Err` with the state it saw. It is asked
/// at least once, and once more after the limit, so a slow machine alone fails no test.
///
/// # Panics
/// When the limit has passed; the message has the last state seen.
#[track_caller]
pub fn eventually<T, S: Debug>(limit: Duration, mut look: impl FnMut() -> Result<T, S>) -> T {
    let begun = Instant::now();
    loop {
        let late = begun.elapsed() >= limit;
        match look() {
            Ok(found) => return found,
            Err(last) if late => panic!("not within {limit:?}; last seen: {last:?}"),
            Err(_) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a state, not instead of one")]
pub(crate) fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_comes_is_returned() {
        let mut looks = 0;
        let third = eventually(Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks) }
        });
        assert_eq!(third, 3);
    }

    #[test]
    #[should_panic(expected = "last seen: \"asleep\"")]
    fn a_state_that_does_not_come_is_named() {
        eventually(Duration::from_millis(30), || Err::<(), _>("asleep"));
    }
}
