//! Everything that can go wrong, sorted by who is to blame.
//!
//! # Invariants
//! - All errors are `Copy`, carry the exact fact and no text; `Display` is a full sentence that says what to do where there is
//!   something to do.

use crate::patch::PatchFault;
use crate::wire::digest::BlobDigest;
use crate::wire::signatures::KeyId;

mod display;

/// Any error of core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error {
    /// The sender's fault: the bundle is damaged, incomplete or not made by the rules.
    BundleInvalid(BundleInvalid),
    /// Our decision: the bundle is sound, but this device must not take it.
    PolicyRefused(PolicyRefused),
    /// The device's fault: its storage or its boot state.
    Storage(StorageError),
    /// Our caller's fault.
    Misuse(Misuse),
}

/// A named part of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(missing_docs, reason = "the names say it")]
pub enum Part {
    ManifestHeader,
    Manifest,
    SignaturesHeader,
    Signatures,
    InfoHeader,
    Info,
    IndexHeader,
    Index,
    DataHeader,
    Data,
    End,
}

/// A field of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(missing_docs, reason = "the names are those of the manifest's fields")]
pub enum Field {
    Window,
    Payloads,
    Info,
    Routes,
    DataParts,
    Needs,
}

/// What is wrong with a record of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RecordFault {
    /// A block with no records, too many, or bytes that must be zero.
    Block,
    /// A kind of record that this version does not know.
    Kind,
    /// A role that this version does not know.
    Role,
    /// An encoding that this version does not know.
    Encoding,
    /// A digest algorithm that this version does not know.
    Digest,
    /// A size or an offset beyond its limit, or sizes that contradict each other.
    Size,
    /// A reserved byte that is not zero.
    Reserved,
    /// A record where another kind must stand, or a list that ends too early or too late.
    Order,
    /// Ranges that leave a gap in a blob or in the data, or overlap.
    Tiling,
    /// A blob that does not fit the manifest's payloads.
    Payload,
}

/// What is wrong with a UKI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum UkiFault {
    /// It is not a PE file with a section table within reach.
    NotPe,
    /// It has no `.cmdline` section, or two.
    Cmdline,
    /// Its command line is longer than the limit.
    CmdlineTooLong,
    /// Its command line has no `composefs=` digest, or more than one.
    Seal,
}

/// The bundle is damaged, incomplete, or not made by the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BundleInvalid {
    /// The source ended inside a part.
    Truncated {
        /// Where.
        part: Part,
    },
    /// The file is longer or shorter than the manifest says.
    Length {
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// Bytes stand after the end of the archive.
    TrailingBytes,
    /// A tar header is not the one form that a bundle has.
    HeaderMalformed {
        /// Which.
        part: Part,
    },
    /// Another entry stands where this one must: entries are missing, doubled or in another order.
    UnexpectedEntry {
        /// What must stand there.
        part: Part,
    },
    /// Padding before a header is not zero.
    Padding {
        /// Which header.
        part: Part,
    },
    /// A part is larger than its named limit.
    TooLarge {
        /// Which.
        part: Part,
    },
    /// A part cannot be read as what it must be.
    Unreadable {
        /// Which.
        part: Part,
    },
    /// A part has another digest than it must.
    Damaged {
        /// Which.
        part: Part,
    },
    /// The format version is not the one that this agent reads.
    FormatUnsupported {
        /// The version of the bundle.
        found: u16,
    },
    /// A signature by a key that this device trusts is wrong.
    SignatureWrong {
        /// The key.
        key: KeyId,
    },
    /// A field of the manifest contradicts the rules or another field.
    Field {
        /// Which.
        field: Field,
    },
    /// The manifest seals another composefs image than it carries.
    SealStatement,
    /// A block of the index has another digest than the chain says.
    IndexBlock {
        /// Number of the block in its route.
        block: u32,
    },
    /// A record of the index is wrong.
    IndexRecord {
        /// Number of the block in its route.
        block: u32,
        /// What is wrong.
        fault: RecordFault,
    },
    /// A stored range has another digest than the index says.
    RangeDamaged {
        /// Where it starts in the data.
        stored_offset: u64,
    },
    /// A range does not decode to the bytes that the index says.
    RangeDecodes {
        /// Where it starts in the data.
        stored_offset: u64,
    },
    /// The instructions of a patch break the rules.
    Patch {
        /// Where the range starts in the data.
        stored_offset: u64,
        /// What is wrong.
        fault: PatchFault,
    },
    /// A blob has another fs-verity digest than its name, although every range was right.
    BlobDigest {
        /// Its name.
        digest: BlobDigest,
    },
    /// The UKI is not one that this device could boot sealed.
    Uki {
        /// What is wrong.
        fault: UkiFault,
    },
    /// The UKI's command line seals another composefs image than the bundle carries.
    SealUki {
        /// The image that the UKI seals.
        sealed: BlobDigest,
    },
    /// A digest algorithm that has a place in the format and no code in this agent.
    AlgorithmUnsupported,
}

