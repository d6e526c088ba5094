//! The restart of the device.

use crate::error::AgentError;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use twinseal_core::error::StorageFault;

/// There as long as systemd is the init (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// Restarts: through systemd where it runs, so that services end in order; otherwise at once, after everything was brought to
/// the media.
///
/// # Errors
/// When the system refuses.
pub fn restart() -> Result<(), AgentError> {
    if Path::new(SYSTEMD_RUNS).is_dir() && systemd_restarts() {
        return Ok(());
    }
    Err(failed(twinseal_platform_linux::restart::restart()))
}

fn systemd_restarts() -> bool {
    let mut command = Command::new("systemctl");
    command.arg("reboot").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn failed(fault: StorageFault) -> AgentError {
    let error = match fault {
        StorageFault::Code(code) => io::Error::from_raw_os_error(code),
        // The kernel said yes and went on.
        _ => io::ErrorKind::ResourceBusy.into(),
    };
    AgentError::Restart { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_restart_that_failed_says_so() {
        let error = failed(StorageFault::Code(Errno::PERM.raw_os_error()));
        assert_eq!(
            error.to_string(),
            "The device could not be restarted: Operation not permitted (os error 1)."
        );
        assert_eq!(error.code(), crate::exit::STORAGE);
        let error = failed(StorageFault::Busy).to_string();
        assert!(error.starts_with("The device could not"), "{error}");
    }
}
