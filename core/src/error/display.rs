//! What each error says: a full sentence, and what to do where there is something to do.

use super::{
    BundleInvalid, Error, Field, Misuse, Part, PolicyRefused, RecordFault, StorageError,
    StorageFault, StorageObject, StorageOperation, UkiFault,
};
use crate::patch::PatchFault;
use crate::wire::FORMAT_VERSION;
use core::fmt;

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

impl fmt::Display for PatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a number is not in its shortest form",
            Self::EmptyStep => "a step makes nothing",
            Self::Batch => "a batch has no step, or more than a device keeps",
            Self::Seek => "a step leaves the base",
            Self::BeyondBase => "a step goes beyond the end of the base",
            Self::TooLong => "it makes more than it must",
            Self::TooShort => "it ends too early",
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
                write!(f, "The bundle has format {found}, and this agent reads format {FORMAT_VERSION}. A newer format needs a newer agent, an older one a new bundle.")
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
            Self::Patch { stored_offset, fault } => {
                write!(f, "In `data`, the patch at byte {stored_offset} is wrong: {fault}. Ask the maker for a correct bundle.")
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
            Self::BaseDamaged { base } => write!(
                f,
                "On this device, {base} is damaged, and without it the update cannot be had within the budget or from this source. "
            )
            .and_then(|()| f.write_str("Run `twinseal check`, then `twinseal repair`, or allow more bytes.")),
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
            Self::BootLoader => "the boot loader's state",
            Self::Medium => "a medium with bundles",
        })
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} failed: {}",
            self.operation, self.object, self.fault
        )
    }
}

impl fmt::Display for StorageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "the system reports error {code}."),
            Self::ReadBack => f.write_str("what came back from the medium has another digest than the bundle says. Try again; if it stays, replace the medium."),
            Self::Digest => f.write_str("what is there has another digest than its name."),
            Self::Full => f.write_str("there is no room left. Free space or use a larger slot."),
            Self::Short => f.write_str("it ended before all bytes were read."),
            Self::VerityUnsupported => f.write_str(
                "the file system cannot do fs-verity. Make it with the verity feature, or say verity = \"absent\" in the device description.",
            ),
            Self::RecordCorrupt => f.write_str("neither copy can be read."),
            Self::ChainBroken => f.write_str("its chain of digests is broken."),
            Self::Busy => f.write_str("another process is using this device. Wait for it to end."),
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
