//! One inode of an image: metadata, attributes and content.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use composefs::erofs::composefs::OverlayMetacopy;
use composefs::erofs::format;
use composefs::erofs::format::DataLayout;
use composefs::erofs::reader::Image;
use composefs::erofs::reader::InodeHeader;
use composefs::erofs::reader::InodeOps;
use composefs::erofs::reader::InodeType;
use composefs::erofs::reader::XAttr;
use composefs::fsverity::FsVerityHashValue;
use composefs::fsverity::Sha256HashValue;
use composefs::fsverity::compute_verity;
use zerocopy::FromBytes;

use super::Budget;
use super::FileEntry;
use super::FileKind;
use crate::composefs_image::Digest;
use crate::composefs_image::to_digest;
use crate::rootfs::ImageFault;
use crate::rootfs::limits::PATH_MAX_BYTES;

/// Most content of a regular file inside the image. Builders store at most 64 bytes so; the format's own limit is 5000
/// (`LCFS_INLINE_CONTENT_MAX` of composefs 1.0.8).
const INLINE_MAX_BYTES: u64 = 5000;

/// Reads inode number `number`, which `path` names. `None` is a whiteout: it hides what lies below and is not seen.
pub(super) fn read_file(
    image: &Image<'_>,
    number: u64,
    path: PathBuf,
    budget: &mut Budget,
) -> Result<Option<FileEntry>, ImageFault> {
    let inode = image.inode(number)?;
    let mode = inode.mode().0.get();
    let attributes = Attributes::read(image, &inode, &path, budget)?;
    let object = attributes.object(&path)?;
    let (mut size, mut digest) = (0, None);
    let kind = match mode & format::S_IFMT {
        format::S_IFREG if attributes.is_whiteout => {
            FileKind::CharacterDevice { major: 0, minor: 0 }
        }
        format::S_IFREG => {
            size = inode.size();
            if object.is_some() {
                digest = object;
                FileKind::ObjectFile
            } else {
                let content = stored_content(image, &inode, &path, INLINE_MAX_BYTES)?;
                budget.spend_bytes(content.len())?;
                digest = Some(to_digest(&compute_verity::<Sha256HashValue>(&content)));
                FileKind::InlineFile { content }
            }
        }
        _ if object.is_some() => return Err(ImageFault::ObjectInconsistent(path)),
        format::S_IFLNK => {
            let target = stored_content(image, &inode, &path, PATH_MAX_BYTES as u64)?;
            budget.spend_bytes(target.len())?;
            size = inode.size();
            FileKind::Symlink {
                target: OsStr::from_bytes(&target).into(),
            }
        }
        format::S_IFCHR if inode.u() == 0 => return Ok(None),
        format::S_IFDIR => FileKind::Directory,
        format::S_IFCHR => FileKind::CharacterDevice {
            major: major(inode.u()),
            minor: minor(inode.u()),
        },
        format::S_IFBLK => FileKind::BlockDevice {
            major: major(inode.u()),
            minor: minor(inode.u()),
        },
        format::S_IFIFO => FileKind::Pipe,
        format::S_IFSOCK => FileKind::Socket,
        _ => return Err(ImageFault::KindUnknown(path)),
    };
    let (user, group, modified_seconds, modified_nanoseconds) = owner_and_time(image, &inode);
    let attributes = attributes.visible;
    let mode = u32::from(mode & 0o7777);
    Ok(Some(FileEntry {
        path,
        kind,
        mode,
        user,
        group,
        modified_seconds,
        modified_nanoseconds,
        size,
        digest,
        attributes,
    }))
}

fn owner_and_time(image: &Image<'_>, inode: &InodeType<'_>) -> (u32, u32, i64, u32) {
    match inode {
        // The short form has no time of its own: the superblock holds the one that all of them share.
        InodeType::Compact(inode) => {
            let header = &inode.header;
            let seconds = image.sb.build_time.get() as i64;
            (
                header.uid.get().into(),
                header.gid.get().into(),
                seconds,
                image.sb.build_time_nsec.get(),
            )
        }
        InodeType::Extended(inode) => {
            let header = &inode.header;
            (
                header.uid.get(),
                header.gid.get(),
                header.mtime.get() as i64,
                header.mtime_nsec.get(),
            )
        }
    }
}

/// Major part of a device number as EROFS stores it (`new_encode_dev` of Linux).
fn major(number: u32) -> u32 {
    (number >> 8) & 0xfff
}

/// Minor part.
fn minor(number: u32) -> u32 {
    (number & 0xff) | ((number >> 12) & 0xf_ff00)
}

