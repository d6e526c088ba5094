//! Exit codes: the numbers that every program of twinseal gives for the same cause, so that scripts can tell them apart.
//!
//! | code | cause |
//! |---|---|
//! | 0 | done |
//! | 1 | anything else |
//! | 2 | the command line is wrong |
//! | 20 to 29 | the bundle is invalid |
//! | 30 to 49 | the bundle is sound, and the device must not take it |
//! | 50 to 59 | the device's storage |
//! | 60 | a mistake of the program |
//! | 70 | the source of the bundle could not be read |

use twinseal_core::Error as CoreError;
use twinseal_core::error::{BundleInvalid, Part, PolicyRefused, StorageFault};

use crate::error::Error;

/// Anything else.
pub const OTHER: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The bundle is damaged, incomplete or not made by the rules.
pub const BUNDLE_INVALID: u8 = 20;
/// The manifest seals another composefs image than the bundle carries.
pub const SEAL_STATEMENT: u8 = 21;
/// The UKI is not one that a device could boot sealed, or seals another composefs image than the bundle carries.
pub const UKI: u8 = 22;
/// A signature by a trusted key is wrong, or the signatures are damaged.
pub const SIGNATURE: u8 = 23;
/// No signature is by a trusted key.
pub const UNKNOWN_SIGNER: u8 = 30;
/// The bundle is for another device type.
pub const WRONG_COMPATIBLE: u8 = 31;
/// The anti-rollback version is below the floor.
pub const BELOW_FLOOR: u8 = 32;
/// The validity window has not begun.
pub const NOT_YET_VALID: u8 = 33;
/// The validity window has ended.
pub const EXPIRED: u8 = 34;
/// The device has no such slot, or a smaller one.
pub const SLOT: u8 = 35;
/// Too little free space.
pub const NO_SPACE: u8 = 36;
/// More bytes than the budget allows.
pub const BUDGET_EXCEEDED: u8 = 37;
/// The device lacks a decoder or a large enough buffer.
pub const NO_DECODER: u8 = 38;
/// The running set is on trial.
pub const TRIAL_RUNNING: u8 = 39;
/// There is nothing to go back to.
pub const NO_WAY_BACK: u8 = 40;
/// The device's storage failed.
pub const STORAGE: u8 = 50;
/// Another process holds the device.
pub const STORAGE_BUSY: u8 = 51;
/// The file system cannot do fs-verity.
pub const VERITY_UNSUPPORTED: u8 = 52;
/// A journal is broken.
pub const JOURNAL: u8 = 53;
/// No boot record can be read.
pub const BOOT_RECORD: u8 = 54;
/// A mistake of the program.
pub const MISUSE: u8 = 60;
/// The source of the bundle could not be read.
pub const SOURCE: u8 = 70;

/// Every exit code and its meaning, ascending.
pub const TABLE: &[(u8, &str)] = &[
    (0, "Done."),
    (OTHER, "Something else failed; the message says what."),
    (USAGE, "The command line is wrong."),
    (
        BUNDLE_INVALID,
        "The bundle is damaged, incomplete, or not made by the rules.",
    ),
    (
        SEAL_STATEMENT,
        "The manifest seals another composefs image than the bundle carries.",
    ),
    (
        UKI,
        "The UKI cannot be read, or seals another composefs image than the bundle carries.",
    ),
    (
        SIGNATURE,
        "A signature by a trusted key is wrong, or the signatures are damaged.",
    ),
    (UNKNOWN_SIGNER, "No signature is by a key that was given."),
    (WRONG_COMPATIBLE, "The bundle is for another device type."),
    (
        BELOW_FLOOR,
        "The bundle's anti-rollback version is below the floor.",
    ),
    (NOT_YET_VALID, "The bundle's validity window has not begun."),
    (EXPIRED, "The bundle's validity window has ended."),
    (
        SLOT,
        "The bundle has an image for a slot that is missing or too small.",
    ),
    (
        NO_DECODER,
        "The bundle needs a decoder or a buffer that a device of this version does not have.",
    ),
    (STORAGE, "Temporary storage failed."),
    (MISUSE, "The program itself made a mistake."),
    (SOURCE, "The bundle could not be read."),
];

/// The exit code of an error of core: the same table as the device agents'.
pub const fn exit_code(error: &CoreError) -> u8 {
    match error {
        CoreError::BundleInvalid(fault) => match fault {
            BundleInvalid::SealStatement => SEAL_STATEMENT,
            BundleInvalid::SealUki { .. } | BundleInvalid::Uki { .. } => UKI,
            BundleInvalid::SignatureWrong { .. }
            | BundleInvalid::Damaged {
                part: Part::Signatures,
            } => SIGNATURE,
            _ => BUNDLE_INVALID,
        },
        CoreError::PolicyRefused(refusal) => policy_code(refusal),
        CoreError::Storage(error) => storage_code(&error.fault),
        CoreError::Misuse(_) => MISUSE,
    }
}

