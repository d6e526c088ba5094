//! Exit codes: one table for the program, its man page and its tests. The numbers are core's.

pub use twinseal_core::exit::*;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The exit code.
    pub code: u8,
    /// A short name, stable, for machines.
    pub name: &'static str,
    /// What it means, for people.
    pub meaning: &'static str,
}

const fn row(code: u8, name: &'static str, meaning: &'static str) -> Row {
    Row {
        code,
        name,
        meaning,
    }
}

/// Every exit code, ascending.
pub const TABLE: &[Row] = &[
    row(OK, "ok", "Done."),
    row(
        NO,
        "no",
        "The answer is no: no restart is needed (reboot-needed only).",
    ),
    row(
        USAGE,
        "usage",
        "The command line or the device description is wrong.",
    ),
    row(
        BUNDLE,
        "bundle-invalid",
        "The bundle is damaged, incomplete, or not made by the rules.",
    ),
    row(
        SEAL_STATEMENT,
        "seal-statement",
        "The manifest seals another composefs image than the bundle carries.",
    ),
    row(
        UKI,
        "uki",
        "The UKI cannot be read, or seals another composefs image than the bundle carries.",
    ),
    row(
        SIGNATURE,
        "signature",
        "A signature by a trusted key is wrong, or the signatures are damaged.",
    ),
    row(
        UNKNOWN_SIGNER,
        "unknown-signer",
        "No signature is by a key that this device trusts.",
    ),
    row(
        COMPATIBLE,
        "wrong-compatible",
        "The bundle is for another device type.",
    ),
    row(
        BELOW_FLOOR,
        "below-floor",
        "The bundle's anti-rollback version is below the device's floor.",
    ),
    row(
        NOT_YET_VALID,
        "not-yet-valid",
        "The bundle's validity window has not begun.",
    ),
    row(
        EXPIRED,
        "expired",
        "The bundle's validity window has ended.",
    ),
    row(
        SLOT,
        "slot",
        "The bundle does not fit the device's slots: one is missing, too small, or would be left without content.",
    ),
    row(
        NO_SPACE,
        "no-space",
        "The target set has too little free space.",
    ),
    row(
        BUDGET,
        "budget",
        "The update would take more bytes than the budget.",
    ),
    row(
        CAPABILITY,
        "capability",
        "This agent has no decoder, or too small a buffer, for the bundle.",
    ),
    row(
        TRIAL_RUNNING,
        "trial-running",
        "The other set is the way back: the running set is on trial, or about to be left.",
    ),
    row(
        NO_WAY_BACK,
        "no-way-back",
        "The other set is not good, or below the floor: there is nothing to go back to.",
    ),
    row(
        SECURE_BOOT,
        "secure-boot",
        "This machine's firmware would refuse the UKI, or what the firmware trusts cannot be read.",
    ),
    row(STORAGE, "storage", "The device's storage failed."),
    row(BUSY, "busy", "Another process is using this device."),
    row(
        VERITY,
        "verity-unsupported",
        "The file system cannot do fs-verity, and the device requires it.",
    ),
    row(
        JOURNAL,
        "journal-broken",
        "The journal's chain is broken, or shorter than the boot record says.",
    ),
    row(
        BOOT_RECORD,
        "boot-record",
        "The boot record is blank or cannot be read, or no set can be booted.",
    ),
    row(
        BOOT_LOADER,
        "boot-loader",
        "The boot loader's own state (firmware variables) could not be read or written.",
    ),
    row(
        MISUSE,
        "misuse",
        "The order does not fit the state of the device.",
    ),
    row(
        SOURCE,
        "source",
        "The bundle's source could not be opened or read.",
    ),
    row(
        SOURCE_CHANGED,
        "source-changed",
        "The bundle at its address was replaced while it was read.",
    ),
    row(
        WINDOW_CLOSED,
        "window-closed",
        "The hours in which bundles are fetched have not begun, or have ended. What is there stays, and the next install goes on.",
    ),
    row(
        HEALTH,
        "unhealthy",
        "The running trial failed a health check.",
    ),
    row(
        DAMAGED,
        "damaged",
        "Something in a set is missing, damaged or not sealed, or its release cannot be proved (check, repair, install from a base).",
    ),
];

