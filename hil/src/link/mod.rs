//! A bad link on the loopback device: a relay between an agent and a web server that does to their bytes what a shape says.
//!
//! It understands HTTP/1.1 without TLS: requests without a body, and answers whose length is in their head, which is what
//! servers of files give. Anything else is answered with a status of its own (501, 502) instead of being passed on half
//! understood. One connection to the server belongs to each of the client's.
//!
//! # Invariants
//! - Every byte between the client and the link is counted, heads included, and no other.
//! - What is done to the bytes follows from shape and seed, as long as one connection is open at a time: bytes of several are
//!   counted in the order in which they come.
//! - Nothing waits but for the other side, or as long as the shape says; dropping the link ends every wait and every connection.
//!
//! # Power loss
//! Nothing here is stored.

mod command;
mod head;
mod pace;
mod report;
mod script;
pub mod shape;
mod wire;

pub use command::{LinkError, Options, Server, run};
pub use report::Report;
pub use shape::Shape;

use pace::{End, Pace};
use script::Script;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// A link, open until it is dropped.
#[derive(Debug)]
pub struct Link {
    /// Where clients connect to, on this machine alone.
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What the connections of a link share.
#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    plan: Mutex<Plan>,
    report: Mutex<Report>,
    asked: Mutex<Vec<String>>,
    /// Who wants to hear of each silence.
    listener: Mutex<Option<Sender<()>>>,
    up: Pace,
    down: Pace,
    end: End,
    open: Mutex<HashMap<u64, TcpStream>>,
}

/// What is to be done.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    script: Script,
}

impl Plan {
    fn new(shape: Shape, seed: u64) -> Self {
        let script = Script::new(shape.clone(), seed);
        Self { shape, script }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.report));
    }

    /// A silence begins.
    fn stall(&self) {
        self.count(|report| report.stalls += 1);
        if let Some(listener) = &*lock(&self.listener) {
            // Nobody needs to listen any more.
            let _ = listener.send(());
        }
    }
}

impl Link {
    /// Opens a link to a server. It listens when this returns: on `port`, or on any that is free.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn start(
        shape: Shape,
        seed: u64,
        server: SocketAddr,
        port: Option<u16>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0)))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            server,
            plan: Mutex::new(Plan::new(shape, seed)),
            report: Mutex::default(),
            asked: Mutex::default(),
            listener: Mutex::default(),
            up: Pace::new(),
            down: Pace::new(),
            end: End::default(),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let accepting = thread::spawn(move || accept(&listener, &accepting));
        Ok(Self {
            port,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Changes the link: the new shape begins anew, with counts of its own. The report goes on.
    pub fn change(&self, shape: Shape, seed: u64) {
        *lock(&self.shared.plan) = Plan::new(shape, seed);
    }

    /// What went over it so far.
    pub fn report(&self) -> Report {
        *lock(&self.shared.report)
    }

    /// Tells of each silence when it begins, instead of whoever was told before. It is in the report by then.
    pub fn tell_stalls(&self, listener: Sender<()>) {
        *lock(&self.shared.listener) = Some(listener);
    }

    /// The `Range` of each request so far; empty for one without.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared.asked).clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.end.set();
        // A connection of our own, so that the thread that waits for one sees the end.
        let waker = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let (Some(accepting), Ok(_)) = (self.accepting.take(), waker) {
            let _ = accepting.join();
        }
    }
}

/// Serves connections until the end, and waits for all of them then.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut serving: Vec<JoinHandle<()>> = Vec::new();
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.end.has_come() {
            break;
        }
        let Ok(stream) = stream else {
            continue;
        };
        serving.retain(|thread| !thread.is_finished());
        let shared = Arc::clone(shared);
        serving.push(thread::spawn(move || wire::serve(&shared, number, stream)));
    }
    for stream in lock(&shared.open).values() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in serving {
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests;
