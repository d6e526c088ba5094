//! Programs of other packages that own a format.
//!
//! # Invariants
//! - They run with an environment of ours alone, so that no setting of a build host changes what they make.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::DiskError;
use crate::error::{Error, FileOperation};

/// Where programs are that an ordinary user's `PATH` often lacks.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Lines of a failed program that are told.
const LINES_TOLD: usize = 5;

/// A program, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub program: &'static str,
    pub package: &'static str,
}

/// Makes ext4 file systems.
pub(super) const MKE2FS: Tool = e2fsprogs("mke2fs");
/// Changes inodes of ext4 file systems.
pub(super) const DEBUGFS: Tool = e2fsprogs("debugfs");
/// Checks ext4 file systems.
pub(super) const E2FSCK: Tool = e2fsprogs("e2fsck");
/// Converts disk images.
pub(super) const QEMU_IMG: Tool = Tool {
    program: "qemu-img",
    package: "qemu-utils",
};

const fn e2fsprogs(program: &'static str) -> Tool {
    Tool {
        program,
        package: "e2fsprogs",
    }
}

impl Tool {
    /// Where it is.
    ///
    /// # Errors
    /// [`DiskError::ToolMissing`] names its package.
    pub(super) fn find(&self) -> Result<PathBuf, DiskError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        self.find_in(&path)
    }

    fn find_in(&self, path: &OsStr) -> Result<PathBuf, DiskError> {
        let folders = std::env::split_paths(path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
        let mut programs = folders.map(|folder| folder.join(self.program));
        programs
            .find(|program| program.is_file())
            .ok_or(DiskError::ToolMissing {
                program: self.program,
                package: self.package,
            })
    }

    /// Runs it to its end with `input` on its standard input.
    ///
    /// # Errors
    /// When it cannot be started or fails; its last words are told.
    pub(super) fn run(&self, call: &Call<'_>) -> Result<Output, Error> {
        let program = self.find()?;
        let failed = || FileOperation::Open.on(&program);
        let mut child = Command::new(&program)
            .args(&call.arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .envs(call.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed())?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // A program that stops reading has failed, and says why itself.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(call.input.as_bytes())));
            child.wait_with_output()
        })
        .map_err(failed())?;
        if output.status.success() {
            return Ok(output);
        }
        Err(self.failed(call.on, &output).into())
    }

    /// The error of a call that went wrong.
    pub(super) fn failed(&self, on: &str, output: &Output) -> DiskError {
        let text = [output.stderr.as_slice(), &output.stdout].concat();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let told: Vec<&str> = lines.take(LINES_TOLD).collect();
        DiskError::Tool {
            program: self.program,
            on: on.to_owned(),
            message: told.join("; "),
        }
    }
}

/// One call of a program.
#[derive(Default)]
pub(super) struct Call<'c> {
    /// What it works on, for messages.
    pub on: &'c str,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(&'c str, &'c OsStr)>,
    pub input: &'c str,
}

impl<'c> Call<'c> {
    /// A call on `on` with these words.
    pub(super) fn new<const COUNT: usize>(on: &'c str, words: [&str; COUNT]) -> Self {
        Self {
            on,
            arguments: words.map(OsString::from).to_vec(),
            ..Self::default()
        }
    }

    /// The call with one more argument, a path.
    pub(super) fn with_path(mut self, path: &Path) -> Self {
        self.arguments.push(path.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let tool = Tool {
            program: "no-such-mke2fs",
            package: "e2fsprogs",
        };
        let error = tool.find_in(OsStr::new("/bin")).unwrap_err().to_string();
        assert!(
            error.contains("`no-such-mke2fs`") && error.contains("Debian package e2fsprogs"),
            "{error}"
        );
    }

    #[test]
    fn a_failing_program_is_told_with_its_words() {
        let shell = Tool {
            program: "sh",
            package: "dash",
        };
        let call = Call::new("nothing", ["-c", "cat >&2; exit 3"]);
        let call = Call {
            input: "it is broken\n",
            ..call
        };
        let error = shell.run(&call).unwrap_err().to_string();
        assert_eq!(error, "`sh` failed on nothing: it is broken");
    }
}
