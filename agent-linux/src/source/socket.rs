//! Counts the bytes of a connection, headers included: what a metered link is billed for, less what TCP and IP add.
//!
//! The transport of `ureq` is not yet under its promise of stable versions, so `Cargo.toml` names the version up to its second
//! number; only this file would change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Bytes of all connections of an agent.
#[derive(Debug, Default)]
pub struct Counter {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counter {
    /// Received and sent.
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.received.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }
}

/// Makes every connection a counting one.
#[derive(Debug)]
pub struct Counting(pub Arc<Counter>);

impl<In: Transport> Connector<In> for Counting {
    type Out = Counted<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Counted<In>>, Error> {
        Ok(chained.map(|connection| Counted {
            connection,
            counter: self.0.clone(),
        }))
    }
}

/// A connection whose bytes are counted.
#[derive(Debug)]
pub struct Counted<T> {
    connection: T,
    counter: Arc<Counter>,
}

impl<T: Transport> Transport for Counted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.connection.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.connection.transmit_output(amount, timeout)?;
        self.counter
            .sent
            .fetch_add(amount as u64, Ordering::Relaxed);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let before = self.connection.buffers().input().len();
        let more = self.connection.await_input(timeout);
        let after = self.connection.buffers().input().len();
        let received = after.saturating_sub(before) as u64;
        self.counter.received.fetch_add(received, Ordering::Relaxed);
        more
    }

    fn is_open(&mut self) -> bool {
        self.connection.is_open()
    }

    fn is_tls(&self) -> bool {
        self.connection.is_tls()
    }
}