const fn policy_code(refusal: &PolicyRefused) -> u8 {
    match refusal {
        PolicyRefused::UnknownSigner => UNKNOWN_SIGNER,
        PolicyRefused::WrongCompatible => WRONG_COMPATIBLE,
        PolicyRefused::BelowFloor { .. } => BELOW_FLOOR,
        PolicyRefused::NotYetValid { .. } => NOT_YET_VALID,
        PolicyRefused::Expired { .. } => EXPIRED,
        PolicyRefused::SlotUnknown { .. } | PolicyRefused::SlotTooSmall { .. } => SLOT,
        PolicyRefused::NoSpace { .. } => NO_SPACE,
        PolicyRefused::BudgetExceeded { .. } => BUDGET_EXCEEDED,
        // Only a device has bases; there it has a code of its own.
        PolicyRefused::BaseDamaged { .. } => STORAGE,
        PolicyRefused::NoDecoder | PolicyRefused::BufferTooSmall { .. } => NO_DECODER,
        PolicyRefused::TrialRunning => TRIAL_RUNNING,
        PolicyRefused::NothingToReturnTo | PolicyRefused::ReturnBelowFloor { .. } => NO_WAY_BACK,
    }
}

const fn storage_code(fault: &StorageFault) -> u8 {
    match fault {
        StorageFault::Busy => STORAGE_BUSY,
        StorageFault::VerityUnsupported => VERITY_UNSUPPORTED,
        StorageFault::ChainBroken => JOURNAL,
        StorageFault::RecordCorrupt => BOOT_RECORD,
        StorageFault::Code(_)
        | StorageFault::ReadBack
        | StorageFault::Digest
        | StorageFault::Full
        | StorageFault::Short => STORAGE,
    }
}

/// The exit code of any error of this crate.
pub const fn exit_code_of(error: &Error) -> u8 {
    match error {
        Error::Bundle(error) => exit_code(error),
        Error::Unsound(_) => BUNDLE_INVALID,
        Error::Source(_) => SOURCE,
        _ => OTHER,
    }
}

/// The name of an error of core, for tables: its variants from the outside in, `BundleInvalid.HeaderMalformed.DataHeader` for
/// example. Numbers and digests in the error are left out.
pub fn error_name(error: &CoreError) -> String {
    let text = format!("{error:?}");
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    let variants =
        words.filter(|word| word.starts_with(|letter: char| letter.is_ascii_uppercase()));
    let variants: Vec<&str> = variants
        .filter(|word| *word != "Some" && *word != "None")
        .collect();
    variants.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::error::{
        Misuse, RecordFault, StorageError, StorageObject, StorageOperation, UkiFault,
    };
    use twinseal_core::wire::digest::BlobDigest;

    #[test]
    fn codes_and_names_are_those_of_the_table() {
        let table: [(CoreError, u8, &str); 10] = [
            (
                BundleInvalid::HeaderMalformed {
                    part: Part::DataHeader,
                }
                .into(),
                20,
                "BundleInvalid.HeaderMalformed.DataHeader",
            ),
            (
                BundleInvalid::SealStatement.into(),
                21,
                "BundleInvalid.SealStatement",
            ),
            (
                BundleInvalid::SealUki {
                    sealed: BlobDigest::sha256([0xab; 32]),
                }
                .into(),
                22,
                "BundleInvalid.SealUki",
            ),
            (
                BundleInvalid::Uki {
                    fault: UkiFault::Seal,
                }
                .into(),
                22,
                "BundleInvalid.Uki.Seal",
            ),
            (
                BundleInvalid::Damaged {
                    part: Part::Signatures,
                }
                .into(),
                23,
                "BundleInvalid.Damaged.Signatures",
            ),
            (
                BundleInvalid::SignatureWrong { key: [1; 8] }.into(),
                23,
                "BundleInvalid.SignatureWrong",
            ),
            (
                BundleInvalid::IndexRecord {
                    block: 3,
                    fault: RecordFault::Order,
                }
                .into(),
                20,
                "BundleInvalid.IndexRecord.Order",
            ),
            (
                PolicyRefused::Expired { not_after: 7 }.into(),
                34,
                "PolicyRefused.Expired",
            ),
            (Misuse::NotAccepted.into(), 60, "Misuse.NotAccepted"),
            (
                StorageError {
                    operation: StorageOperation::Lock,
                    object: StorageObject::Scratch,
                    fault: StorageFault::Busy,
                }
                .into(),
                51,
                "Storage.StorageError.Lock.Scratch.Busy",
            ),
        ];
        for (error, code, name) in table {
            assert_eq!(
                (exit_code(&error), error_name(&error).as_str()),
                (code, name)
            );
        }
    }
}
