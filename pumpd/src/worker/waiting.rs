//! A connection on which nothing happens: it waits on its bare socket, without a buffer.
//!
//! The first bytes of a fresh connection say whether it speaks HTTP/2 (RFC 9113, section 3.3). They are
//! kept, whoever reads them next: hyper here, or another worker.

use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use super::connection::{At, Connection, Left, Serving};
use super::drain::Stage;

/// What a client says first that knows that we speak HTTP/2: RFC 9113, section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a connection does not wait any longer.
pub(super) enum Woken {
    /// Something of an HTTP/1 request is there.
    Asks(Connection),
    /// It has said that it speaks HTTP/2.
    AsksInTwo(Connection),
    Left(Left),
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Nothing,
    /// It may become the preface of HTTP/2.
    Preface,
    One,
    Two,
}

fn begun(at: &At, carried: &[u8]) -> Begun {
    let known = carried.len().min(PREFACE.len());
    match at {
        _ if carried.is_empty() => Begun::Nothing,
        At::Fresh if carried.starts_with(PREFACE) => Begun::Two,
        At::Fresh if carried[..known] == PREFACE[..known] => Begun::Preface,
        _ => Begun::One,
    }
}

/// Waits until something comes, it has waited long enough, or it goes to another worker.
pub(super) async fn wait(serving: &Serving, mut connection: Connection) -> Woken {
    // Mostly the request is there as soon as its connection: then nothing has to be waited for.
    if matches!(connection.at, At::Fresh) && !serving.draining.has_begun() {
        let read = poll_fn(|cx| Poll::Ready(connection.stream.poll_more(cx).is_ready())).await;
        if read && begun(&connection.at, connection.stream.carried()) == Begun::One {
            return Woken::Asks(connection);
        }
    }
    let mut stages = serving.draining.stages(connection.activity.number());
    let since = match connection.at {
        At::Between { since } => since,
        At::Fresh | At::Events(_) => Instant::now(),
    };
    let mut was = Begun::Nothing;
    let mut until = since + serving.idle;
    loop {
        let stage = stages.borrow_and_update().clone();
        if let (Stage::HandingOver(to), false) = (&stage, connection.stays) {
            return Woken::Left(Left::Moves(connection, to.clone()));
        }
        let is = begun(&connection.at, connection.stream.carried());
        match is {
            Begun::One => return Woken::Asks(connection),
            Begun::Two => return Woken::AsksInTwo(connection),
            Begun::Nothing => {
                if connection.stays || matches!(stage, Stage::LameDuck) {
                    until = until.min(Instant::now() + serving.draining.linger);
                }
            }
            Begun::Preface if was != is => until = Instant::now() + serving.header,
            Begun::Preface => {}
        }
        connection.activity.busy(is != Begun::Nothing);
        was = is;
        let stream = &mut connection.stream;
        tokio::select! {
            biased;
            // An error would mean that the worker is gone, and we with it.
            _ = stages.changed() => {}
            read = poll_fn(|cx| stream.poll_more(cx)) => match read {
                Ok(1..) => {}
                // It has gone, or has begun something that will have no end. Hyper knows what to say.
                Ok(0) if is == Begun::Preface => return Woken::Asks(connection),
                Ok(0) | Err(_) => return Woken::Left(Left::Ended),
            },
            () = tokio::time::sleep_until(until) => {
                connection.stream.close().await;
                return Woken::Left(Left::Ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_a_request_as_early_as_can_be() {
        let check = |bytes: &[u8], want| assert_eq!(begun(&At::Fresh, bytes), want, "{bytes:?}");
        check(b"", Begun::Nothing);
        for cut in 1..PREFACE.len() {
            check(&PREFACE[..cut], Begun::Preface);
        }
        check(PREFACE, Begun::Two);
        check(&[PREFACE, b"\0\0\0"].concat(), Begun::Two);
        for other in [&b"G"[..], b"PO", b"PRJ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", b"\r\n"] {
            check(other, Begun::One);
        }
        let used = At::Between { since: Instant::now() };
        assert_eq!(begun(&used, PREFACE), Begun::One, "only at the very beginning");
    }
}
