//! When a release has served long enough. Pure.

use jiff::{SignedDuration, Timestamp};
use pump_release::Channel;

/// How long a release has to serve before its schema is finalized by itself.
const SERVES_FOR: SignedDuration = SignedDuration::from_hours(72);

/// How an installation stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The channel it follows.
    pub(super) channel: Channel,
    /// Whether the operator wants to keep the way back.
    pub(super) preserved: bool,
    /// Since when the release is current.
    pub(super) since: Option<Timestamp>,
    /// Whether it serves, and no roll has failed since.
    pub(super) well: bool,
}

/// Whether it is time; if not, why.
pub(super) fn due(standing: &Standing, now: Timestamp) -> Result<(), String> {
    if standing.preserved {
        return Err("`pump finalize --preserve` keeps the way back".to_owned());
    }
    if standing.channel != Channel::Stable {
        return Err(
            "on the channel `beta` the way back stays open until `pump finalize`".to_owned()
        );
    }
    let Some(since) = standing.since else {
        return Err("the history does not say since when this release is current".to_owned());
    };
    let served = now.duration_since(since);
    if served < SERVES_FOR {
        let due = since.checked_add(SERVES_FOR).unwrap_or(Timestamp::MAX);
        return Err(format!(
            "this release is current since {since:.0}, and it is time on {due:.0}"
        ));
    }
    if !standing.well {
        return Err("the server does not run, or a roll has failed: `pump status`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_release_that_held_for_three_days_on_stable_is_finalized_by_itself() {
        let since: Timestamp = "2026-11-22T04:00:00Z".parse().expect("a time");
        let late: Timestamp = "2026-11-25T04:00:00Z".parse().expect("a time");
        let good =
            Standing { channel: Channel::Stable, preserved: false, since: Some(since), well: true };
        assert_eq!(due(&good, late), Ok(()));
        for (standing, now, why) in [
            (Standing { preserved: true, ..good }, late, "--preserve"),
            (Standing { channel: Channel::Beta, ..good }, late, "beta"),
            (Standing { since: None, ..good }, late, "history"),
            (Standing { well: false, ..good }, late, "pump status"),
            (good, since, "2026-11-25T04:00:00Z"),
            // A clock that was set back.
            (good, "1970-01-01T00:00:00Z".parse().expect("a time"), "2026-11-25T04:00:00Z"),
        ] {
            let said = due(&standing, now).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }
}
