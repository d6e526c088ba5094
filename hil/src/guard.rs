//! A program that runs beside this one and never outlives it.
//!
//! # Invariants
//! - Dropping a [`Guarded`] ends its process and waits for it. The process is named by a descriptor of itself, so a number that
//!   was given to another process meanwhile is never hit.
//! - When this program is killed, or aborts, the kernel kills the process: it is started through `setpriv --pdeathsig`, which
//!   asks for that and becomes the program. The signal comes when the thread that started it ends, so that thread must live
//!   as long as the process is wanted.
//!
//! # Power loss
//! Nothing here is stored.

use crate::programs::Tool;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What starts the processes.
pub const TOOLS: &[Tool] = &[Tool {
    program: "setpriv",
    package: "util-linux",
}];

/// Longest time that a killed process may take to be gone. The kernel ends it at once, but for a disk that does not answer.
const END_LIMIT: Duration = Duration::from_secs(30);

/// A process that ends with this value.
#[derive(Debug)]
pub struct Guarded {
    process: OwnedFd,
    end: Arc<End>,
    /// Its standard input, when it was asked for.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, when it was asked for.
    pub stdout: Option<ChildStdout>,
    /// Its standard error, when it was asked for.
    pub stderr: Option<ChildStderr>,
}

#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<Option<ExitStatus>>>,
    changed: Condvar,
}

/// A command for [`Guarded::start`]; its program is killed with this one.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program.as_ref());
    command
}

impl Guarded {
    /// Starts a process; make `command` with [`command`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let process = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(process) => process,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error.into());
            }
        };
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let end = Arc::new(End::default());
        let told = Arc::clone(&end);
        thread::spawn(move || {
            let status = child.wait().ok();
            *told.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            told.changed.notify_all();
        });
        Ok(Self {
            process,
            end,
            stdin,
            stdout,
            stderr,
        })
    }

    /// Waits for its end, no longer than `limit`; whether it has ended.
    pub fn wait(&self, limit: Duration) -> bool {
        let status = self
            .end
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (status, _) = self
            .end
            .changed
            .wait_timeout_while(status, limit, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        status.is_some()
    }

    /// How it ended; nothing while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        self.end
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flatten()
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        // It may have ended by itself: then there is nobody to kill.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        self.wait(END_LIMIT);
    }
}

impl AsFd for Guarded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    #[test]
    fn a_process_ends_with_its_guard() {
        let mut command = command("sleep");
        command.arg("1000");
        let guarded = Guarded::start(command).unwrap();
        assert!(!guarded.wait(Duration::from_millis(20)));
        let end = Arc::clone(&guarded.end);
        drop(guarded);
        assert!(end.status.lock().unwrap().is_some());
    }

    #[test]
    fn a_process_ends_with_the_thread_that_started_it() {
        let (mut stdout, guarded) = thread::spawn(|| {
            let mut command = command("sh");
            command
                .args(["-c", "echo up; exec sleep 1000"])
                .stdout(Stdio::piped());
            let mut guarded = Guarded::start(command).unwrap();
            let mut stdout = BufReader::new(guarded.stdout.take().unwrap());
            stdout.read_line(&mut String::new()).unwrap();
            (stdout, guarded)
        })
        .join()
        .unwrap();
        assert_eq!(stdout.read_line(&mut String::new()).unwrap(), 0);
        assert!(guarded.wait(Duration::from_secs(20)), "nobody killed it");
    }
}
