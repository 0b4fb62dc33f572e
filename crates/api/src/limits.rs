//! What one request may take, and how many are worked on at a time.
//!
//! A slow client holds its connection and nothing else: it gets a place only once its body is here. Connections and
//! heads are bounded by [`runtime::serve`].

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use config::Effective;
use http::StatusCode;
use http_body_util::BodyExt;
use runtime::{Clock, Fatal, serve};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::problem::Problem;

/// Largest body of a resource, in bytes, and how far the setting goes: nothing that reads documents takes larger ones.
pub const MAX_BODY: usize = 10 << 20;
/// Largest body of a request for a token, in bytes; it is read before anybody asks who calls.
pub const MAX_TOKEN_REQUEST: usize = 64 << 10;

/// How much more than allowed is read and thrown away. A client that is still sending when the connection closes
/// sees a reset instead of the answer.
const DISCARDED: usize = 4 * MAX_BODY;

/// Bounds of the API (`apiServer.limits`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body of a resource; 413 above.
    pub body_size: usize,
    /// Requests that are worked on at a time; further ones are refused with 503.
    pub concurrent: usize,
    /// For the body of a request to arrive; 408 then.
    pub body: Duration,
    /// For the work on a request; 503 then. More than the store's own deadline, whose error says more.
    pub work: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_size: MAX_BODY, concurrent: 1024, body: Duration::from_secs(30), work: Duration::from_secs(60) }
    }
}

impl Limits {
    /// What a configuration bounds.
    ///
    /// # Errors
    /// A bound leaves nothing, or is larger than what the rest of the program bears.
    pub fn configured(effective: &Effective) -> Result<Self, Fatal> {
        Ok(Self {
            body_size: size(effective, "maxBodySize", 1..=MAX_BODY)?,
            concurrent: size(effective, "maxConcurrentRequests", 1..=Semaphore::MAX_PERMITS)?,
            body: length(effective, "bodyTimeout")?,
            work: length(effective, "requestTimeout")?,
        })
    }
}

/// What a configuration bounds before there is a request.
///
/// # Errors
/// As [`Limits::configured`].
pub(crate) fn of_server(effective: &Effective) -> Result<serve::Limits, Fatal> {
    Ok(serve::Limits {
        connections: size(effective, "maxConnections", 1..=Semaphore::MAX_PERMITS)?,
        // Hyper reads no less at a time.
        head_size: size(effective, "maxHeaderSize", 8192..=(1 << 20))?,
        head: length(effective, "idleTimeout")?,
        ..serve::Limits::default()
    })
}

fn size(effective: &Effective, word: &str, range: RangeInclusive<usize>) -> Result<usize, Fatal> {
    let key = format!("apiServer.limits.{word}");
    let number = effective.number(&key);
    usize::try_from(number).ok().filter(|size| range.contains(size)).ok_or_else(|| {
        Fatal::new(format!("{key} is {number}")).remedy(format!(
            "set it to a number from {} to {}",
            range.start(),
            range.end()
        ))
    })
}

fn length(effective: &Effective, word: &str) -> Result<Duration, Fatal> {
    let key = format!("apiServer.limits.{word}");
    let length = effective.duration(&key);
    length.to_std().filter(|length| !length.is_zero()).ok_or_else(|| {
        Fatal::new(format!("{key} is {length}")).remedy("set it to a length of time above zero, such as 30s")
    })
}

/// Places for requests.
#[derive(Debug)]
pub(crate) struct Places {
    free: Semaphore,
    of: usize,
}

impl Places {
    pub fn new(of: usize) -> Self {
        Self { free: Semaphore::new(of), of }
    }

    /// A place until it is dropped.
    ///
    /// # Errors
    /// All are taken: 503.
    pub fn take(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.free.try_acquire().map_err(|_| {
            let detail = format!("{} requests are being worked on, no more are taken: try again", self.of);
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
        })
    }
}

/// 503 for work that was given up.
pub(crate) fn too_slow(limit: Duration) -> Problem {
    let detail = format!("no answer within {} s; a write may still be made: look before you repeat it", secs(limit));
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable", detail)
}

/// A whole body of at most `max` bytes.
///
/// # Errors
/// 413 when it is larger, 408 when it takes longer than `limit`, 400 when it ends early.
pub(crate) async fn read(body: Body, max: usize, clock: &Clock, limit: Duration) -> Result<Bytes, Problem> {
    clock.timeout(limit, read_all(body, max)).await.unwrap_or_else(|| {
        let detail = format!("the body did not arrive within {} s", secs(limit));
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "Request body too slow", detail))
    })
}

async fn read_all(mut body: Body, max: usize) -> Result<Bytes, Problem> {
    let mut kept = BytesMut::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::bad_request(format!("bad request: the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size <= max {
            kept.extend_from_slice(&data);
        } else if size > max + DISCARDED {
            break;
        }
    }
    if size > max {
        let detail = format!("the body is larger than {max} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large", detail));
    }
    Ok(kept.freeze())
}

fn secs(length: Duration) -> f32 {
    length.as_secs_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(1);
        let taken = places.take().unwrap();
        let refused = places.take().unwrap_err();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.detail.starts_with("1 requests are being worked on"), "{}", refused.detail);
        drop(taken);
        assert!(places.take().is_ok());
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
        let read = |size: usize| read(Body::from(vec![b'x'; size]), 100, &CLOCK, Duration::from_secs(5));
        assert_eq!(read(100).await.unwrap().len(), 100);
        let refused = read(101).await.unwrap_err();
        assert_eq!(
            (refused.status, &*refused.detail),
            (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 100 bytes")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let stuck = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let refused = read(stuck, 100, &CLOCK, Duration::from_secs(30)).await.unwrap_err();
        assert_eq!(
            (refused.status, &*refused.detail),
            (StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 30 s")
        );
    }

    static CLOCK: std::sync::LazyLock<Clock> = std::sync::LazyLock::new(Clock::system);
}
