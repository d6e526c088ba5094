//! The members of a tar archive: POSIX ustar and pax, GNU and the old V7 form.
//!
//! Source: POSIX.1-2017, `pax`; GNU tar manual, "Basic Tar Format", for the long names `L` and `K`.
//!
//! # Invariants
//! - A member is given only if its header's checksum is right and its whole content lies in the archive.
//! - Nothing is skipped in silence: a type of member, or a way to store attributes, that is not read is an error.
//! - Memory is bounded by [`EXTENSION_MAX_BYTES`], whatever the sizes in headers say.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use composefs::generic_tree::Stat;

use super::ArchiveFault;
use super::RootError;
use super::header::BLOCK_BYTES;
use super::header::Header;
use super::header::MemberKind;
use super::header::until_zero;
use super::pax::Records;

/// The largest extended header. It stops a header that claims gigabytes of records from being loaded. Linux allows 64 KiB
/// of attributes on most file systems.
const EXTENSION_MAX_BYTES: u64 = 1024 * 1024;

/// Headers are read through a buffer; content is skipped.
const BUFFER_BYTES: usize = 64 * 1024;

/// One member with everything that extended headers say about it.
#[derive(Debug)]
pub(super) struct Member {
    /// Where its own header begins.
    pub(super) offset: u64,
    /// Where its content begins, if it has any.
    pub(super) content_offset: u64,
    /// Its name as written.
    pub(super) name: Vec<u8>,
    pub(super) kind: MemberKind,
    pub(super) stat: Stat,
}

/// What stood before a member's own header.
#[derive(Debug, Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link_name: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link_name.is_none()
    }
}

/// Reads an archive from its first member to its end marker.
#[derive(Debug)]
pub(super) struct Members<'a> {
    archive: BufReader<&'a File>,
    path: &'a Path,
    length: u64,
    position: u64,
    /// Records for all members that follow.
    global: Records,
}

