//! What can be wrong with a root file system or with an EROFS image, sorted by who has to act.
//!
//! [`RootError`] says where; [`ArchiveFault`], [`TreeFault`] and [`ImageFault`] say exactly what.

use std::fmt;
use std::io;
use std::path::PathBuf;

use composefs::erofs::reader::ErofsReaderError;

/// Why a root file system could not become an image, or an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The host could not read an input.
    #[error(
        "`{}` could not be read: {source}. Check that it exists and that this user may read it.",
        path.display()
    )]
    Read {
        /// What was being read.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A file was not the same when it was read again.
    #[error("`{}` changed while it was being read. Stop whatever writes there and build again.", path.display())]
    Changed {
        /// The file that changed, relative to the input where it has a name there.
        path: PathBuf,
    },
    /// A compressed archive could not be decompressed.
    #[error("`{}` could not be decompressed: {source}. Make the archive again or decompress it first.", path.display())]
    Decompress {
        /// The archive.
        path: PathBuf,
        /// What the decompressor said.
        source: io::Error,
    },
    /// The archive is compressed in a form that is not read here.
    #[error("`{}` is compressed with {format}, which is not read. Decompress it first, or use zstd or gzip.", path.display())]
    CompressionNotRead {
        /// The archive.
        path: PathBuf,
        /// The name of the form.
        format: &'static str,
    },
    /// The temporary file for a decompressed archive could not be written.
    #[error(
        "the decompressed archive could not be stored: {source}. Point TMPDIR at a directory with enough room."
    )]
    Temporary {
        /// What the host said.
        source: io::Error,
    },
    /// The archive breaks a rule of tar or one of ours.
    #[error("`{}`, at byte {offset} of the archive, {fault}", member.display())]
    Archive {
        /// The member as far as its name is known, else the archive.
        member: PathBuf,
        /// Where its header begins in the (decompressed) archive.
        offset: u64,
        /// The rule that was broken.
        fault: ArchiveFault,
    },
    /// The tree holds something that the image cannot.
    #[error("`{}` {fault}", path.display())]
    Tree {
        /// The file, relative to the root.
        path: PathBuf,
        /// Why it cannot be carried.
        fault: TreeFault,
    },
    /// The bytes are not an image that this tool accepts.
    #[error("the composefs image is refused: {0}")]
    Image(#[from] ImageFault),
}

/// The rule of tar, or of this tool, that an archive breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFault {
    /// The first block is no tar header.
    NotTar,
    /// The checksum of a later header is wrong.
    Checksum,
    /// The named header field or extended record is no number of its range.
    Number(&'static str),
    /// The archive ends inside a member.
    CutShort,
    /// The archive ends without its two zero blocks.
    EndMarkerMissing,
    /// Something other than zeros follows the end marker.
    DataAfterEnd,
    /// An extended header is larger than any honest one.
    ExtensionTooLarge,
    /// An extended header is not a list of records.
    ExtensionMalformed,
    /// An extended header is followed by no member.
    ExtensionWithoutMember,
    /// The member has a type that is not read.
    TypeNotRead(u8),
    /// The member is stored with holes left out.
    SparseFile,
    /// Access rules or attributes are stored under the named keyword, which is not read.
    AttributesNotRead(&'static str),
    /// A member that has no content has some.
    UnexpectedData,
    /// The name begins with `/`.
    AbsoluteName,
    /// The name contains `..`.
    ParentName,
    /// The name is empty or contains a zero byte.
    NameInvalid,
    /// A directory of the name is something else in this archive.
    ThroughNonDirectory,
    /// The name was used before, and not both times for a directory.
    NamedTwice,
    /// A hard link to a name that did not come before.
    LinkTargetMissing,
    /// A hard link to a directory.
    LinkTargetDirectory,
    /// The root of the archive is not a directory.
    RootNotDirectory,
}

impl fmt::Display for ArchiveFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::NotTar => {
                "is not a tar archive. Give a .tar, .tar.zst or .tar.gz file, or a directory."
            }
            Self::Checksum => {
                "has a header with a wrong checksum. The archive is damaged: make it again."
            }
            Self::Number(field) => {
                return write!(
                    formatter,
                    "has a `{field}` that is no number in range. Make the archive again."
                );
            }
            Self::CutShort => "is cut short. The archive is incomplete: make or copy it again.",
            Self::EndMarkerMissing => {
                "is where the archive stops without an end marker. It is incomplete: copy it again."
            }
            Self::DataAfterEnd => {
                "is the end marker, yet more follows. Join archives with `tar --concatenate`."
            }
            Self::ExtensionTooLarge => {
                "has an extended header of more than 1 MiB. Store fewer attributes."
            }
            Self::ExtensionMalformed => {
                "has a malformed extended header. The archive is damaged: make it again."
            }
            Self::ExtensionWithoutMember => {
                "has an extended header that belongs to no member. Make the archive again."
            }
            Self::TypeNotRead(kind) => {
                let kind = char::from(*kind).escape_default();
                return write!(
                    formatter,
                    "has member type `{kind}`, which is not read. Make the archive with `tar --format=pax`."
                );
            }
            Self::SparseFile => {
                "is stored sparsely, which is not read. Make the archive without `--sparse`."
            }
            Self::AttributesNotRead(keyword) => {
                return write!(
                    formatter,
                    "stores attributes as `{keyword}`, which is not read. Make the archive with \
                     `tar --format=pax --xattrs --xattrs-include='*'`, without --acls and --selinux."
                );
            }
            Self::UnexpectedData => {
                "has content although its type has none. Make the archive again."
            }
            Self::AbsoluteName => {
                "has an absolute name. Make the archive from inside the root: `tar -C ROOT -c .`."
            }
            Self::ParentName => {
                "has `..` in its name. Make the archive from inside the root: `tar -C ROOT -c .`."
            }
            Self::NameInvalid => {
                "has an empty name or one with a zero byte. Make the archive again."
            }
            Self::ThroughNonDirectory => {
                "lies below something that is not a directory. Give it its real name."
            }
            Self::NamedTwice => {
                "is named twice, so readers could disagree about it. Make the archive anew instead of appending."
            }
            Self::LinkTargetMissing => {
                "is a hard link to a name that did not come before. Make the archive again."
            }
            Self::LinkTargetDirectory => "is a hard link to a directory. Make the archive again.",
            Self::RootNotDirectory => {
                "names the root, yet is not a directory. Make the archive from inside the root."
            }
        };
        formatter.write_str(text)
    }
}

