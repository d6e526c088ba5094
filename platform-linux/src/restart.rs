//! Restarting the machine.

use crate::fault::fault_of;
use rustix::fs::sync;
use rustix::system::{RebootCommand, reboot};
use twinseal_core::error::StorageFault;

/// Brings everything to the media and restarts the machine at once, without a word to any process. Comes back only when that fails.
#[must_use]
pub fn restart() -> StorageFault {
    sync();
    match reboot(RebootCommand::Restart) {
        // The kernel said yes and goes on: there is no such case, and no better word for it.
        Ok(()) => StorageFault::Busy,
        Err(errno) => fault_of(errno),
    }
}
