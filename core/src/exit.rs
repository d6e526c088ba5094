//! Exit codes of the agents: which number a refusal or a fault ends a program with.
//!
//! The tens say who is to blame, as [`Error`] does: 2 the command line or the device description, 20 the bundle, 30 and 40 this
//! device's policy, 50 its storage, 60 our own code or an order that does not fit the device's state, 70 the source,
//! 80 what a set holds. The table with names and meanings is in `docs/architecture.md`, section 6.
//!
//! # Invariants
//! - A code never changes its meaning; scripts and the journal keep them.
//! - Every error of core has a code: the matches here have no default arm for a whole class.

use crate::error::{
    BundleInvalid, Error, Part, PolicyRefused, StorageError, StorageFault, StorageObject,
};

/// Done.
pub const OK: u8 = 0;
/// The answer is no (`reboot-needed`).
pub const NO: u8 = 1;
/// The command line or the device description is wrong.
pub const USAGE: u8 = 2;
/// The bundle is damaged, incomplete, or not made by the rules.
pub const BUNDLE: u8 = 20;
/// The manifest seals another composefs image than the bundle carries.
pub const SEAL_STATEMENT: u8 = 21;
/// The UKI is not one that this device could boot sealed.
pub const UKI: u8 = 22;
/// A trusted key's signature is wrong, or the signatures are damaged.
pub const SIGNATURE: u8 = 23;
/// No signature is by a trusted key.
pub const UNKNOWN_SIGNER: u8 = 30;
/// The bundle is for another device type.
pub const COMPATIBLE: u8 = 31;
/// The anti-rollback version is below the floor.
pub const BELOW_FLOOR: u8 = 32;
/// The validity window has not begun.
pub const NOT_YET_VALID: u8 = 33;
/// The validity window has ended.
pub const EXPIRED: u8 = 34;
/// The bundle does not fit the device's slots.
pub const SLOT: u8 = 35;
/// The target set has too little room.
pub const NO_SPACE: u8 = 36;
/// The update would cost more bytes than the budget.
pub const BUDGET: u8 = 37;
/// This agent lacks a decoder or a buffer.
pub const CAPABILITY: u8 = 38;
/// The other set is the way back and must not be written.
pub const TRIAL_RUNNING: u8 = 39;
/// There is nothing to go back to.
pub const NO_WAY_BACK: u8 = 40;
/// This machine's firmware would refuse the UKI.
pub const SECURE_BOOT: u8 = 41;
/// The device's storage failed.
pub const STORAGE: u8 = 50;
/// Another process is using the device.
pub const BUSY: u8 = 51;
/// The file system cannot do fs-verity.
pub const VERITY: u8 = 52;
/// The journal is broken.
pub const JOURNAL: u8 = 53;
/// There is no boot record to work with, or nothing to boot.
pub const BOOT_RECORD: u8 = 54;
/// The boot loader's state could not be read or written.
pub const BOOT_LOADER: u8 = 55;
/// The order does not fit the device's state, or our own code broke a contract.
pub const MISUSE: u8 = 60;
/// The source of the bundle failed.
pub const SOURCE: u8 = 70;
/// The bundle at its address was replaced while it was read.
pub const SOURCE_CHANGED: u8 = 71;
/// The hours in which bundles are fetched have not begun, or have ended.
pub const WINDOW_CLOSED: u8 = 72;
/// The running trial failed a health check.
pub const HEALTH: u8 = 80;

/// Something that a set holds is damaged.
pub const DAMAGED: u8 = 81;

/// The exit code of an error of core.
pub const fn code_of(error: &Error) -> u8 {
    match error {
        Error::BundleInvalid(fault) => bundle_code(fault),
        Error::PolicyRefused(refusal) => policy_code(refusal),
        Error::Storage(error) => storage_code(error),
        Error::Misuse(_) => MISUSE,
    }
}

const fn bundle_code(fault: &BundleInvalid) -> u8 {
    match fault {
        BundleInvalid::SealStatement => SEAL_STATEMENT,
        BundleInvalid::SealUki { .. } | BundleInvalid::Uki { .. } => UKI,
        BundleInvalid::SignatureWrong { .. }
        | BundleInvalid::Damaged {
            part: Part::Signatures,
        } => SIGNATURE,
        _ => BUNDLE,
    }
}

const fn policy_code(refusal: &PolicyRefused) -> u8 {
    match refusal {
        PolicyRefused::UnknownSigner => UNKNOWN_SIGNER,
        PolicyRefused::WrongCompatible => COMPATIBLE,
        PolicyRefused::BelowFloor { .. } => BELOW_FLOOR,
        PolicyRefused::NotYetValid { .. } => NOT_YET_VALID,
        PolicyRefused::Expired { .. } => EXPIRED,
        PolicyRefused::SlotUnknown { .. } | PolicyRefused::SlotTooSmall { .. } => SLOT,
        PolicyRefused::NoSpace { .. } => NO_SPACE,
        PolicyRefused::BudgetExceeded { .. } => BUDGET,
        PolicyRefused::BaseDamaged { .. } => DAMAGED,
        PolicyRefused::NoDecoder | PolicyRefused::BufferTooSmall { .. } => CAPABILITY,
        PolicyRefused::TrialRunning => TRIAL_RUNNING,
        PolicyRefused::NothingToReturnTo | PolicyRefused::ReturnBelowFloor { .. } => NO_WAY_BACK,
    }
}

const fn storage_code(error: &StorageError) -> u8 {
    if matches!(error.object, StorageObject::BootLoader) {
        return BOOT_LOADER;
    }
    match error.fault {
        StorageFault::Busy => BUSY,
        StorageFault::VerityUnsupported => VERITY,
        StorageFault::ChainBroken => JOURNAL,
        StorageFault::RecordCorrupt => BOOT_RECORD,
        StorageFault::Code(_)
        | StorageFault::ReadBack
        | StorageFault::Digest
        | StorageFault::Full
        | StorageFault::Short => STORAGE,
    }
}
