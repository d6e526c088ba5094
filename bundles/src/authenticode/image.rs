//! The PE side of a signature: what is hashed, where the certificate table goes, the checksum.
//!
//! The hash is that of Microsoft's "Windows Authenticode Portable Executable Signature Format": the whole file but the
//! checksum, the certificate table and the directory entry that points to it. The table's form is `WIN_CERTIFICATE`
//! of the UEFI Specification, section 32.2.4.
//!
//! # Invariants
//!
//! - Only images whose headers and sections follow each other without gaps are hashed, so that every verifier sees
//!   the same bytes.
//! - The digest of an image is the same before and after it was signed: an unsigned file is hashed as if already
//!   filled up to the alignment of the certificate table.

use sha2::{Digest, Sha256};

use super::ImageError;
use crate::pe::{self, PeImage};

/// Alignment of the certificate table and of its entries ("PE Format", attribute certificate table).
const TABLE_ALIGNMENT_BYTES: usize = 8;
/// `WIN_CERTIFICATE` before the signature: length, revision, type.
const ENTRY_HEADER_BYTES: usize = 8;
/// `WIN_CERT_REVISION_2_0`.
const REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const PKCS_SIGNED_DATA: u16 = 0x0002;

/// An image whose layout is known to be hashed alike everywhere.
#[derive(Debug)]
pub(super) struct Signable<'a> {
    image: PeImage<'a>,
    /// Length of the file without its certificate table.
    content_bytes: usize,
}

impl<'a> Signable<'a> {
    /// Checks the layout of the PE file in `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let image = PeImage::parse(bytes).map_err(ImageError::Pe)?;
        let sections_end = check_contiguous(&image)?;
        let table = image.headers().certificate_table.clone();
        let mut content_bytes = bytes.len();
        if !table.is_empty() {
            let at_end = table.end == bytes.len() as u64 && table.start >= sections_end;
            if !at_end || !table.start.is_multiple_of(TABLE_ALIGNMENT_BYTES as u64) {
                return Err(ImageError::CertificateTableMisplaced);
            }
            content_bytes = table.start as usize;
        }
        Ok(Self {
            image,
            content_bytes,
        })
    }

    /// Whether there is a certificate table.
    pub fn is_signed(&self) -> bool {
        !self.image.headers().certificate_table.is_empty()
    }

    /// The SHA-256 of everything that a signature covers.
    pub fn digest(&self) -> [u8; 32] {
        let fields = self.image.fields();
        let after_checksum = fields.checksum + 4;
        let after_entry = fields.certificate_entry + 8;
        let content = self.content();
        let mut hash = Sha256::new();
        for range in [
            0..fields.checksum,
            after_checksum..fields.certificate_entry,
            after_entry..content.len(),
        ] {
            // All three are inside the headers or end where the file ends, so none is missing.
            hash.update(content.get(range).unwrap_or_default());
        }
        hash.update(&[0; TABLE_ALIGNMENT_BYTES][..padding(content.len())]);
        hash.finalize().into()
    }

    /// The file with `signature` (DER) as the only entry of its certificate table, and its checksum.
    pub fn with_signature(&self, signature: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut file = self.content().to_vec();
        file.resize(file.len() + padding(file.len()), 0);
        let start = narrow(file.len())?;
        // The length field leaves the filling out, the directory entry counts it: as sbsign writes them.
        file.extend_from_slice(&narrow(ENTRY_HEADER_BYTES + signature.len())?.to_le_bytes());
        file.extend_from_slice(&REVISION.to_le_bytes());
        file.extend_from_slice(&PKCS_SIGNED_DATA.to_le_bytes());
        file.extend_from_slice(signature);
        file.resize(file.len() + padding(file.len()), 0);
        let length = narrow(file.len())? - start;
        self.set_table(&mut file, start, length)?;
        self.set_checksum(&mut file, 0)?;
        let checksum = checksum(&file);
        self.set_checksum(&mut file, checksum)?;
        Ok(file)
    }

    /// The file without its certificate table and with a checksum of 0, which says that there is none.
    pub fn without_signature(&self) -> Result<Vec<u8>, ImageError> {
        let mut file = self.content().to_vec();
        self.set_table(&mut file, 0, 0)?;
        self.set_checksum(&mut file, 0)?;
        Ok(file)
    }

    fn content(&self) -> &'a [u8] {
        self.image
            .bytes()
            .get(..self.content_bytes)
            .unwrap_or_default()
    }

    fn set_checksum(&self, file: &mut [u8], value: u32) -> Result<(), ImageError> {
        pe::put(
            file,
            self.image.fields().checksum,
            &value.to_le_bytes(),
            "optional header",
        )
        .map_err(ImageError::Pe)
    }

    fn set_table(&self, file: &mut [u8], start: u32, length: u32) -> Result<(), ImageError> {
        let entry = self.image.fields().certificate_entry;
        pe::put(file, entry, &start.to_le_bytes(), "data directory")
            .and_then(|()| pe::put(file, entry + 4, &length.to_le_bytes(), "data directory"))
            .map_err(ImageError::Pe)
    }
}

