//! What is to be done about a passage that was cut: a pure function of how far it had come and of what is
//! found now. The state says what was begun, the world what has become of it; where they disagree, the
//! world is right.

use super::{State, Transition, Way};
use crate::journal::Action;

/// Which release serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// None: the server does not run.
    Nothing,
    /// The one that the hop has left.
    From,
    /// The one at the end of the hop.
    To,
    /// Another one.
    Other,
    /// A roll or a start is under way, so it cannot be said yet.
    Moving,
}

/// Where the link `current` leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// To the release that the hop has left.
    From,
    /// To the one at the end of the hop.
    To,
    /// To another one.
    Other,
}

/// What is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct World {
    /// Which release serves.
    pub(crate) serves: Serves,
    /// Which one is current.
    pub(crate) current: Links,
    /// Whether the release at the end of the hop lies there complete.
    pub(crate) whole: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Wait until what moves has come to rest, and look again.
    Wait,
    /// Nothing that anybody could notice was done: the same command again, from its beginning.
    Again,
    /// The release lies there: on with what comes after unpacking.
    Forward,
    /// It serves: on with watching it.
    Bake,
    /// It was proven: on with making it current.
    Confirm,
    /// Back to the release before.
    Back,
    /// The release before serves and is current, as if nothing had been; only the end is to be noted.
    EndBack,
    /// Somebody has done something else meanwhile; only the end is to be noted.
    EndOther,
}

/// What is to be done about a passage that was cut.
pub(crate) fn next(last: &Transition, world: World) -> Next {
    use State::*;
    if world.serves == Serves::Moving {
        return Next::Wait;
    }
    // Somebody stopped in the middle, installed another release, rolled onto another one.
    if world.serves == Serves::Other || world.current == Links::Other {
        return Next::EndOther;
    }
    match last.state {
        Checked | Planned | Fetched | Verified | Preflighted | BackedUp => before(last, world),
        Unpacked | Expanded | Rolled | Baking => after(last, world),
        // Between two hops, or the end of it was not noted elsewhere.
        Confirmed => Next::Again,
        RollingBack => match (world.serves, world.current) {
            (Serves::From | Serves::Nothing, Links::From) => Next::EndBack,
            _ => Next::Back,
        },
        RolledBack | Failed | Later => Next::EndOther,
    }
}

/// Before anything was touched.
fn before(last: &Transition, world: World) -> Next {
    match last.action {
        // It needs nothing from anywhere, so there is nothing to begin anew.
        Action::Rollback if world.whole => after(last, world),
        _ => Next::Again,
    }
}

/// After the release was unpacked, and the server may have been rolled onto it.
fn after(last: &Transition, world: World) -> Next {
    match (last.way, world.serves, world.current) {
        (_, _, _) if !world.whole && world.serves != Serves::To => Next::Again,
        // It is gone, and what serves would not start again.
        (_, Serves::To, _) if !world.whole => Next::Back,
        (Way::Links, Serves::To | Serves::Nothing, _) => Next::Confirm,
        (_, Serves::To, _) => Next::Bake,
        (_, Serves::From, _) => Next::Forward,
        // The restart has begun: the old release was stopped, and the new one is to be started.
        (Way::Restart, Serves::Nothing, Links::To) => Next::Forward,
        // Whatever starts next is the release before.
        (_, Serves::Nothing, Links::From) => Next::EndBack,
        (_, Serves::Nothing, _) => Next::Confirm,
        (_, Serves::Other | Serves::Moving, _) => Next::EndOther,
    }
}
