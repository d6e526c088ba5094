//! What goes wrong between a device and a web server.

use core::fmt;
use rustix::io::Errno;

/// Why there is no network, or why a server gives no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetProblem {
    /// The kernel shows no Ethernet interface.
    NoInterface,
    /// No interface has a carrier.
    NoCarrier,
    /// The kernel refused something (its error number), or the interface went down.
    Link(i32),
    /// No DHCP server gave an address.
    NoAddress,
    /// A name must be asked for, and nobody says whom to ask.
    NoNameServer,
    /// No name server answered.
    NameSilent,
    /// The name server gave no address: it has none, or cannot say now, or was not heard.
    NameFailed,
    /// There is no address of that name.
    NameUnknown,
    /// Nobody answered at the server's address.
    NotReached,
    /// The connection ended in the middle.
    Cut,
    /// Nothing came any more.
    Silent,
    /// Too little came.
    TooSlow,
    /// The answer did not begin in time.
    HeadSilent,
    /// The headers of an answer are too long, or do not end.
    HeadTooLong,
    /// The answer is not HTTP/1.1.
    HeadUnreadable,
    /// The server answered with a status that gives no bytes.
    Status(u16),
    /// The server sends from one address to the next.
    Redirects,
    /// The server sends to an address that is none of ours.
    RedirectUnusable,
    /// Another bundle is at the address than when the read began.
    Changed,
    /// The answer does not fit what was asked for.
    Answer,
    /// The answer comes in chunks, without a length.
    Chunked,
    /// The answer is compressed, or coded in another way.
    Compressed,
    /// The attendant was called away.
    CalledAway,
}

impl NetProblem {
    /// Whether the same request may succeed a little later: everything but an answer that says no.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            // An interface that went away comes back as another one, if at all.
            Self::Link(code) => {
                !matches!(Errno::from_raw_os_error(code), Errno::NXIO | Errno::NODEV)
            }
            Self::NoAddress
            | Self::NameSilent
            | Self::NameFailed
            | Self::NotReached
            | Self::Cut
            | Self::Silent
            | Self::TooSlow
            | Self::HeadSilent => true,
            Self::Status(code) => matches!(code, 408 | 429 | 500..),
            _ => false,
        }
    }
}

impl fmt::Display for NetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Link(code) => {
                return write!(f, "the network interface does not work (error {code})");
            }
            Self::Status(code) => return write!(f, "the server answered with status {code}"),
            Self::NoInterface => {
                "there is no network interface; the initramfs may lack its kernel module"
            }
            Self::NoCarrier => "no network interface has a carrier; plug in a cable",
            Self::NoAddress => "no DHCP server gave an address",
            Self::NoNameServer => {
                "the server has a name, and nobody says who knows names (DHCP, the command line, /etc/resolv.conf)"
            }
            Self::NameSilent => "no name server answers",
            Self::NameFailed => "no name server gives an address of the server",
            Self::NameUnknown => "the server's name is not known, or has no address of IPv4",
            Self::NotReached => "the server cannot be reached",
            Self::Cut => "the connection was cut",
            Self::Silent => "the server sends nothing any more",
            Self::TooSlow => "the server sends too little",
            Self::HeadSilent => "the server does not answer",
            Self::HeadTooLong => "the headers of the server's answer are too long",
            Self::HeadUnreadable => "the server does not speak HTTP/1.1",
            Self::Redirects => "the server sends from one address to the next",
            Self::RedirectUnusable => {
                "the server sends to another address, which is not of the form http://SERVER/PATH, or too long"
            }
            Self::Changed => "the bundle was replaced while it was read",
            Self::Answer => "the server's answer does not fit what it was asked for",
            Self::Chunked => {
                "the server sends the bundle without a length; it must serve it as a file"
            }
            Self::Compressed => {
                "the server compresses the bundle, which nobody asked it for; it must serve it as it is"
            }
            Self::CalledAway => "the network waits: other disks are there than before",
        };
        f.write_str(sentence)
    }
}
