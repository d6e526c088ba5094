//! One line at a time for people and test benches: on the console, whatever level of the kernel's own messages it shows.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI32, Ordering};
use heapless::String;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use twinseal_core::error::StorageFault;
use twinseal_platform_linux::calls::openat;
use twinseal_platform_linux::standard;

const CONSOLE: &str = "/dev/console";

/// Where lines go when there is no console: into the kernel's log.
const KERNEL_LOG: &str = "/dev/kmsg";

/// Longest line, in bytes. A refusal with two digests of 64 bytes has about 400; what is longer is cut off.
pub const LINE_MAX_BYTES: usize = 1024;

/// Writes `twinseal: init: ` and a line. Nobody is there to hear that it failed.
pub fn say(line: fmt::Arguments<'_>) {
    // One write, so that the kernel's messages do not stand in the middle of it.
    let mut text = Line::new();
    let _ = write!(text, "twinseal: init: {line}");
    for path in [CONSOLE, KERNEL_LOG] {
        let opened = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        if opened.is_ok_and(|file| rustix::io::write(file, text.with_end()).is_ok()) {
            return;
        }
    }
}

/// Where a command's lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Answers.
    Output,
    /// Errors, and progress.
    Error,
}

/// What the kernel said when an answer could not be written; 0 for nothing.
static OUTPUT_FAILURE: AtomicI32 = AtomicI32::new(0);

impl Stream {
    /// Writes a line. That an answer could not be written is kept for [`output_failure`].
    pub fn say(self, line: fmt::Arguments<'_>) {
        let mut text = Line::new();
        let _ = text.write_fmt(line);
        let bytes = text.with_end();
        match self {
            Self::Output => {
                if let Err(errno) = rustix::io::write(standard::output(), bytes) {
                    OUTPUT_FAILURE.store(errno.raw_os_error(), Ordering::Relaxed);
                }
            }
            Self::Error => {
                let _ = rustix::io::write(standard::error(), bytes);
            }
        }
    }
}

/// Why the last answer that could not be written was lost. Whoever has left does not want it.
pub fn output_failure() -> Option<Errno> {
    let code = OUTPUT_FAILURE.load(Ordering::Relaxed);
    let is_failure = code != 0 && code != Errno::PIPE.raw_os_error();
    is_failure.then(|| Errno::from_raw_os_error(code))
}

/// A line that is cut off, and not refused, when it is too long.
struct Line(String<LINE_MAX_BYTES>);

impl Line {
    const fn new() -> Self {
        Self(String::new())
    }

    /// The line and its end.
    fn with_end(&mut self) -> &[u8] {
        if self.0.push('\n').is_err() {
            self.0.pop();
            let _ = self.0.push('\n');
        }
        self.0.as_bytes()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|letter| self.0.push(letter))
            .map_err(|_| fmt::Error)
    }
}

/// A fault in words, for the end of a line.
pub const fn words(fault: StorageFault) -> Words {
    Words(fault)
}

/// An error number in words, for the end of a line.
pub const fn words_of(errno: Errno) -> Words {
    Words(StorageFault::Code(errno.raw_os_error()))
}

/// A fault that is shown in words.
#[derive(Clone, Copy, Debug)]
pub struct Words(StorageFault);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StorageFault::Code(code) = self.0 else {
            return self.0.fmt(f);
        };
        match meaning_of(self.0) {
            Some(meaning) => write!(f, "{meaning} (os error {code})"),
            None => write!(f, "os error {code}"),
        }
    }
}

/// What an error number means, where that is known.
pub fn meaning_of(fault: StorageFault) -> Option<&'static str> {
    let StorageFault::Code(code) = fault else {
        return None;
    };
    let mut meanings = MEANINGS.iter();
    let meaning = meanings.find(|(errno, _)| errno.raw_os_error() == code)?;
    Some(meaning.1)
}

/// What a boot meets, in the words of strerror(3). The others are told by their number.
const MEANINGS: [(Errno, &str); 18] = [
    (Errno::PERM, "Operation not permitted"),
    (Errno::NOENT, "No such file or directory"),
    (Errno::IO, "Input/output error"),
    (Errno::NXIO, "No such device or address"),
    (Errno::NOMEM, "Cannot allocate memory"),
    (Errno::ACCESS, "Permission denied"),
    (Errno::BUSY, "Device or resource busy"),
    (Errno::EXIST, "File exists"),
    (Errno::NODEV, "No such device"),
    (Errno::NOTDIR, "Not a directory"),
    (Errno::INVAL, "Invalid argument"),
    (Errno::NOSPC, "No space left on device"),
    (Errno::ROFS, "Read-only file system"),
    (Errno::NAMETOOLONG, "File name too long"),
    (Errno::BADMSG, "Bad message"),
    (Errno::OPNOTSUPP, "Operation not supported"),
    (Errno::UCLEAN, "Structure needs cleaning"),
    (Errno::KEYREJECTED, "Key was rejected by service"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::string::ToString;

    #[test]
    fn an_error_number_has_words() {
        assert_eq!(
            words(StorageFault::Code(2)).to_string(),
            "No such file or directory (os error 2)"
        );
        assert_eq!(words(StorageFault::Code(4000)).to_string(), "os error 4000");
        assert_eq!(
            words(StorageFault::Short).to_string(),
            "it ended before all bytes were read."
        );
        for (errno, _) in MEANINGS {
            let standard = io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
            assert_eq!(words_of(errno).to_string(), standard);
        }
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_end() {
        let mut line = Line::new();
        assert!(write!(line, "{}", "é".repeat(LINE_MAX_BYTES)).is_err());
        let text = line.with_end();
        assert!(text.len() <= LINE_MAX_BYTES && text.ends_with("é\n".as_bytes()));
        let mut line = Line::new();
        write!(line, "short").unwrap();
        assert_eq!(line.with_end(), b"short\n");
    }
}
