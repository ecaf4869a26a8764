//! What went wrong with a source, as what it means for the operator.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pump_control::ExitStatus;
use tough::error::Error as Tough;
use tough::{TransportError, TransportErrorKind};

use crate::report::Failure;
use crate::source::Address;

/// Expired for so long, it is as likely that the clock is ahead.
const CLOCK_IN_DOUBT: SignedDuration = SignedDuration::from_hours(24 * 365);

pub(super) fn too_slow(address: &Address, limit: Duration) -> Failure {
    let error = format!("`{address}` did not send all within {} s", limit.as_secs());
    Failure::new(ExitStatus::Temporary, error).hint("try again later, or from a nearer mirror")
}

/// What a fault of the signed files means for the operator.
pub(super) fn refusal(error: &Tough, address: &Address) -> Failure {
    let fail = |exit, text: String| Failure::new(exit, text);
    let untouched = "nothing was changed";
    match error {
        older if is_older(older) => fail(
            ExitStatus::Older,
            format!("`{address}`: {older}; {untouched}"),
        )
        .hint("try another mirror, or ask the publisher"),
        Tough::VerifyMetadata { role, .. } => fail(
            ExitStatus::Signature,
            format!(
                "the {role} metadata of `{address}` is not signed by keys that are trusted here; \
                 {untouched}"
            ),
        )
        .hint("check that the source and the trust root are of the same publisher"),
        Tough::DatastoreInit { .. }
        | Tough::DatastoreCreate { .. }
        | Tough::DatastoreOpen { .. }
        | Tough::DatastoreRemove { .. } => fail(
            ExitStatus::Preflight,
            format!("could not keep the metadata of `{address}`: {}; {untouched}", chain(error)),
        )
        .hint("`df` and `ls -ld` tell whether there is room and who may write"),
        Tough::MaxUpdatesExceeded { max_root_updates, .. } => fail(
            ExitStatus::Signature,
            format!("`{address}` has more than {max_root_updates} roots, one after another; {untouched}"),
        )
        .hint("get the publisher's own `root.json` of today, check it, and name it with `--trust-root FILE`"),
        other => arrived(arrival(other), address),
    }
}

/// The same for a file that was fetched without tough.
pub(super) fn carried(error: &TransportError, address: &Address) -> Failure {
    arrived(arrival(error), address)
}

/// A file was not what the metadata says.
pub(super) fn not_what_was_signed(address: &Address, why: &str) -> Failure {
    arrived(Arrival::Wrong(why.to_owned()), address)
}

/// The source was not reached.
pub(super) fn unreachable(address: &Address, why: &str) -> Failure {
    arrived(Arrival::Failed(why.to_owned()), address)
}

fn arrived(arrival: Arrival, address: &Address) -> Failure {
    let fail = |exit, text: String| Failure::new(exit, text);
    let untouched = "nothing was changed";
    match arrival {
        Arrival::Missing(url) => {
            fail(ExitStatus::Temporary, format!("`{address}` does not have `{url}`; {untouched}"))
                .hint("check the source in `upgrade.toml`, or try again later")
        }
        Arrival::Failed(why) => {
            fail(ExitStatus::Temporary, format!("could not fetch from `{address}`: {why}"))
                .hint("check the network and try again")
        }
        Arrival::Wrong(why) => fail(
            ExitStatus::Signature,
            format!("what `{address}` sent is not what was signed: {why}; {untouched}"),
        )
        .hint("try again; if it stays so, try another mirror or tell the publisher"),
    }
}

/// Whether a version was lower than one that is known.
pub(super) fn is_older(error: &Tough) -> bool {
    matches!(
        error,
        Tough::OlderMetadata { .. }
            | Tough::OlderSnapshotInTimestamp { .. }
            | Tough::SnapshotRoleMissing { .. }
            | Tough::SnapshotRoleRollback { .. }
    )
}

/// Expired, or the clock is wrong: what is known about both.
pub(super) fn expired(
    error: &Tough,
    address: &Address,
    until: Option<Timestamp>,
    seen: Option<Timestamp>,
) -> Failure {
    let role = match error {
        Tough::ExpiredMetadata { role, .. } => format!("the {role} metadata"),
        _ => "the metadata".to_owned(),
    };
    let since = until.map(|until| format!(" since {until:.0}")).unwrap_or_default();
    let now = Timestamp::now();
    let mut text = format!(
        "{role} of `{address}` has expired{since}, by the clock of this machine, which says {now:.0}; \
         what it offers may be an old state that somebody plays back; nothing was changed"
    );
    if let Some(seen) = seen {
        text.push_str(&format!("; it was last believed on {seen:.0}"));
    }
    let far = until.is_some_and(|until| now.duration_since(until) > CLOCK_IN_DOUBT);
    let hint = match far {
        true => {
            "so long ago that the clock may be ahead: check it with `date` first, then try another \
                 mirror or ask the publisher"
        }
        false => {
            "check this machine's clock with `date`, then try another mirror or ask the publisher"
        }
    };
    Failure::new(ExitStatus::Expired, text).hint(hint)
}

/// How a file came.
enum Arrival {
    Missing(String),
    Failed(String),
    Wrong(String),
}

/// tough reports a wrong hash or size as a fault of the transport whose cause it is.
fn arrival(error: &(dyn std::error::Error + 'static)) -> Arrival {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut carried = None;
    while let Some(error) = cause {
        if let Some(Tough::HashMismatch { context, .. }) = error.downcast_ref() {
            let file = context.rsplit('/').next().unwrap_or(context);
            return Arrival::Wrong(format!("`{file}` has another hash"));
        }
        if let Some(Tough::MaxSizeExceeded { max_size, .. }) = error.downcast_ref() {
            return Arrival::Wrong(format!("a file has more than its {max_size} bytes"));
        }
        if let Some(found) = error.downcast_ref::<TransportError>() {
            carried = Some(found);
        }
        cause = error.source();
    }
    match carried {
        Some(error) if error.kind() == TransportErrorKind::FileNotFound => {
            Arrival::Missing(without_password(error.url()))
        }
        Some(error) => Arrival::Failed(
            std::error::Error::source(error).map_or_else(|| error.to_string(), chain),
        ),
        None => Arrival::Wrong(error.to_string()),
    }
}

/// It belongs into no log.
fn without_password(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) => {
            // An address that can have none has none.
            let _ = url.set_password(None);
            url.into()
        }
        Err(_) => text.to_owned(),
    }
}

pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
