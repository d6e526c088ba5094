//! Counts the bytes of all connections, headers and TLS included: what a metered link is billed for, less what TCP and IP add. Stops
//! at a limit, and keeps to a rate.
//!
//! # Invariants
//! - Nothing is sent and nothing more is read once the limit is reached.
//! - What the other side may have sent and nobody read counts too, once somebody says so ([`Line::lose`]).
//!
//! The transport of `ureq` is not yet under its promise of stable versions, so `Cargo.toml` names the version up to its second
//! number; only this file would change.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// All connections of a command.
#[derive(Debug)]
pub struct Line {
    received: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    /// Where it stops.
    most: AtomicU64,
    pace: Option<Pace>,
}

/// A rate, and the moment at which it lets the next byte through.
#[derive(Debug)]
struct Pace {
    bytes_per_second: NonZeroU64,
    next: Mutex<Instant>,
}

impl Line {
    /// A line without a limit.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Arc<Self> {
        let pace = bytes_per_second.map(|bytes_per_second| Pace {
            bytes_per_second,
            next: Mutex::new(Instant::now()),
        });
        Arc::new(Self {
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            most: AtomicU64::new(u64::MAX),
            pace,
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

    /// Sets the total at which it stops.
    pub fn stop_at(&self, total_bytes: u64) {
        self.most.store(total_bytes, Ordering::Relaxed);
    }

    /// Counts what the other side may have sent and nobody will read.
    pub fn lose(&self, bytes: u64) {
        self.lost.fetch_add(bytes, Ordering::Relaxed);
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
            pace.wait(bytes);
        }
    }
}

impl Pace {
    fn wait(&self, bytes: u64) {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = bytes as f64 / self.bytes_per_second.get() as f64;
        *next = (*next).max(now) + Duration::from_secs_f64(takes);
        let until = *next;
        drop(next);
        std::thread::sleep(until.saturating_duration_since(now));
    }
}

/// Makes every connection one that is counted.
#[derive(Debug)]
pub struct Counting(pub Arc<Line>);

impl<In: Transport> Connector<In> for Counting {
    type Out = Counted<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Counted<In>>, Error> {
        Ok(chained.map(|connection| Counted {
            connection,
            line: self.0.clone(),
        }))
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
        let line = Line::new(None);
        line.stop_at(100);
        line.count(&line.sent, 40);
        line.lose(30);
        assert!(line.check(30).is_ok());
        assert!(line.check(31).is_err());
        assert_eq!(line.total_bytes(), 70);
    }

    #[test]
    fn a_rate_is_kept() {
        let line = Line::new(NonZeroU64::new(1_000_000));
        let start = Instant::now();
        (0..10).for_each(|_| line.count(&line.received, 5_000));
        assert!(start.elapsed() >= Duration::from_millis(49));
    }
}
