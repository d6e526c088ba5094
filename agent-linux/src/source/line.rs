//! Counts the bytes of all connections, headers and TLS included: what a metered link is billed for, less what TCP and IP add. Stops
//! at a limit, keeps to a rate, and closes when its hours end.
//!
//! # Invariants
//! - Nothing is sent and nothing more is read once the limit is reached.
//! - What the other side may have sent and nobody read counts too, once somebody says so ([`Line::lose`]).
//!
//! The transport of `ureq` is not yet under its promise of stable versions, so `Cargo.toml` names the version up to its second
//! number; only this file would change.

use crate::clock::Utc;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, NextTimeout, TcpConnector, Transport,
};

/// All connections of a command.
#[derive(Debug)]
pub struct Line {
    received: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    /// What making connections took, before the first request on each: tunnels of proxies, and handshakes of TLS.
    handshakes: AtomicU64,
    /// Of these, sent.
    handshakes_sent: AtomicU64,
    /// What the last of them took.
    last_handshake: AtomicU64,
    /// Connections that were begun.
    connections: AtomicU64,
    /// What had gone over it, and been sent, when the last connection began.
    begun: Mutex<(u64, u64)>,
    /// Where it stops.
    most: AtomicU64,
    pace: Option<Mutex<Pace>>,
    closing: Option<Closing>,
    start: Instant,
}

/// When a line closes.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Then.
    pub at: Instant,
    /// When it opens again; seconds since 1970-01-01 UTC.
    pub opens: u64,
}

/// A line has closed: the hours in which bundles are fetched have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When they begin again; seconds since 1970-01-01 UTC.
    pub opens: u64,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opens = Utc(self.opens);
        write!(
            f,
            "bundles are not fetched at this hour, but from {opens} on"
        )
    }
}

impl std::error::Error for Closed {}

/// A rate. Time without a byte is not saved up, so no burst comes after it; reading late makes the window of TCP close, and with it
/// the sender wait.
#[derive(Debug)]
struct Pace {
    bytes_per_second: NonZeroU64,
    /// When the next byte may go, from the line's start on.
    next: Duration,
}

impl Line {
    /// A line without a limit.
    pub fn unlimited() -> Arc<Self> {
        Self::new(None, None)
    }

    /// A line with a rate, and with an end.
    pub fn new(bytes_per_second: Option<NonZeroU64>, closing: Option<Closing>) -> Arc<Self> {
        let pace = bytes_per_second.map(|bytes_per_second| {
            Mutex::new(Pace {
                bytes_per_second,
                next: Duration::ZERO,
            })
        });
        Arc::new(Self {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            handshakes: AtomicU64::new(0),
            handshakes_sent: AtomicU64::new(0),
            last_handshake: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            begun: Mutex::new((0, 0)),
            most: AtomicU64::new(u64::MAX),
            pace,
            closing,
            start: Instant::now(),
        })
    }

    /// Received.
    pub fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// All that counts: received, sent and lost.
    pub fn total_bytes(&self) -> u64 {
        self.received_bytes() + self.sent_bytes() + self.lost.load(Ordering::Relaxed)
    }

    /// Received and sent by making connections.
    pub fn handshake_bytes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// The same by the last connection; one that takes nothing does not count.
    pub fn last_handshake_bytes(&self) -> u64 {
        self.last_handshake.load(Ordering::Relaxed)
    }

    /// Connections that were begun.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Sent by requests.
    pub fn request_bytes(&self) -> u64 {
        self.sent_bytes() - self.handshakes_sent.load(Ordering::Relaxed)
    }

    /// A connection begins.
    fn begin(&self) {
        *self.begun() = (self.total_bytes(), self.sent_bytes());
    }

    /// It has been made. In a tunnel there is another one to make.
    fn end(&self) {
        let (total, sent) = *self.begun();
        let handshake = self.total_bytes() - total;
        if handshake > 0 {
            self.last_handshake.store(handshake, Ordering::Relaxed);
        }
        self.handshakes.fetch_add(handshake, Ordering::Relaxed);
        let handshake_sent = self.sent_bytes() - sent;
        self.handshakes_sent
            .fetch_add(handshake_sent, Ordering::Relaxed);
        self.begin();
    }

    fn begun(&self) -> MutexGuard<'_, (u64, u64)> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the total at which it stops.
    pub fn stop_at(&self, total_bytes: u64) {
        self.most.store(total_bytes, Ordering::Relaxed);
    }

