//! A bundle from a web server, through an IP stack of our own: what a recovery has when nothing of the system is left.
//!
//! The kernel gives whole Ethernet frames of one interface; all above is here: ARP, IPv4, TCP, DHCP and DNS by `smoltcp`, and a client
//! of HTTP/1.1 that reads a bundle by ranges. No port is opened and nobody is answered who was not asked, but for ARP.
//!
//! - [`http`]: [`Web`], the bundle as a source for core; [`head`]: what an answer says before its body; [`url`]: addresses;
//! - [`stack`]: the interface, its address, and one turn of everything; [`connection`]: TCP; [`names`]: DNS;
//! - [`frames`]: frames and their checksums; [`setting`]: an address from the command line; [`clock`]: time;
//! - [`patience`]: how long each wait may take; [`problem`]: what went wrong, in words.
//!
//! # Invariants
//! - Every wait has an end, and so has a server that keeps sending too little: [`Patience`] names them all.
//! - Nothing here is believed: what comes is bounded by the sizes that stand with each buffer, and core proves every byte of it.
//! - No heap, no `std`, no recursion; the large buffers are in [`Buffers`], which the caller places.

pub mod clock;
pub mod connection;
pub mod frames;
pub mod head;
pub mod http;
pub mod names;
pub mod patience;
pub mod problem;
pub mod setting;
pub mod stack;
pub mod url;

pub use http::Web;
pub use patience::Patience;
pub use problem::NetProblem;
pub use setting::Setting;
pub use stack::{Buffers, Stack, Storage};
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
