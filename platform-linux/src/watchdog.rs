//! The hardware watchdog: armed before a system starts that might hang.
//!
//! Interface: `Documentation/watchdog/watchdog-api.rst` of Linux. Opening the device starts it. Closing it without having written the
//! letter `V` leaves it running, for whoever opens it next, when its driver knows that letter (`WDIOF_MAGICCLOSE`); another driver
//! stops it, unless the kernel was built or told never to (`nowayout`).
//!
//! # Invariants
//! - Nothing here stops a watchdog on purpose. Whether it goes on without us is asked, never assumed.

use crate::calls::openat;
use crate::fault::fault_of;
use crate::sys;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use twinseal_core::error::StorageFault;

/// Where the kernel shows the first watchdog.
pub const WATCHDOG_DEVICE: &str = "/dev/watchdog";

/// `WDIOF_MAGICCLOSE` of `linux/watchdog.h`.
const KNOWS_MAGIC_CLOSE: u32 = 0x0100;

/// A watchdog that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    /// Its time in seconds, which is another one than was asked for when the hardware cannot do that; `None` when it takes none
    /// from us: it runs with a time of its own.
    pub seconds: Option<u32>,
    /// Whether it goes on when this program has closed it. Otherwise it stops then, unless the kernel forbids that.
    pub keeps_running: bool,
}

/// Starts the watchdog at `device` with a time of `seconds`, and closes it.
///
/// # Errors
/// When there is no watchdog, or somebody else has it open.
pub fn arm(device: &str, seconds: u32) -> Result<Armed, StorageFault> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let watchdog = openat(CWD, device, flags, Mode::empty()).map_err(fault_of)?;
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    // Refused or not: it runs since it was opened.
    let taken = sys::set_watchdog_seconds(&watchdog, seconds);
    sys::keep_watchdog_alive(&watchdog).map_err(fault_of)?;
    let options = sys::watchdog_options(&watchdog).unwrap_or(0);
    Ok(Armed {
        seconds: taken.ok().map(i32::unsigned_abs),
        keeps_running: options & KNOWS_MAGIC_CLOSE != 0,
    })
}

/// A watchdog that this program keeps from resetting the machine, for as long as it has something to show for it.
#[derive(Debug)]
pub struct Fed(OwnedFd);

impl Fed {
    /// Takes over the watchdog at `device`, with the time that it has; without one that was armed before, this arms it.
    ///
    /// # Errors
    /// When there is no watchdog, or somebody else has it open.
    pub fn open(device: &str) -> Result<Self, StorageFault> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let watchdog = openat(CWD, device, flags, Mode::empty()).map_err(fault_of)?;
        sys::keep_watchdog_alive(&watchdog).map_err(fault_of)?;
        Ok(Self(watchdog))
    }

    /// Starts its time anew.
    ///
    /// # Errors
    /// What the driver says.
    pub fn feed(&self) -> Result<(), StorageFault> {
        sys::keep_watchdog_alive(&self.0).map_err(fault_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn what_is_no_watchdog_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = StorageFault::Code(Errno::NOTTY.raw_os_error());
        assert_eq!(arm(file.path().to_str().unwrap(), 60), Err(refused));
        let fed = Fed::open(file.path().to_str().unwrap());
        assert_eq!(fed.err(), Some(refused));
        let missing = StorageFault::Code(Errno::NOENT.raw_os_error());
        assert_eq!(arm("/dev/no-such-watchdog", 60), Err(missing));
    }
}