/// The short name of a code; empty for a code that is not in the table.
pub fn name(code: u8) -> &'static str {
    TABLE
        .iter()
        .find(|row| row.code == code)
        .map_or("", |row| row.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinseal_core::Error;
    use twinseal_core::error::{
        BundleInvalid, Misuse, Part, PolicyRefused, StorageError, StorageFault, StorageObject,
        StorageOperation,
    };
    use twinseal_core::wire::digest::BlobDigest;

    #[test]
    fn codes_ascend_and_names_are_unique() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
        for row in TABLE {
            assert_eq!(
                TABLE.iter().filter(|other| other.name == row.name).count(),
                1,
                "{}",
                row.name
            );
            assert!(row.meaning.ends_with('.'), "{}", row.name);
        }
    }

    #[test]
    fn codes_stay() {
        let codes: Vec<(u8, &str)> = TABLE.iter().map(|row| (row.code, row.name)).collect();
        assert_eq!(
            codes,
            [
                (0, "ok"),
                (1, "no"),
                (2, "usage"),
                (20, "bundle-invalid"),
                (21, "seal-statement"),
                (22, "uki"),
                (23, "signature"),
                (30, "unknown-signer"),
                (31, "wrong-compatible"),
                (32, "below-floor"),
                (33, "not-yet-valid"),
                (34, "expired"),
                (35, "slot"),
                (36, "no-space"),
                (37, "budget"),
                (38, "capability"),
                (39, "trial-running"),
                (40, "no-way-back"),
                (41, "secure-boot"),
                (50, "storage"),
                (51, "busy"),
                (52, "verity-unsupported"),
                (53, "journal-broken"),
                (54, "boot-record"),
                (55, "boot-loader"),
                (60, "misuse"),
                (70, "source"),
                (71, "source-changed"),
                (72, "window-closed"),
                (80, "unhealthy"),
                (81, "damaged"),
            ]
        );
    }

    #[test]
    fn every_error_of_core_has_a_row() {
        let storage = |fault| {
            Error::Storage(StorageError {
                operation: StorageOperation::Open,
                object: StorageObject::Journal,
                fault,
            })
        };
        let digest = BlobDigest::sha256([0; 32]);
        let pairs = [
            (BundleInvalid::TrailingBytes.into(), BUNDLE),
            (BundleInvalid::SealStatement.into(), SEAL_STATEMENT),
            (BundleInvalid::SealUki { sealed: digest }.into(), UKI),
            (
                BundleInvalid::SignatureWrong { key: [0; 8] }.into(),
                SIGNATURE,
            ),
            (
                BundleInvalid::Damaged {
                    part: Part::Signatures,
                }
                .into(),
                SIGNATURE,
            ),
            (BundleInvalid::Damaged { part: Part::Info }.into(), BUNDLE),
            (PolicyRefused::UnknownSigner.into(), UNKNOWN_SIGNER),
            (PolicyRefused::WrongCompatible.into(), COMPATIBLE),
            (
                PolicyRefused::BelowFloor {
                    version: 1,
                    floor: 2,
                }
                .into(),
                BELOW_FLOOR,
            ),
            (
                PolicyRefused::NotYetValid { not_before: 1 }.into(),
                NOT_YET_VALID,
            ),
            (PolicyRefused::Expired { not_after: 1 }.into(), EXPIRED),
            (PolicyRefused::SlotUnknown { payload: 1 }.into(), SLOT),
            (
                PolicyRefused::SlotTooSmall {
                    needed: 2,
                    available: 1,
                }
                .into(),
                SLOT,
            ),
            (
                PolicyRefused::NoSpace {
                    needed: 2,
                    available: 1,
                }
                .into(),
                NO_SPACE,
            ),
            (
                PolicyRefused::BudgetExceeded {
                    needed: 2,
                    budget: 1,
                }
                .into(),
                BUDGET,
            ),
            (PolicyRefused::BaseDamaged { base: digest }.into(), DAMAGED),
            (PolicyRefused::NoDecoder.into(), CAPABILITY),
            (
                PolicyRefused::BufferTooSmall {
                    needed: 2,
                    available: 1,
                }
                .into(),
                CAPABILITY,
            ),
            (PolicyRefused::TrialRunning.into(), TRIAL_RUNNING),
            (PolicyRefused::NothingToReturnTo.into(), NO_WAY_BACK),
            (
                PolicyRefused::ReturnBelowFloor {
                    version: 1,
                    floor: 2,
                }
                .into(),
                NO_WAY_BACK,
            ),
            (storage(StorageFault::Code(5)), STORAGE),
            (storage(StorageFault::Busy), BUSY),
            (storage(StorageFault::VerityUnsupported), VERITY),
            (storage(StorageFault::ChainBroken), JOURNAL),
            (storage(StorageFault::RecordCorrupt), BOOT_RECORD),
            (Misuse::NoTrial.into(), MISUSE),
        ];
        let loader = Error::Storage(StorageError {
            operation: StorageOperation::Write,
            object: StorageObject::BootLoader,
            fault: StorageFault::Code(28),
        });
        assert_eq!(code_of(&loader), BOOT_LOADER);
        for (error, expected) in pairs {
            assert_eq!(code_of(&error), expected, "{error}");
            assert!(!name(expected).is_empty());
        }
    }
}
