//! Everything that can go wrong, sorted by who is to blame.
//!
//! # Invariants
//! - All errors are `Copy`, carry the exact fact and no text; `Display` is a full sentence that says what to do where there is
//!   something to do.

use crate::wire::digest::BlobDigest;
use crate::wire::signatures::KeyId;
use core::fmt;

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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BundleInvalid(error) => error.fmt(f),
            Self::PolicyRefused(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
            Self::Misuse(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ManifestHeader => "the header of `manifest`",
            Self::Manifest => "`manifest`",
            Self::SignaturesHeader => "the header of `signatures`",
            Self::Signatures => "`signatures`",
            Self::InfoHeader => "the header of an `info/` entry",
            Self::Info => "an `info/` entry",
            Self::IndexHeader => "the header of `index`",
            Self::Index => "`index`",
            Self::DataHeader => "the header of a `data` entry",
            Self::Data => "`data`",
            Self::End => "the end of the archive",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window => "the validity window",
            Self::Payloads => "the payloads",
            Self::Info => "the list of `info/` entries",
            Self::Routes => "the routes of the index",
            Self::DataParts => "the sizes of the data",
            Self::Needs => "what a device needs",
        })
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "the block's count or its reserved bytes are wrong",
            Self::Kind => "it has a kind that this agent does not know",
            Self::Role => "it has a role that this agent does not know",
            Self::Encoding => "it has an encoding that this agent does not know",
            Self::Digest => "it has a digest algorithm that this agent does not know",
            Self::Size => "a size or an offset is beyond its limit",
            Self::Reserved => "a reserved byte is not zero",
            Self::Order => "records stand in a wrong order",
            Self::Tiling => "ranges overlap or leave a gap",
            Self::Payload => "a blob does not fit the manifest's payloads",
        })
    }
}

impl fmt::Display for UkiFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPe => "is not a PE file with a section table",
            Self::Cmdline => "does not have exactly one .cmdline section",
            Self::CmdlineTooLong => "has a command line over the limit of 2,047 bytes",
            Self::Seal => "does not name exactly one composefs= digest on its command line",
        })
    }
}

impl fmt::Display for BundleInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { part } => write!(f, "The bundle ends inside {part}. Fetch it again."),
            Self::Length { expected, found } => {
                write!(f, "The bundle has {found} bytes and must have {expected}. Fetch it again.")
            }
            Self::TrailingBytes => f.write_str("Bytes stand after the end of the bundle. Fetch it again."),
            Self::HeaderMalformed { part } => write!(f, "In the bundle, {part} is damaged, or not in the one form that a bundle has.")
                .and_then(|()| f.write_str(" Fetch the bundle again.")),
            Self::UnexpectedEntry { part } => {
                write!(f, "Another entry stands where {part} must. Entries are missing, doubled or in another order.")
            }
            Self::Padding { part } => write!(f, "The padding before {part} is not zero. Fetch the bundle again."),
            Self::TooLarge { part } => write!(f, "In the bundle, {part} is larger than its limit. Ask the maker for a correct bundle."),
            Self::Unreadable { part } => write!(f, "In the bundle, {part} cannot be read. Ask the maker for a correct bundle."),
            Self::Damaged { part } => write!(f, "In the bundle, {part} is damaged: its digest is wrong. Fetch the bundle again."),
            Self::FormatUnsupported { found } => {
                write!(f, "The bundle has format {found}, and this agent reads format 1. Update the agent first.")
            }
            Self::SignatureWrong { key } => {
                f.write_str("`manifest` or `signatures` is damaged or forged: the signature by key ")?;
                key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(" is wrong.")
            }
            Self::Field { field } => write!(f, "In `manifest`, {field} broke the rules. Ask the maker for a correct bundle."),
            Self::SealStatement => {
                f.write_str("`manifest` seals another composefs image than the bundle carries. Ask the maker for a correct bundle.")
            }
            Self::IndexBlock { block } => write!(f, "`index` is damaged: block {block} has a wrong digest. Fetch the bundle again."),
            Self::IndexRecord { block, fault } => write!(f, "In `index`, block {block} holds a wrong record: {fault}."),
            Self::RangeDamaged { stored_offset } => {
                write!(f, "`data` is damaged: the range at byte {stored_offset} has a wrong digest. Fetch the bundle again.")
            }
            Self::RangeDecodes { stored_offset } => {
                write!(f, "In `data`, the range at byte {stored_offset} does not decode to what the index says.")
            }
            Self::BlobDigest { digest } => write!(f, "The content named {digest} has another fs-verity digest."),
            Self::Uki { fault } => write!(f, "The UKI in the bundle {fault}. Ask the maker for a correct bundle."),
            Self::SealUki { sealed } => {
                write!(f, "The UKI in the bundle seals another composefs image ({sealed}) than the bundle carries.")
            }
            Self::AlgorithmUnsupported => f.write_str("The bundle uses SHA-512 digests, which this agent cannot check yet."),
        }
    }
}