/// The bundle is sound, but this device must not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PolicyRefused {
    /// No signature is by a key that this device trusts.
    UnknownSigner,
    /// The bundle is for another device type.
    WrongCompatible,
    /// The anti-rollback version is below the floor.
    BelowFloor {
        /// That of the bundle.
        version: u64,
        /// That of the device.
        floor: u64,
    },
    /// The validity window has not begun.
    NotYetValid {
        /// When it begins, in seconds since 1970.
        not_before: u64,
    },
    /// The validity window has ended.
    Expired {
        /// When it ended, in seconds since 1970.
        not_after: u64,
    },
    /// The bundle has a payload for a slot that this device does not have.
    SlotUnknown {
        /// Position of the payload in the manifest.
        payload: u8,
    },
    /// A slot is smaller than its payload.
    SlotTooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes that the slot has.
        available: u64,
    },
    /// The target set has too little free space.
    NoSpace {
        /// Bytes needed.
        needed: u64,
        /// Bytes that are free.
        available: u64,
    },
    /// The work would fetch more bytes than allowed.
    BudgetExceeded {
        /// Bytes that it would take.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// What the device has is damaged and cannot be patched, and getting the blob in another way would go over the budget, or back
    /// to bytes that the source has already given.
    BaseDamaged {
        /// The name of what is damaged.
        base: BlobDigest,
    },
    /// A range is stored in an encoding for which this device has no decoder.
    NoDecoder,
    /// The bundle's front matter or its ranges are larger than this device's buffer.
    BufferTooSmall {
        /// Bytes needed.
        needed: u32,
        /// Bytes that there are.
        available: u32,
    },
    /// The running set is on trial: the other set is the way back and must not be written.
    TrialRunning,
    /// The other set is not good to boot, so there is nothing to go back to.
    NothingToReturnTo,
    /// The other set's anti-rollback version is below the floor.
    ReturnBelowFloor {
        /// That of the other set.
        version: u64,
        /// That of the device.
        floor: u64,
    },
}

/// What an operation of the storage was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(missing_docs, reason = "the names say it")]
pub enum StorageOperation {
    Open,
    Read,
    Write,
    Sync,
    Rename,
    Remove,
    EnableVerity,
    MeasureVerity,
    Mount,
    Lock,
}

/// What the storage was working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(missing_docs, reason = "the names say it")]
pub enum StorageObject {
    BootSlot,
    RootSlot,
    ImageSlot,
    Object,
    Uki,
    ComposefsImage,
    Scratch,
    BootRecord,
    Journal,
    BootLoader,
    Medium,
}

/// Why an operation of the storage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StorageFault {
    /// The operating system or the driver said this number (`errno` on Linux).
    Code(i32),
    /// The medium gave back other bytes than were written.
    ReadBack,
    /// What is there has another digest than its name.
    Digest,
    /// The medium is full, or the slot is too small.
    Full,
    /// It ended before all bytes were read.
    Short,
    /// The file system cannot do fs-verity, and this device requires it.
    VerityUnsupported,
    /// Neither copy of the boot record can be read.
    RecordCorrupt,
    /// The journal's chain is broken.
    ChainBroken,
    /// Another process holds the device.
    Busy,
}

/// The device's storage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StorageError {
    /// What was being done.
    pub operation: StorageOperation,
    /// To what.
    pub object: StorageObject,
    /// Why it failed.
    pub fault: StorageFault,
}

/// The caller broke the contract of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Misuse {
    /// Bytes were fed that nobody asked for, or another number than asked.
    UnexpectedFeed,
    /// The installer failed before; it must be made anew.
    InstallerFailed,
    /// The plan was not accepted before the work.
    NotAccepted,
    /// A buffer is smaller than its documented minimum.
    WorkspaceTooSmall,
    /// The running set is not on trial.
    NoTrial,
    /// The set on trial is not the one that is running.
    TrialNotRunning,
}

impl From<BundleInvalid> for Error {
    fn from(error: BundleInvalid) -> Self {
        Self::BundleInvalid(error)
    }
}

impl From<PolicyRefused> for Error {
    fn from(error: PolicyRefused) -> Self {
        Self::PolicyRefused(error)
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<Misuse> for Error {
    fn from(error: Misuse) -> Self {
        Self::Misuse(error)
    }
}

impl core::error::Error for Error {}
impl core::error::Error for BundleInvalid {}
impl core::error::Error for PolicyRefused {}
impl core::error::Error for StorageError {}
impl core::error::Error for Misuse {}
