//! The hardware watchdog: armed before a system starts that might hang.
//!
//! Interface: `Documentation/watchdog/watchdog-api.rst` of Linux. Opening the device starts it; closing it without having written
//! the letter `V` leaves it running, for whoever opens it next.
//!
//! # Invariants
//! - Nothing here can stop a watchdog that runs.

use crate::fault::fault_of;
use crate::sys;
use rustix::fs::{CWD, Mode, OFlags, openat};
use twinseal_core::error::StorageFault;

/// Where the kernel shows the first watchdog.
pub const WATCHDOG_DEVICE: &str = "/dev/watchdog";

/// Starts the watchdog at `device` with a time of `seconds`, and leaves it running. Gives the time that it took, which is another one
/// when the hardware cannot do that.
///
/// # Errors
/// When there is no watchdog, somebody else has it open, or it takes no time at all near this one.
pub fn arm(device: &str, seconds: u32) -> Result<u32, StorageFault> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let watchdog = openat(CWD, device, flags, Mode::empty()).map_err(fault_of)?;
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    let taken = sys::set_watchdog_seconds(&watchdog, seconds).map_err(fault_of)?;
    sys::keep_watchdog_alive(&watchdog).map_err(fault_of)?;
    Ok(taken.unsigned_abs())
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
        let missing = StorageFault::Code(Errno::NOENT.raw_os_error());
        assert_eq!(arm("/dev/no-such-watchdog", 60), Err(missing));
    }
}