    /// Counts what the other side may have sent and nobody will read.
    pub fn lose(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether it keeps to a rate.
    pub const fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// Whether it is still open.
    ///
    /// # Errors
    /// When it has closed.
    pub fn check_open(&self) -> Result<(), Closed> {
        self.check_open_after(Duration::ZERO)
    }

    /// Whether it will be open after a pause: otherwise there is nothing to wait for.
    ///
    /// # Errors
    /// When it will have closed by then.
    pub fn check_open_after(&self, pause: Duration) -> Result<(), Closed> {
        match self.closing {
            Some(closing) if Instant::now() + pause >= closing.at => Err(Closed {
                opens: closing.opens,
            }),
            _ => Ok(()),
        }
    }

    fn check(&self, more_bytes: u64) -> Result<(), Error> {
        if self.total_bytes().saturating_add(more_bytes) > self.most.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::QuotaExceeded).into());
        }
        Ok(())
    }

    /// Counts bytes that went over it, and waits as long as the rate wants.
    fn count(&self, counter: &AtomicU64, bytes: u64) {
        counter.fetch_add(bytes, Ordering::Relaxed);
        if let Some(pace) = &self.pace {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = pace.pause(self.start.elapsed(), bytes);
            drop(pace);
            std::thread::sleep(pause);
        }
    }
}

impl Pace {
    /// How long to wait after so many bytes at a moment.
    fn pause(&mut self, now: Duration, bytes: u64) -> Duration {
        let nanoseconds = u128::from(bytes) * 1_000_000_000;
        let takes = nanoseconds / u128::from(self.bytes_per_second.get());
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        self.next = self.next.max(now).saturating_add(takes);
        self.next.saturating_sub(now)
    }
}

/// Opens connections that are counted. One that is there already is, as the tunnel of a proxy.
#[derive(Debug)]
pub struct Counting {
    line: Arc<Line>,
    connector: TcpConnector,
}

impl Counting {
    /// Counts on a line.
    pub fn new(line: Arc<Line>) -> Self {
        Self {
            line,
            connector: TcpConnector::default(),
        }
    }
}

impl<In: Transport> Connector<In> for Counting {
    type Out = Either<In, Counted<<TcpConnector as Connector>::Out>>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(connection) = chained {
            return Ok(Some(Either::A(connection)));
        }
        self.line.begin();
        self.line.connections.fetch_add(1, Ordering::Relaxed);
        let opened = self.connector.connect(details, None::<()>)?;
        Ok(opened.map(|connection| {
            Either::B(Counted {
                connection,
                line: self.line.clone(),
            })
        }))
    }
}

/// Stands at the end of the chain: notes what making a connection took.
#[derive(Debug)]
pub struct Connected(pub Arc<Line>);

impl<In: Transport> Connector<In> for Connected {
    type Out = In;

    fn connect(
        &self,
        _details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<In>, Error> {
        if chained.is_some() {
            self.0.end();
        }
        Ok(chained)
    }
}

/// A connection whose bytes are counted.
#[derive(Debug)]
pub struct Counted<T> {
    connection: T,
    line: Arc<Line>,
}

impl<T: Transport> Transport for Counted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.line.check(amount as u64)?;
        self.connection.transmit_output(amount, timeout)?;
        self.line.count(&self.line.sent, amount as u64);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.line.check(1)?;
        let before = self.connection.buffers().input().len();
        let more = self.connection.await_input(timeout);
        let after = self.connection.buffers().input().len();
        let received = after.saturating_sub(before) as u64;
        self.line.count(&self.line.received, received);
        more
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_over_a_line_that_has_reached_its_limit() {
        let line = Line::unlimited();
        line.stop_at(100);
        line.count(&line.sent, 40);
        line.lose(30);
        assert!(line.check(30).is_ok());
        assert!(line.check(31).is_err());
        assert_eq!(line.total_bytes(), 70);
    }

    #[test]
    fn a_rate_is_kept_and_silence_is_not_saved_up() {
        let mut pace = Pace {
            bytes_per_second: NonZeroU64::new(1_000).unwrap(),
            next: Duration::ZERO,
        };
        let at = Duration::from_millis;
        assert_eq!(pace.pause(at(0), 500), at(500));
        assert_eq!(pace.pause(at(500), 2_000), at(2_000));
        // It came back too early, so it waits for the rest as well.
        assert_eq!(pace.pause(at(2_000), 100), at(600));
        assert_eq!(pace.pause(at(60_000), 100), at(100));
        assert_eq!(pace.pause(at(60_050), 0), at(50));
    }

    #[test]
    fn a_line_closes_once_and_for_all() {
        let (at, opens) = (Instant::now(), 7);
        let line = Line::new(None, Some(Closing { at, opens }));
        assert_eq!(line.check_open(), Err(Closed { opens }));
        let at = at + Duration::from_secs(3_600);
        let line = Line::new(None, Some(Closing { at, opens }));
        assert_eq!(line.check_open_after(Duration::from_secs(60)), Ok(()));
        let whole = line.check_open_after(Duration::from_secs(3_600));
        assert_eq!(whole, Err(Closed { opens }));
        assert_eq!(Line::unlimited().check_open(), Ok(()));
    }
}
