//! A connection in HTTP/2, in hyper's hands to its end.
//!
//! It cannot change hands: compression tables and windows are in the middle of something at any time. When
//! the worker leaves, the client is told in the two steps of RFC 9113, section 6.8: first that there
//! will be an end, then, when it has heard that, which request is the last. All are answered.
//!
//! Hyper asks whether the client has heard in the same breath in which it tells. A client that hears both
//! at once says yes before it writes requests that were already on their way out, and those would come
//! after the last one. So the first step is said by us, and hyper begins a little later.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::{Executor, Timer};
use hyper::server::conn::http2;
use tokio::time::Instant;
use tracing::debug;

use super::connection::{Connection, Left, Serving};
use super::drain::Stage;
use super::handler::Handler;

/// Requests in HTTP/2 at one time, in all connections of a worker together. A connection is given its share of
/// what is free when it begins, and told how much that is; when nothing is free it is told to try again
/// ([`REFUSED`]). Each may have [`MAX_UNSENT`] waiting, so this is 256 MiB.
pub(super) const MAX_REQUESTS: usize = 8192;

/// Of what is free a connection is given so much, within these bounds. One more request is refused by the
/// protocol, and sent again.
const SHARE: usize = 64;
const LEAST: u32 = 4;
const MOST: u32 = 128;

/// Bytes of one answer that wait for the client to make room.
const MAX_UNSENT: usize = 32 * 1024;

/// Bytes of bodies of one connection that the site has not taken yet.
const MAX_UNREAD: u32 = 256 * 1024;

/// Empty SETTINGS, and GOAWAY before the first request: too much is asked of this worker
/// (`ENHANCE_YOUR_CALM`). RFC 9113, sections 3.4, 6.8 and 7.
const REFUSED: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";

/// How often a client with an open request shows that it is there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// How long a client has to write what it was about to write when it heard that there will be an end.
const WRITES_WITHIN: Duration = Duration::from_millis(50);

/// How long a client that has nothing open has to take note of the end.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);

/// Serves a connection that has said that it speaks HTTP/2.
pub(super) async fn serve(serving: &Serving, connection: Connection) -> Left {
    // The permit and what is counted of the connection are held to the end.
    let Connection { mut stream, peer, permit: _permit, activity, stays, .. } = connection;
    activity.busy(false);
    let share = share(serving.in_two.available_permits());
    let Ok(_places) = serving.in_two.try_acquire_many(share) else {
        debug!("a connection in HTTP/2 is refused, {MAX_REQUESTS} requests are possible already");
        // It is empty before, so it takes that much at once, or its client is gone.
        let _ = poll_fn(|cx| stream.poll_send(cx, REFUSED)).await;
        stream.close().await;
        return Left::Ended;
    };
    let traffic = stream.traffic();
    let handler = Handler::new(serving, &activity, None, stays, peer);
    let header_bytes = u32::try_from(serving.head_bytes).unwrap_or(u32::MAX);
    // Against floods of resets hyper has limits of its own, and they stay on.
    let hyper = http2::Builder::new(Spawner)
        .timer(Clock)
        .max_concurrent_streams(share)
        .initial_stream_window_size(MAX_UNREAD)
        .initial_connection_window_size(MAX_UNREAD)
        .max_header_list_size(header_bytes)
        .max_send_buf_size(MAX_UNSENT)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(stream, handler);
    let mut hyper = pin!(hyper);
    let mut stages = serving.draining.at_once();
    let (mut warned, mut told) = (false, false);
    let mut until = Instant::now() + serving.idle;
    loop {
        let leaves = stays || !matches!(*stages.borrow_and_update(), Stage::Serving);
        if leaves && !warned {
            warned = true;
            traffic.say_goaway();
            until = Instant::now() + WRITES_WITHIN;
        }
        tokio::select! {
            ended = hyper.as_mut() => {
                if let Err(error) = ended {
                    debug!("a connection ended early: {error}");
                }
                return Left::Ended;
            }
            // An error would mean that the worker is gone, and we with it.
            _ = stages.changed() => {}
            () = tokio::time::sleep_until(until), if warned && !told => {
                told = true;
                hyper.as_mut().graceful_shutdown();
                until = Instant::now() + LEAVES_WITHIN;
            }
            () = tokio::time::sleep_until(until), if told || !warned => {
                let idle = activity.is_idle();
                let patience = if told && idle { LEAVES_WITHIN } else { serving.idle };
                until = activity.last_touched() + patience;
                if until > Instant::now() {
                    continue;
                }
                if !idle && !activity.is_busy() {
                    // Event streams, on which something happens when it happens.
                    until = Instant::now() + serving.idle;
                    continue;
                }
                if told || !idle {
                    // It has not taken note, or does not go on with what it began.
                    return Left::Ended;
                }
                warned = true;
                traffic.say_goaway();
                until = Instant::now() + WRITES_WITHIN;
            }
        }
    }
}

/// How many requests at one time a connection is given.
fn share(free: usize) -> u32 {
    u32::try_from(free / SHARE).unwrap_or(MOST).clamp(LEAST, MOST)
}

/// Hyper answers each request in a task of its own.
#[derive(Clone, Copy, Debug)]
struct Spawner;

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, work: F) {
        drop(tokio::spawn(work));
    }
}

/// Hyper's pings go by tokio's time.
#[derive(Clone, Copy, Debug)]
struct Clock;

struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

impl hyper::rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}
