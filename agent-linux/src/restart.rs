//! The restart of the device.

use crate::error::AgentError;
use rustix::system::{RebootCommand, reboot};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    rustix::fs::sync();
    reboot(RebootCommand::Restart).map_err(|errno| AgentError::File {
        file: PathBuf::from("The device"),
        done: "restarted",
        error: errno.into(),
    })
}

fn systemd_restarts() -> bool {
    let mut command = Command::new("systemctl");
    command.arg("reboot").stdin(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
