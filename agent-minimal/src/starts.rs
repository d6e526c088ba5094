//! Starts of a committed set of which nobody has said that they went well, counted where the command line asks for it. A system that
//! dies after its first program has started is sealed and was committed, so nothing else would ever give it up.
//!
//! # Invariants
//! - A start counts once its sealed root is there: what is refused before says nothing about the system in it.
//! - A set is refused only while its count can be written: one that could not be taken back either would refuse it for ever.
//!
//! # Power loss
//! The count is the length of a file without a block, so it grows on a medium that is full, too. A cut while it grows leaves the old
//! count or the new one.

use crate::console::{say, words_of};
use crate::data;
use crate::files::{self, OwnPath};
use crate::refusal::Refusal;
use rustix::fs::{CWD, Mode, OFlags, fsync, ftruncate};
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_platform_linux::calls::{openat, unlink};
use twinseal_platform_linux::file::{if_there, join, open_directory_path};

/// There, and empty, when this start was counted: the system then owes a word that it is well.
const START_COUNTED: &str = "/run/twinseal/start-counted";

/// Names of the counts in the agent's state.
pub(crate) const NAMES: [&str; 2] = ["starts-a", "starts-b"];

/// Refuses a set of which `most` starts were counted.
///
/// # Errors
/// [`Refusal::NeverWell`].
pub fn check(state: &str, set: Set, most: u32) -> Result<(), Refusal> {
    let starts = counted(state, set).unwrap_or(0);
    if starts >= u64::from(most) && store(state, set, starts).is_ok() {
        return Err(Refusal::NeverWell { set, starts });
    }
    Ok(())
}

/// Counts a start of `set`, and tells the system that it was.
pub fn count(state: &str, set: Set) {
    match counted(state, set).and_then(|starts| store(state, set, starts + 1)) {
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

fn counted(state: &str, set: Set) -> Result<u64, Errno> {
    let about = files::about(path(state, set)?.as_str())?;
    Ok(about.map_or(0, |about| about.st_size.cast_unsigned()))
}

/// Brings a count to the medium, also when it is the same as before.
fn store(state: &str, set: Set, starts: u64) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = openat(CWD, path(state, set)?.as_str(), flags, mode)?;
    ftruncate(&file, starts)?;
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
    use std::process::Command;
    use std::string::String;

    #[test]
    fn a_set_is_refused_when_its_starts_are_used_up_and_no_other_is() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().to_str().unwrap();
        for _ in 0..3 {
            assert_eq!(check(path, Set::B, 3), Ok(()));
            let starts = counted(path, Set::B).unwrap();
            store(path, Set::B, starts + 1).unwrap();
        }
        let refused = Refusal::NeverWell {
            set: Set::B,
            starts: 3,
        };
        assert_eq!(check(path, Set::B, 4), Ok(()));
        assert_eq!(check(path, Set::B, 3), Err(refused.clone()));
        assert_eq!(check(path, Set::A, 1), Ok(()));
        assert!(!refused.ends_trial() && !refused.is_past_initramfs());
        assert_eq!(counted(path, Set::B), Ok(3));
        forget(path, Set::B).unwrap();
        forget(path, Set::B).unwrap();
        assert_eq!(check(path, Set::B, 1), Ok(()));
    }

    #[test]
    fn what_cannot_be_counted_is_not_refused() {
        let state = tempfile::tempdir().unwrap();
        let absent = state.path().join("absent");
        let absent = absent.to_str().unwrap();
        assert_eq!(store(absent, Set::A, 1), Err(Errno::NOENT));
        assert_eq!(check(absent, Set::A, 1), Ok(()));
        assert_eq!(forget(absent, Set::A), Ok(()));
    }

    /// A file system of one page, which is full; then it takes no writes at all.
    const MOUNTS: &str = "
        own() { \"$0\" --exact starts::tests::a_full_medium_counts_and_one_without_writes_refuses_nothing; }
        mount -t tmpfs -o size=4k,nr_inodes=8 none \"$TWINSEAL_TEST_STATE\"
        cat /dev/zero >\"$TWINSEAL_TEST_STATE/full\" || own
        mount -o remount,ro \"$TWINSEAL_TEST_STATE\"
        READ_ONLY=1 own";

    #[test]
    fn a_full_medium_counts_and_one_without_writes_refuses_nothing() {
        if let Some(state) = std::env::var_os("TWINSEAL_TEST_STATE") {
            let state = state.to_str().unwrap();
            if std::env::var_os("READ_ONLY").is_some() {
                assert_eq!(counted(state, Set::A), Ok(2));
                return assert_eq!(check(state, Set::A, 1), Ok(()));
            }
            let other = std::format!("{state}/starts-b");
            assert!(fs::write(other, ".").is_err(), "full");
            store(state, Set::A, 2).unwrap();
            return assert!(check(state, Set::A, 2).is_err());
        }
        let state = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args(["-rm", "sh", "-ec", MOUNTS])
            .arg(std::env::current_exe().unwrap())
            .env("TWINSEAL_TEST_STATE", state.path())
            .output()
            .expect("unshare (package util-linux) is needed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.matches("1 passed").count() == 2,
            "the right to mount in a namespace is needed: {text}"
        );
    }
}