impl fmt::Display for PolicyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownSigner => f.write_str("No signature of the bundle is by a key that this device trusts."),
            Self::WrongCompatible => f.write_str("The bundle is for another device type: its `compatible` differs from this device's."),
            Self::BelowFloor { version, floor } => write!(
                f,
                "The bundle's anti-rollback version is {version}, below this device's floor {floor}: it would be a downgrade."
            ),
            Self::NotYetValid { not_before } => {
                write!(f, "The bundle is valid from {not_before} (seconds since 1970) on. Check the device's clock or wait.")
            }
            Self::Expired { not_after } => {
                write!(f, "The bundle was valid until {not_after} (seconds since 1970). Ask the maker for a newer one.")
            }
            Self::SlotUnknown { payload } => {
                write!(f, "Payload {payload} of the bundle is for a slot that the device description does not name.")
            }
            Self::SlotTooSmall { needed, available } => {
                write!(f, "A slot has {available} bytes and the payload needs {needed}.")
            }
            Self::NoSpace { needed, available } => {
                write!(f, "The target set has {available} bytes free and the update needs {needed}.")
            }
            Self::BudgetExceeded { needed, budget } => {
                write!(f, "The update takes {needed} bytes and the budget allows {budget}. Nothing more was fetched.")
            }
            Self::NoDecoder => f.write_str("The bundle is compressed with zstd, and this agent has no decoder for it."),
            Self::BufferTooSmall { needed, available } => {
                write!(f, "The bundle takes a buffer of {needed} bytes and this device's has {available}.")
            }
            Self::TrialRunning => f.write_str(
                "The running set is on trial, and the other set is the way back. Say mark-good or mark-bad before you install.",
            ),
            Self::NothingToReturnTo => f.write_str("The other set is not good to boot: there is nothing to go back to."),
            Self::ReturnBelowFloor { version, floor } => write!(
                f,
                "The other set has anti-rollback version {version}, below this device's floor {floor}: going back would be a downgrade."
            ),
        }
    }
}

impl fmt::Display for StorageOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Opening",
            Self::Read => "Reading",
            Self::Write => "Writing",
            Self::Sync => "Syncing",
            Self::Rename => "Renaming",
            Self::Remove => "Removing",
            Self::EnableVerity => "Enabling fs-verity on",
            Self::MeasureVerity => "Measuring fs-verity of",
            Self::Mount => "Mounting",
            Self::Lock => "Locking",
        })
    }
}

impl fmt::Display for StorageObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BootSlot => "the boot slot",
            Self::RootSlot => "the root slot",
            Self::ImageSlot => "an image slot",
            Self::Object => "an object",
            Self::Uki => "the UKI",
            Self::ComposefsImage => "the composefs image",
            Self::Scratch => "the agent's scratch file",
            Self::BootRecord => "the boot record",
            Self::Journal => "the journal",
        })
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} failed: ", self.operation, self.object)?;
        match self.fault {
            StorageFault::Code(code) => write!(f, "the system reports error {code}."),
            StorageFault::ReadBack => f.write_str("what came back from the medium has another digest than the bundle says. Try again; if it stays, replace the medium."),
            StorageFault::Digest => f.write_str("what is there has another digest than its name."),
            StorageFault::Full => f.write_str("there is no room left. Free space or use a larger slot."),
            StorageFault::Short => f.write_str("it ended before all bytes were read."),
            StorageFault::VerityUnsupported => f.write_str(
                "the file system cannot do fs-verity. Make it with the verity feature, or say verity = \"absent\" in the device description.",
            ),
            StorageFault::RecordCorrupt => f.write_str("neither copy can be read."),
            StorageFault::ChainBroken => f.write_str("its chain of digests is broken."),
            StorageFault::Busy => f.write_str("another process is using this device. Wait for it to end."),
        }
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnexpectedFeed => "Bytes were fed that the installer did not ask for.",
            Self::InstallerFailed => "This installer failed before and must be made anew.",
            Self::NotAccepted => "The plan must be accepted before the work can start.",
            Self::WorkspaceTooSmall => {
                "A buffer of the workspace is smaller than its documented minimum."
            }
            Self::NoTrial => "No set is on trial.",
            Self::TrialNotRunning => {
                "The set on trial is not the one that is running. Restart the device first."
            }
        })
    }
}