impl<'a> Members<'a> {
    /// Begins at the first byte of `file`, which stands there; `path` is its name for messages.
    pub(super) fn new(file: &'a File, path: &'a Path) -> Result<Self, RootError> {
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| RootError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            archive: BufReader::with_capacity(BUFFER_BYTES, file),
            path,
            length: metadata.len(),
            position: 0,
            global: Records::default(),
        })
    }

    /// The next member, or `None` at the end marker.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>, RootError> {
        let mut extensions = Extensions::default();
        loop {
            let offset = self.position;
            let header = Header(self.read_block(ArchiveFault::EndMarkerMissing)?);
            if header.is_zero() {
                if !extensions.is_empty() {
                    return Err(self.fault(offset, ArchiveFault::ExtensionWithoutMember));
                }
                self.read_end()?;
                return Ok(None);
            }
            if !header.has_valid_checksum() {
                let fault = if offset == 0 {
                    ArchiveFault::NotTar
                } else {
                    ArchiveFault::Checksum
                };
                return Err(self.fault(offset, fault));
            }
            match header.type_letter() {
                b'x' => extensions.records = Some(self.read_records(&header, offset)?),
                b'g' => self.global = self.read_records(&header, offset)?,
                b'L' => extensions.long_name = Some(self.read_long_name(&header, offset)?),
                b'K' => extensions.long_link_name = Some(self.read_long_name(&header, offset)?),
                _ => return self.read_member(&header, offset, extensions).map(Some),
            }
        }
    }

    /// Makes a member of its header and what stood before, and steps over its content.
    fn read_member(
        &mut self,
        header: &Header,
        offset: u64,
        extensions: Extensions,
    ) -> Result<Member, RootError> {
        let records = extensions.records.unwrap_or_else(|| self.global.clone());
        let name = records
            .value("path")
            .map(<[u8]>::to_vec)
            .or(extensions.long_name);
        let name = name.unwrap_or_else(|| header.name());
        let link = records
            .value("linkpath")
            .map(<[u8]>::to_vec)
            .or(extensions.long_link_name);
        let link = link.unwrap_or_else(|| header.link_name());
        let in_member = |fault| RootError::Archive {
            member: display_name(&name),
            offset,
            fault,
        };
        records.check().map_err(in_member)?;
        let kind = header.kind(&records, &name, link).map_err(in_member)?;
        let stat = header.stat(&records).map_err(in_member)?;
        let content_offset = self.position;
        if let MemberKind::File(size) = kind {
            if size > self.length.saturating_sub(content_offset) {
                return Err(in_member(ArchiveFault::CutShort));
            }
            self.skip(size.next_multiple_of(BLOCK_BYTES as u64))?;
        }
        Ok(Member {
            offset,
            content_offset,
            name,
            kind,
            stat,
        })
    }

    /// The next block; `at_end` is the fault if there is none.
    fn read_block(&mut self, at_end: ArchiveFault) -> Result<[u8; BLOCK_BYTES], RootError> {
        let left = self.length.saturating_sub(self.position);
        if left == 0 {
            return Err(self.fault(self.position, at_end));
        }
        if left < BLOCK_BYTES as u64 {
            let fault = if self.position == 0 {
                ArchiveFault::NotTar
            } else {
                ArchiveFault::CutShort
            };
            return Err(self.fault(self.position, fault));
        }
        let mut block = [0; BLOCK_BYTES];
        self.archive
            .read_exact(&mut block)
            .map_err(|source| self.read_error(source))?;
        self.position += BLOCK_BYTES as u64;
        Ok(block)
    }

    /// After a first block of zeros: one more, and nothing but zeros behind it.
    fn read_end(&mut self) -> Result<(), RootError> {
        let mut blocks = 1;
        while blocks < 2 || self.position < self.length {
            let offset = self.position;
            if !Header(self.read_block(ArchiveFault::EndMarkerMissing)?).is_zero() {
                return Err(self.fault(offset, ArchiveFault::DataAfterEnd));
            }
            blocks += 1;
        }
        Ok(())
    }

    /// The content of an extended header.
    fn read_extension(&mut self, header: &Header, offset: u64) -> Result<Vec<u8>, RootError> {
        let size = header.size().map_err(|fault| self.fault(offset, fault))?;
        if size > EXTENSION_MAX_BYTES {
            return Err(self.fault(offset, ArchiveFault::ExtensionTooLarge));
        }
        let mut content = Vec::new();
        for _ in 0..size.div_ceil(BLOCK_BYTES as u64) {
            content.extend_from_slice(&self.read_block(ArchiveFault::CutShort)?);
        }
        content.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(content)
    }

    /// The records of an extended header, and the global ones that it leaves as they are.
    fn read_records(&mut self, header: &Header, offset: u64) -> Result<Records, RootError> {
        let content = self.read_extension(header, offset)?;
        let mut records = self.global.clone();
        records
            .extend(&content)
            .map_err(|fault| self.fault(offset, fault))?;
        Ok(records)
    }

    fn read_long_name(&mut self, header: &Header, offset: u64) -> Result<Vec<u8>, RootError> {
        let content = self.read_extension(header, offset)?;
        Ok(until_zero(&content).to_vec())
    }

    fn skip(&mut self, count: u64) -> Result<(), RootError> {
        // `count` is at most the length of a file, rounded up: it fits.
        let distance = i64::try_from(count).unwrap_or(i64::MAX);
        self.archive
            .seek_relative(distance)
            .map_err(|source| self.read_error(source))?;
        self.position = self.position.saturating_add(count);
        Ok(())
    }

    fn fault(&self, offset: u64, fault: ArchiveFault) -> RootError {
        RootError::Archive {
            member: self.path.to_owned(),
            offset,
            fault,
        }
    }

    fn read_error(&self, source: io::Error) -> RootError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => RootError::Changed {
                path: self.path.to_owned(),
            },
            _ => RootError::Read {
                path: self.path.to_owned(),
                source,
            },
        }
    }
}

/// A member's name for messages.
pub(super) fn display_name(name: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name))
}
