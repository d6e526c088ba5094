//! How long each wait may take, and how often something is tried again.

use core::time::Duration;

/// What may be waited for, and how long.
///
/// A read that fails is tried again after a pause that doubles, up to [`tries`](Self::tries) times; whoever gets
/// [`progress_bytes`](Self::progress_bytes) in between has all of them again. So a link that is cut now and then is followed to the
/// end, and a server that gives next to nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a cable with somebody at its other end: switches take half a minute to let a port through.
    pub carrier: Duration,
    /// For an address by DHCP.
    pub address: Duration,
    /// For a name.
    pub name: Duration,
    /// For a connection.
    pub connect: Duration,
    /// For a whole answer up to its body, from the request on.
    pub head: Duration,
    /// For each further byte of a body.
    pub idle: Duration,
    /// Over this time of waiting for a body …
    pub pace: Duration,
    /// … so many bytes must come. Stops a server that sends one byte before each wait is over.
    pub pace_bytes: u64,
    /// Before the first new try; doubled for each one after it.
    pub pause: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// New tries without progress in between.
    pub tries: u32,
    /// What counts as progress.
    pub progress_bytes: u64,
}

impl Default for Patience {
    /// For a cellular link of 64 kbit/s that drops every few minutes: it carries 8,000 bytes in a second.
    fn default() -> Self {
        Self {
            carrier: Duration::from_secs(40),
            address: Duration::from_secs(30),
            name: Duration::from_secs(20),
            connect: Duration::from_secs(20),
            head: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            pace: Duration::from_secs(60),
            pace_bytes: 30 * 1024,
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(30),
            tries: 8,
            progress_bytes: 16 * 1024,
        }
    }
}
