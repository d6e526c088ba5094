//! Kernel modules, loaded by file.

use crate::calls::openat;
use crate::fault::fault_of;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::system::finit_module;
use twinseal_core::error::StorageFault;

/// Loads the module in the file at `path`, without parameters; gives `false` when the kernel has it already.
///
/// # Errors
/// When there is no such file or the kernel refuses it: `EKEYREJECTED` is a signature that it does not trust.
pub fn load(path: &str) -> Result<bool, StorageFault> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(fault_of)?;
    match finit_module(&file, c"", 0) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(fault_of(errno)),
    }
}