/// The end of the last section, once each is known to begin where the one before it (or the headers) ends. Data
/// behind the last section is allowed: it is hashed, and every verifier agrees on that.
fn check_contiguous(image: &PeImage<'_>) -> Result<u64, ImageError> {
    let mut sections: Vec<_> = image
        .sections()
        .iter()
        .filter(|section| section.raw_size > 0)
        .collect();
    sections.sort_by_key(|section| section.raw_offset);
    let mut end = u64::from(image.headers().size_of_headers);
    for section in sections {
        let range = section.raw_range();
        if range.start != end {
            return Err(ImageError::SectionsNotContiguous {
                name: section.name_text(),
            });
        }
        if range.end > image.bytes().len() as u64 {
            return Err(ImageError::Pe(pe::PeError::SectionOutsideFile {
                name: section.name_text(),
            }));
        }
        end = range.end;
    }
    Ok(end)
}

/// Bytes to add to `length` to reach the alignment of the certificate table.
fn padding(length: usize) -> usize {
    length.next_multiple_of(TABLE_ALIGNMENT_BYTES) - length
}

fn narrow(value: usize) -> Result<u32, ImageError> {
    u32::try_from(value).map_err(|_| ImageError::TooLarge)
}

/// The PE checksum of a file whose checksum field is 0: the sum of all 16-bit little-endian words, with carries added
/// back, plus the length of the file.
fn checksum(file: &[u8]) -> u32 {
    let words = file.chunks(2).map(|pair| match *pair {
        [low, high] => u64::from(u16::from_le_bytes([low, high])),
        [last] => u64::from(last),
        _ => 0,
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u32).wrapping_add(file.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::PeError;
    use crate::pe::synthetic::{Synthetic, set};

    /// Offsets in a synthetic file: optional header, its checksum, the certificate table's entry, the section table.
    const OPTIONAL: usize = 0x58;
    const CHECKSUM: usize = OPTIONAL + 64;
    const ENTRY: usize = OPTIONAL + 144;
    const TABLE: usize = 0x148;

    fn digest(file: &[u8]) -> [u8; 32] {
        Signable::parse(file).unwrap().digest()
    }

    fn error(file: &[u8]) -> ImageError {
        Signable::parse(file).unwrap_err()
    }

    #[test]
    fn only_checksum_and_table_entry_are_left_out_of_the_digest() {
        let file = Synthetic::default().build();
        let left_out = (CHECKSUM..CHECKSUM + 4).chain(ENTRY..ENTRY + 8);
        let rest: Vec<u8> = file
            .iter()
            .enumerate()
            .filter(|(offset, _)| !left_out.clone().any(|at| at == *offset))
            .map(|(_, &byte)| byte)
            .collect();
        assert_eq!(digest(&file), <[u8; 32]>::from(Sha256::digest(rest)));
        for offset in [
            2,
            OPTIONAL + 48,
            CHECKSUM + 4,
            ENTRY - 1,
            ENTRY + 8,
            0x5ff,
            0x600,
            file.len() - 1,
        ] {
            let mut changed = file.clone();
            changed[offset] ^= 0xff;
            assert_ne!(
                digest(&changed),
                digest(&file),
                "byte {offset:#x} is covered"
            );
        }
        let mut changed = file.clone();
        set(&mut changed, CHECKSUM, &[1, 2, 3, 4]);
        assert_eq!(digest(&changed), digest(&file));
    }

    #[test]
    fn signing_and_stripping_keep_the_digest() {
        for extra in 0..9 {
            let mut file = Synthetic::default().build();
            file.resize(file.len() + extra, 0x5a);
            let unsigned = Signable::parse(&file).unwrap();
            let signed_file = unsigned.with_signature(&vec![0x30; 100 + extra]).unwrap();
            let signed = Signable::parse(&signed_file).unwrap();
            assert!(signed.is_signed() && !unsigned.is_signed());
            assert_eq!(signed.digest(), unsigned.digest());
            assert_eq!(signed_file.len() % 8, 0);
            let stripped = signed.without_signature().unwrap();
            assert_eq!(stripped[..file.len()], file);
            assert_eq!(digest(&stripped), unsigned.digest());
        }
    }

    #[test]
    fn the_certificate_table_is_a_win_certificate() {
        let file = Synthetic::default().build();
        let signed = Signable::parse(&file)
            .unwrap()
            .with_signature(&[0xab; 13])
            .unwrap();
        let mut table = vec![21, 0, 0, 0, 0, 2, 2, 0];
        table.extend_from_slice(&[0xab; 13]);
        table.extend_from_slice(&[0; 3]);
        assert_eq!(signed[file.len()..], table);
        let mut entry = (file.len() as u32).to_le_bytes().to_vec();
        entry.extend_from_slice(&24_u32.to_le_bytes());
        assert_eq!(signed[ENTRY..ENTRY + 8], entry);
    }

    #[test]
    fn checksums_add_carries_and_odd_bytes() {
        assert_eq!(checksum(&[]), 0);
        assert_eq!(checksum(&[1, 0, 2, 0]), 3 + 4);
        assert_eq!(checksum(&[1, 0, 2]), 3 + 3);
        assert_eq!(checksum(&[0xff, 0xff, 2, 0]), 2 + 4);
        let file = Synthetic::default().build();
        let signed = Signable::parse(&file)
            .unwrap()
            .with_signature(&[1])
            .unwrap();
        let mut without = signed.clone();
        set(&mut without, CHECKSUM, &[0; 4]);
        assert_eq!(
            signed[CHECKSUM..CHECKSUM + 4],
            checksum(&without).to_le_bytes()
        );
    }

    #[test]
    fn gaps_and_overlaps_are_refused() {
        let off = |name: &str| ImageError::SectionsNotContiguous {
            name: name.to_owned(),
        };
        let moved = |section: usize, offset: u32| {
            let mut file = Synthetic::default().build();
            set(&mut file, TABLE + section * 40 + 20, &offset.to_le_bytes());
            file
        };
        assert_eq!(error(&moved(0, 0x400)), off(".text"));
        assert_eq!(error(&moved(1, 0x800)), off(".sbat"));
        assert_eq!(error(&moved(2, 0xe00)), off(".reloc"));
        let mut headers = Synthetic::default().build();
        set(&mut headers, OPTIONAL + 60, &0x400_u32.to_le_bytes());
        assert_eq!(error(&headers), off(".text"));
        let file = Synthetic::default().build();
        let outside = PeError::SectionOutsideFile {
            name: ".reloc".to_owned(),
        };
        assert_eq!(error(&file[..file.len() - 1]), ImageError::Pe(outside));
    }

    #[test]
    fn sections_may_come_in_any_order_in_the_table() {
        let mut file = Synthetic::default().build();
        let before = file[TABLE..TABLE + 40].to_vec();
        file.copy_within(TABLE + 40..TABLE + 80, TABLE);
        set(&mut file, TABLE + 40, &before);
        assert!(Signable::parse(&file).is_ok());
    }

    #[test]
    fn misplaced_certificate_tables_are_refused() {
        let file = Synthetic::default().build();
        let signed = Signable::parse(&file)
            .unwrap()
            .with_signature(&[0; 40])
            .unwrap();
        let entry = |start: u32, length: u32| {
            let mut changed = signed.clone();
            set(&mut changed, ENTRY, &start.to_le_bytes());
            set(&mut changed, ENTRY + 4, &length.to_le_bytes());
            changed
        };
        let (start, length) = (file.len() as u32, (signed.len() - file.len()) as u32);
        assert!(Signable::parse(&entry(start, length)).is_ok());
        for (start, length) in [
            (start, length - 8),
            (start - 8, length + 8),
            (start + 4, length - 4),
            (start, u32::MAX),
            (0, 8),
        ] {
            assert_eq!(
                error(&entry(start, length)),
                ImageError::CertificateTableMisplaced
            );
        }
    }

    #[test]
    fn lengths_past_32_bits_are_refused() {
        assert_eq!(narrow(0x1_0000_0000), Err(ImageError::TooLarge));
        assert_eq!(narrow(0xffff_ffff), Ok(u32::MAX));
    }
}
