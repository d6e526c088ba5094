//! Starts of a committed set of which nobody has said that they went well, counted where the command line asks for it. A system that
//! dies after its first program has started is sealed and was committed, so nothing else would ever give it up.
//!
//! # Invariants
//! - A start counts once its sealed root is there: what is refused before says nothing about the system in it.
//! - A count that cannot be read or kept refuses nothing.
//!
//! # Power loss
//! The count is the length of a file, and grows by one durable byte. A cut while it grows leaves the old count or the new one.

use crate::console::{say, words_of};
use crate::data;
use crate::files::{self, OwnPath};
use crate::refusal::Refusal;
use rustix::fs::{CWD, Mode, OFlags, fsync};
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_platform_linux::calls::{openat, unlink};
use twinseal_platform_linux::file::{if_there, join, open_directory_path, write_all};

/// There, and empty, when this start was counted: the system then owes a word that it is well.
const START_COUNTED: &str = "/run/twinseal/start-counted";

/// Names of the counts in the agent's state.
pub(crate) const NAMES: [&str; 2] = ["starts-a", "starts-b"];

/// Refuses a set of which `most` starts were counted.
///
/// # Errors
/// [`Refusal::NeverWell`].
pub fn check(state: &str, set: Set, most: u32) -> Result<(), Refusal> {
    let about = path(state, set).and_then(|path| files::about(path.as_str()));
    match about {
        Ok(Some(about)) if about.st_size >= i64::from(most) => {
            Err(Refusal::NeverWell { set, starts: most })
        }
        _ => Ok(()),
    }
}

/// Counts a start of `set`, and tells the system that it was.
pub fn count(state: &str, set: Set) {
    match append(state, set) {
        Ok(()) => data::mark(START_COUNTED),
        Err(errno) => say(format_args!(
            "This start of set {set} cannot be counted: {}",
            words_of(errno)
        )),
    }
}

/// Forgets the starts of `set`.
///
/// # Errors
/// What the kernel says.
pub fn forget(state: &str, set: Set) -> Result<(), Errno> {
    if_there(unlink(path(state, set)?.as_str())).map(drop)
}

fn append(state: &str, set: Set) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = openat(CWD, path(state, set)?.as_str(), flags, mode)?;
    // Where it is written, the flag says: at the end.
    write_all(&file, 0, b".")?;
    fsync(&file)?;
    fsync(open_directory_path(state)?)
}

fn path(state: &str, set: Set) -> Result<OwnPath, Errno> {
    join(&[state, "/", set.of(NAMES)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_set_is_refused_when_its_starts_are_used_up_and_no_other_is() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().to_str().unwrap();
        for _ in 0..3 {
            assert_eq!(check(path, Set::B, 3), Ok(()));
            append(path, Set::B).unwrap();
        }
        let refused = Refusal::NeverWell {
            set: Set::B,
            starts: 3,
        };
        assert_eq!(check(path, Set::B, 3), Err(refused.clone()));
        assert_eq!(check(path, Set::B, 4), Ok(()));
        assert_eq!(check(path, Set::A, 1), Ok(()));
        assert!(!refused.ends_trial() && !refused.is_past_initramfs());
        assert_eq!(fs::read(state.path().join("starts-b")).unwrap(), b"...");
        forget(path, Set::B).unwrap();
        forget(path, Set::B).unwrap();
        assert_eq!(check(path, Set::B, 1), Ok(()));
    }

    #[test]
    fn what_cannot_be_counted_is_not_refused() {
        let state = tempfile::tempdir().unwrap();
        let absent = state.path().join("absent");
        let absent = absent.to_str().unwrap();
        assert_eq!(append(absent, Set::A), Err(Errno::NOENT));
        assert_eq!(check(absent, Set::A, 1), Ok(()));
        assert_eq!(forget(absent, Set::A), Ok(()));
    }
}