/// Why something in the tree cannot be carried by the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeFault {
    /// The input is not a directory.
    NotADirectory,
    /// A name longer than 255 bytes.
    NameTooLong,
    /// A path longer than 4095 bytes.
    PathTooLong,
    /// A path of more than 512 names.
    NestedTooDeeply,
    /// A symbolic link to nothing or to more than 4095 bytes.
    LinkTargetLength,
    /// A file of more than 8 TiB.
    FileTooLarge,
    /// A device number beyond 12 bits of major and 20 of minor.
    DeviceNumber,
    /// An extended attribute outside the namespaces of Linux, or with a name longer than 255 bytes.
    AttributeName,
    /// More extended attributes than an inode can hold.
    AttributesTooLarge,
    /// A time before 1970, which tools write into an image in different ways.
    TimeBefore1970,
    /// A whiteout in the root whose name is also that of a directory of objects.
    WhiteoutName,
    /// A directory of an overlay where the root has something else.
    OverlayDirectory,
    /// Something else in an overlay where the root has a directory.
    OverlayNotDirectory,
}

impl fmt::Display for TreeFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotADirectory => "is not a directory. Give the directory that becomes the root.",
            Self::NameTooLong => "has a name of more than 255 bytes. Shorten it.",
            Self::PathTooLong => "has a path of more than 4095 bytes. Shorten it.",
            Self::NestedTooDeeply => "lies below more than 511 directories. Nest them less deeply.",
            Self::LinkTargetLength => {
                "is a symbolic link to nothing, or to more than 4095 bytes. Correct it."
            }
            Self::FileTooLarge => "is larger than 8 TiB. Keep it outside the sealed root.",
            Self::DeviceNumber => {
                "has a device number that Linux does not have. Correct or remove it."
            }
            Self::AttributeName => {
                "has an extended attribute whose name Linux does not allow. Remove the attribute."
            }
            Self::AttributesTooLarge => {
                "has more extended attributes than an image can hold. Remove some."
            }
            Self::TimeBefore1970 => {
                "was modified before 1970, it says. Correct its time, or give one epoch for all."
            }
            Self::WhiteoutName => {
                "is a whiteout (character device 0:0) named like a directory of objects. Remove it."
            }
            Self::OverlayDirectory => {
                "is a directory in an overlay and something else in the root, perhaps a link. Use the root's own name."
            }
            Self::OverlayNotDirectory => {
                "is a directory in the root and something else in an overlay. Use another name."
            }
        })
    }
}

/// Why bytes are not an image that this tool accepts.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// A structure of the EROFS image is out of place.
    #[error("its structure is broken ({0}). Rebuild the bundle.")]
    Malformed(#[from] ErofsReaderError),
    /// One directory is entered from two places, or from inside itself.
    #[error("the directory `{}` is also another one. Rebuild the bundle.", .0.display())]
    DirectoryTwice(PathBuf),
    /// A name that no directory may hold, or names that are not in order.
    #[error("the directory `{}` has an invalid, repeated or misplaced name. Rebuild the bundle.", .0.display())]
    NameRefused(PathBuf),
    /// Its lists are larger than an honest image of its size could make them.
    #[error("what it lists is larger than an honest image could make it. Rebuild the bundle.")]
    ListingTooLarge,
    /// An inode of unknown kind.
    #[error("`{}` is of no known kind. Rebuild the bundle.", .0.display())]
    KindUnknown(PathBuf),
    /// An extended attribute of an unknown namespace, or the same one twice.
    #[error("`{}` has a repeated or unknown extended attribute. Rebuild the bundle.", .0.display())]
    AttributeRefused(PathBuf),
    /// A regular file without content: neither small and inside, nor an object.
    #[error("the content of `{}` is neither in the image nor a named object. Rebuild the bundle.", .0.display())]
    ContentMissing(PathBuf),
    /// Inline content or a link target of more bytes than any builder stores inside.
    #[error("`{}` has too much content inside the image. Rebuild the bundle.", .0.display())]
    ContentTooLarge(PathBuf),
    /// The object's path and the digest that the kernel will demand differ, or one of them is missing.
    #[error("`{}` names its object inconsistently, so the kernel could not open it. Rebuild the bundle.", .0.display())]
    ObjectInconsistent(PathBuf),
}
