//! A bundle from a web server: a client of HTTP/1.1 that reads it by ranges, on one of two networks.
//!
//! A recovery has an IP stack of its own (feature `net`), when nothing of the system is left: the kernel gives whole Ethernet frames of one
//! interface; all above is here: ARP, IPv4, TCP, DHCP and DNS by `smoltcp`. No port is open: who was not asked is told so (ARP, TCP's RST, ICMP's
//! unreachable) and nothing else. The commands of a running system use the kernel's sockets (feature `fetch`).
//!
//! - [`http`]: [`Web`], the bundle as a source for core; [`head`]: what an answer says before its body; [`url`], [`dotted`]: addresses;
//! - [`transport`]: what it needs of a network; [`pace`], [`patience`]: how long each wait may take; [`problem`]: what went wrong, in words;
//! - `stack`: the interface, its address, and one turn of everything; `connection`: TCP; `names`: DNS ([`dns`]: its messages); `frames`: frames and their
//!   checksums; `setting`: an address from the command line; [`clock`]: time;
//! - `kernel`: the kernel's sockets; `lookup`: names on a running system.
//!
//! # Invariants
//! - Every wait has an end, and so has a server that keeps sending too little: [`Patience`] names them all.
//! - Nothing here is believed: what comes is bounded by the sizes that stand with each buffer, and core proves every byte of it.
//! - No heap, no `std`, no recursion; the large buffers are in `Buffers`, which the caller places.

pub mod clock;
#[cfg(feature = "net")]
pub mod connection;
pub mod dns;
pub mod dotted;
#[cfg(feature = "net")]
pub mod frames;
pub mod head;
pub mod http;
#[cfg(feature = "fetch")]
pub mod kernel;
#[cfg(feature = "fetch")]
mod lookup;
#[cfg(feature = "net")]
pub mod names;
pub mod pace;
pub mod patience;
pub mod problem;
#[cfg(feature = "net")]
pub mod setting;
#[cfg(feature = "net")]
pub mod stack;
pub mod transport;
pub mod url;

pub use http::Web;
#[cfg(feature = "fetch")]
pub use kernel::KernelNet;
pub use pace::Pace;
pub use patience::Patience;
pub use problem::NetProblem;
#[cfg(feature = "net")]
pub use setting::Setting;
#[cfg(feature = "net")]
pub use stack::{Buffers, Stack, Storage};
pub use transport::Transport;
pub use url::Url;

use core::fmt;

/// Who hears what happens, and keeps the watchdog quiet meanwhile.
pub trait Attendant {
    /// A line for people.
    fn say(&self, line: fmt::Arguments<'_>);

    /// Called at least once a second while something is waited for.
    fn alive(&self);

    /// Whether something has turned up that is worth more than a wait for somebody who has sent nothing yet. Asked in such waits, and
    /// between tries.
    fn is_called_away(&self) -> bool {
        false
    }
}
