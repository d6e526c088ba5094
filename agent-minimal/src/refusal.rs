//! Why a set is not started.

use crate::console::words_of;
use rustix::io::Errno;
use thiserror::Error;
use twinseal_core::boot::Set;
use twinseal_core::error::StorageError;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_platform_linux::sealed::SealRefused;

/// Why this set is not started. The sentence stands on the console behind `REFUSED:`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The command line asks for the recovery.
    #[error("The command line asks for the recovery.")]
    RecoveryAsked,
    /// The command line does not name one image.
    #[error(
        "The command line must name exactly one image, as `composefs=` and a digest; build the UKI again."
    )]
    NoSeal,
    /// Neither the firmware nor the slots say which set this is.
    #[error("No root slot holds the composefs image {}, and the firmware does not say what it booted.", .seal.to_hex())]
    NoSet {
        /// The seal.
        seal: BlobDigest,
    },
    /// A slot did not appear.
    #[error("There is no partition with the label root-{set}.")]
    SlotMissing {
        /// Whose.
        set: Set,
    },
    /// A slot cannot be mounted.
    #[error("The root slot of set {set} cannot be mounted (error {}).", .errno.raw_os_error())]
    SlotMount {
        /// Whose.
        set: Set,
        /// What the kernel said.
        errno: Errno,
    },
    /// A recovery of the set has not come to its end.
    #[error("Set {set} is incomplete: its recovery was interrupted.")]
    Incomplete {
        /// The set.
        set: Set,
    },
    /// The set was started as often as it may be without a word that it is well.
    #[error("Set {set} was started {starts} times and never said that it is well.")]
    NeverWell {
        /// The set.
        set: Set,
        /// Its starts.
        starts: u64,
    },
    /// The trial has no attempts left.
    #[error("Set {set} is on trial and has no boot attempt left.")]
    NoAttemptLeft {
        /// The set on trial.
        set: Set,
    },
    /// An attempt cannot be spent, so this start would not be counted.
    #[error("A boot attempt of set {set} cannot be spent: {error}")]
    AttemptNotStored {
        /// The set on trial.
        set: Set,
        /// Why not.
        error: StorageError,
    },
    /// The image is not what the seal says.
    #[error(transparent)]
    Seal(SealRefused),
    /// The sealed root lacks a directory, or something cannot be mounted there.
    #[error("{directory} of the sealed root cannot be used (error {}); it must be an empty directory.", .errno.raw_os_error())]
    Directory {
        /// Which.
        directory: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// The first program of the system cannot be read to its end: it is missing, or the medium went bad.
    #[error("The first program of the sealed root cannot be read: {}.", words_of(*.errno))]
    Program {
        /// What the kernel said.
        errno: Errno,
    },
    /// The first program of the system does not start.
    #[error("The first program of the sealed root cannot be started (error {code}).")]
    Start {
        /// What the kernel said.
        code: i32,
    },
}

impl Refusal {
    /// Whether the initramfs is left behind: nothing of it is there any more but this program.
    #[must_use]
    pub const fn is_past_initramfs(&self) -> bool {
        match self {
            Self::Start { .. } => true,
            // Whatever else is used of the sealed root is so before anything moves.
            Self::Directory { directory, .. } => directory.len() == 1,
            _ => false,
        }
    }

    /// Whether a trial cannot go on: its attempts are used up, or none can be taken off the record.
    #[must_use]
    pub const fn ends_trial(&self) -> bool {
        matches!(
            self,
            Self::NoAttemptLeft { .. } | Self::AttemptNotStored { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use twinseal_core::error::{StorageFault, StorageObject, StorageOperation};

    #[test]
    fn a_trial_that_cannot_pay_is_over_as_one_that_has_paid_all() {
        let set = Set::B;
        let error = StorageError {
            operation: StorageOperation::Write,
            object: StorageObject::BootRecord,
            fault: StorageFault::Code(Errno::ROFS.raw_os_error()),
        };
        assert!(Refusal::AttemptNotStored { set, error }.ends_trial());
        assert!(Refusal::NoAttemptLeft { set }.ends_trial());
        let slot = Refusal::SlotMissing { set };
        assert!(!slot.ends_trial() && !Refusal::NoSeal.ends_trial());
    }

    #[test]
    fn what_comes_after_the_initramfs_is_told_from_what_comes_before() {
        let errno = Errno::NOTDIR;
        let at = |directory| Refusal::Directory { directory, errno };
        assert!(Refusal::Start { code: 2 }.is_past_initramfs() && at("/").is_past_initramfs());
        assert!(!at("/dev").is_past_initramfs() && !Refusal::NoSeal.is_past_initramfs());
    }

    #[test]
    fn a_refusal_is_a_sentence_with_its_facts() {
        let [expected, found] = [0x1f, 0x2e].map(|byte| BlobDigest::sha256([byte; 32]));
        let seal = Refusal::Seal(SealRefused::OtherDigest { expected, found }).to_string();
        assert!(seal.contains(&"1f".repeat(32)) && seal.contains(&"2e".repeat(32)));
        let set = Refusal::NoAttemptLeft { set: Set::B }.to_string();
        assert_eq!(set, "Set b is on trial and has no boot attempt left.");
        let none = Refusal::NoSet { seal: expected }.to_string();
        assert!(none.contains(&"1f".repeat(32)));
    }
}