/// Content that lies in the image, at most `limit` bytes: whole blocks first, then what follows the inode.
fn stored_content(
    image: &Image<'_>,
    inode: &InodeType<'_>,
    path: &Path,
    limit: u64,
) -> Result<Vec<u8>, ImageFault> {
    if inode.data_layout()? == DataLayout::ChunkBased {
        return Err(ImageFault::ContentMissing(path.to_owned()));
    }
    if inode.size() > limit {
        return Err(ImageFault::ContentTooLarge(path.to_owned()));
    }
    let size =
        usize::try_from(inode.size()).map_err(|_| ImageFault::ContentTooLarge(path.to_owned()))?;
    let mut content = Vec::new();
    for block in image.inode_blocks(inode)? {
        content.extend_from_slice(image.block(block)?);
    }
    content.extend_from_slice(inode.inline().unwrap_or_default());
    if content.len() < size {
        return Err(ImageFault::ContentMissing(path.to_owned()));
    }
    content.truncate(size);
    Ok(content)
}

/// The extended attributes of an inode, told apart by whose they are.
#[derive(Default)]
struct Attributes {
    /// Those that a mounted root shows.
    visible: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The digest that the kernel will demand of the object.
    metacopy: Option<Vec<u8>>,
    /// The path to the object.
    redirect: Option<Vec<u8>>,
    /// Whether this stands for a character device 0:0.
    is_whiteout: bool,
    /// Whether this is a directory with such devices in it.
    holds_whiteouts: bool,
}

impl Attributes {
    fn read(
        image: &Image<'_>,
        inode: &InodeType<'_>,
        path: &Path,
        budget: &mut Budget,
    ) -> Result<Self, ImageFault> {
        let mut attributes = Self::default();
        let Some(section) = inode.xattrs()? else {
            return Ok(attributes);
        };
        for id in section.shared()? {
            attributes.add(image.shared_xattr(id.get())?, path, budget)?;
        }
        for attribute in section.local()? {
            attributes.add(attribute?, path, budget)?;
        }
        attributes.hide_marks();
        Ok(attributes)
    }

    fn add(
        &mut self,
        attribute: &XAttr,
        path: &Path,
        budget: &mut Budget,
    ) -> Result<(), ImageFault> {
        let refused = || ImageFault::AttributeRefused(path.to_owned());
        let prefix = format::XATTR_PREFIXES.get(usize::from(attribute.header.name_index));
        let name = [prefix.ok_or_else(refused)?, attribute.suffix()?].concat();
        let value = attribute.value()?;
        budget.spend_bytes(name.len() + value.len())?;
        let value = value.to_vec();
        let previous = if name == format::XATTR_OVERLAY_METACOPY {
            self.metacopy.replace(value)
        } else if name == format::XATTR_OVERLAY_REDIRECT {
            self.redirect.replace(value)
        } else if name == format::XATTR_OVERLAY_WHITEOUT {
            self.is_whiteout = true;
            None
        } else if name == format::XATTR_OVERLAY_WHITEOUTS {
            self.holds_whiteouts = true;
            None
        } else {
            visible_name(name).and_then(|name| self.visible.insert(name, value))
        };
        // The kernel would take the first of two and a tool perhaps the second.
        if previous.is_some() {
            Err(refused())
        } else {
            Ok(())
        }
    }

    /// Removes what the writer added to escaped whiteouts and their directories, as far as it is seen at all.
    fn hide_marks(&mut self) {
        if self.is_whiteout {
            self.visible.remove(format::XATTR_USERXATTR_WHITEOUT);
        }
        if self.holds_whiteouts {
            self.visible.remove(format::XATTR_USERXATTR_WHITEOUTS);
            self.visible.remove(format::XATTR_USERXATTR_OPAQUE);
            self.visible.remove(format::XATTR_OVERLAY_OPAQUE_ROOT);
        }
    }

    /// The object that both attributes agree on.
    fn object(&self, path: &Path) -> Result<Option<Digest>, ImageFault> {
        let (metacopy, redirect) = match (&self.metacopy, &self.redirect) {
            (None, None) => return Ok(None),
            (Some(metacopy), Some(redirect)) => (metacopy, redirect),
            _ => return Err(ImageFault::ObjectInconsistent(path.to_owned())),
        };
        let metacopy = OverlayMetacopy::<Sha256HashValue>::read_from_bytes(metacopy).ok();
        let digest = metacopy
            .filter(OverlayMetacopy::valid)
            .map(|metacopy| metacopy.digest);
        let agreed = digest.filter(|digest| {
            redirect.strip_prefix(b"/") == Some(digest.to_object_pathname().as_bytes())
        });
        let agreed = agreed.ok_or_else(|| ImageFault::ObjectInconsistent(path.to_owned()))?;
        Ok(Some(to_digest(&agreed)))
    }
}

/// The name under which overlayfs shows an attribute: its own are hidden, escaped ones lose one `overlay.`.
fn visible_name(name: Vec<u8>) -> Option<Vec<u8>> {
    if let Some(rest) = name.strip_prefix(format::XATTR_OVERLAY_ESCAPED_PREFIX) {
        return Some([format::XATTR_OVERLAY_PREFIX, rest].concat());
    }
    if name.starts_with(format::XATTR_OVERLAY_PREFIX) {
        return None;
    }
    Some(name)
}
