//! Archives that are not the one form that a bundle has: cut, joined, reordered, with other headers.

use twinseal_core::error::{BundleInvalid, Part};
use twinseal_core::wire::tar::{BLOCK_BYTES, END_BYTES, emit_header, padding_bytes};

use super::draft::{Entry, archive_of, entries_of};
use super::{Base, Vector, refused};

/// Places in a tar header (POSIX, ustar).
const MODE: usize = 106;
const MODIFICATION_TIME: usize = 146;
const CHECKSUM: usize = 148;
const TYPE: usize = 156;
const MAGIC: usize = 257;

pub(super) fn vectors(base: &Base<'_>) -> Vec<Vector> {
    let mut vectors = ends(base);
    vectors.extend(headers(base));
    vectors.extend(orders(base));
    vectors
}

fn ends(base: &Base<'_>) -> Vec<Vector> {
    let length = base.bundle.len() as u64;
    let cut = |name, what, bytes: u64, stream| {
        let bundle = base.with_bytes(|bundle| bundle.truncate(bytes as usize));
        let refusal = BundleInvalid::Length {
            expected: length,
            found: bytes,
        };
        Vector {
            stream_refusal: Some(BundleInvalid::Truncated { part: stream }.into()),
            ..refused(name, what, refusal, bundle)
        }
    };
    let early = |name, what, bytes: usize, part| {
        refused(
            name,
            what,
            BundleInvalid::Truncated { part },
            base.with_bytes(|bundle| bundle.truncate(bytes)),
        )
    };
    let appended = BundleInvalid::Length {
        expected: length,
        found: length + 1,
    };
    vec![
        early("empty", "it has no bytes", 0, Part::ManifestHeader),
        early(
            "cut-in-header",
            "it ends inside its first header",
            BLOCK_BYTES - 1,
            Part::ManifestHeader,
        ),
        early(
            "cut-in-manifest",
            "it ends inside the manifest",
            BLOCK_BYTES + 50,
            Part::Manifest,
        ),
        cut(
            "cut-in-data",
            "it ends inside the data",
            place(base, "data") + 600,
            Part::Data,
        ),
        cut(
            "cut-in-index",
            "it ends inside the index",
            place(base, "index") + 600,
            Part::Index,
        ),
        cut(
            "cut-before-end",
            "it lacks the last of the two end blocks",
            length - BLOCK_BYTES as u64,
            Part::End,
        ),
        Vector {
            stream_refusal: Some(BundleInvalid::TrailingBytes.into()),
            ..refused(
                "appended",
                "a byte follows the end of the archive",
                appended,
                base.with_bytes(|bundle| bundle.push(0)),
            )
        },
        refused(
            "end-not-zero",
            "a byte of the end blocks is not zero",
            BundleInvalid::HeaderMalformed { part: Part::End },
            base.with_bytes(|bundle| {
                let last = bundle.len() - 1;
                bundle.splice(last.., [1]).for_each(drop);
            }),
        ),
    ]
}

fn headers(base: &Base<'_>) -> Vec<Vector> {
    let malformed = |part| BundleInvalid::HeaderMalformed { part };
    let field = |entry: &str, offset: usize, value: &[u8], checksum: bool| {
        base.with_bytes(|bundle| {
            let start = place(base, entry) as usize;
            bundle
                .splice(
                    start + offset..start + offset + value.len(),
                    value.iter().copied(),
                )
                .for_each(drop);
            if checksum {
                fix_checksum(bundle, start);
            }
        })
    };
    let padding = |entry: &str| {
        let end = place(base, entry) as usize;
        base.with_bytes(|bundle| bundle.splice(end - 1..end, [1]).for_each(drop))
    };
    vec![
        refused(
            "header-checksum",
            "a header's checksum is wrong",
            malformed(Part::ManifestHeader),
            field("manifest", CHECKSUM, b"7", false),
        ),
        refused(
            "header-mode",
            "a header has another mode; its checksum is right",
            malformed(Part::ManifestHeader),
            field("manifest", MODE, b"5", true),
        ),
        refused(
            "header-time",
            "a header has a modification time; its checksum is right",
            malformed(Part::DataHeader),
            field("data", MODIFICATION_TIME, b"1", true),
        ),
        refused(
            "header-type",
            "the data is a directory by its header",
            malformed(Part::DataHeader),
            field("data", TYPE, b"5", true),
        ),
        refused(
            "header-gnu",
            "a header is in GNU form",
            malformed(Part::IndexHeader),
            field("index", MAGIC, b"ustar  \0", true),
        ),
        refused(
            "header-size",
            "the index is a block longer by its header than by the manifest",
            malformed(Part::IndexHeader),
            longer_index(base),
        ),
        refused(
            "padding-manifest",
            "the padding behind the manifest is not zero",
            BundleInvalid::Padding {
                part: Part::SignaturesHeader,
            },
            padding("signatures"),
        ),
        Vector {
            audit_only: true,
            ..refused(
                "padding-signatures",
                "the padding behind the signatures is not zero",
                BundleInvalid::Padding {
                    part: Part::InfoHeader,
                },
                padding("info/notes.txt"),
            )
        },
        refused(
            "padding-info",
            "the padding behind an info entry is not zero",
            BundleInvalid::Padding {
                part: Part::IndexHeader,
            },
            padding("index"),
        ),
        refused(
            "padding-data",
            "the padding behind the data is not zero",
            BundleInvalid::Padding { part: Part::End },
            {
                base.with_bytes(|bundle| {
                    let end = bundle.len() - END_BYTES;
                    bundle.splice(end - 1..end, [1]).for_each(drop);
                })
            },
        ),
        Vector {
            audit_only: true,
            ..refused(
                "info-damaged",
                "a byte of an info entry was changed",
                BundleInvalid::Damaged { part: Part::Info },
                base.with_bytes(|bundle| {
                    super::flip(bundle, place(base, "info/notes.txt") as usize + BLOCK_BYTES)
                }),
            )
        },
    ]
}

fn orders(base: &Base<'_>) -> Vec<Vector> {
    let changed = |change: fn(&mut Vec<Entry>)| {
        let mut entries = entries_of(&base.bundle);
        change(&mut entries);
        archive_of(&entries)
    };
    // Entries: manifest, signatures, info/notes.txt, index, data.
    let unexpected = |part| BundleInvalid::UnexpectedEntry { part };
    let known = |name, what, bundle: Vec<u8>, stream: BundleInvalid| {
        let refusal = BundleInvalid::Length {
            expected: base.bundle.len() as u64,
            found: bundle.len() as u64,
        };
        Vector {
            stream_refusal: Some(stream.into()),
            ..refused(name, what, refusal, bundle)
        }
    };
    let swapped = |name, what, part, bundle| Vector {
        audit_only: true,
        ..refused(name, what, unexpected(part), bundle)
    };
    vec![
        refused(
            "manifest-missing",
            "it begins with the signatures",
            unexpected(Part::ManifestHeader),
            changed(|entries| drop(entries.remove(0))),
        ),
        refused(
            "manifest-twice",
            "the manifest stands there twice",
            unexpected(Part::SignaturesHeader),
            changed(|entries| entries.insert(0, entries[0].clone())),
        ),
        refused(
            "signatures-missing",
            "it has no signatures entry",
            unexpected(Part::SignaturesHeader),
            changed(|entries| drop(entries.remove(1))),
        ),
        refused(
            "signatures-first",
            "the signatures come before the manifest",
            unexpected(Part::ManifestHeader),
            changed(|entries| entries.swap(0, 1)),
        ),
        swapped(
            "info-after-index",
            "the info entry comes after the index",
            Part::InfoHeader,
            changed(|entries| entries.swap(2, 3)),
        ),
        known(
            "index-missing",
            "it has no index entry",
            changed(|entries| drop(entries.remove(3))),
            unexpected(Part::IndexHeader),
        ),
        known(
            "data-missing",
            "it has no data entry",
            changed(|entries| drop(entries.pop())),
            BundleInvalid::HeaderMalformed {
                part: Part::DataHeader,
            },
        ),
        known(
            "entry-surplus",
            "an entry that nobody asked for follows the data",
            changed(|entries| entries.push(("more".into(), vec![1]))),
            BundleInvalid::HeaderMalformed { part: Part::End },
        ),
        refused(
            "pax-header",
            "a pax header comes first",
            unexpected(Part::ManifestHeader),
            {
                let mut bundle = archive_of(&[(
                    "PaxHeaders/manifest".into(),
                    b"19 path=../manifest\n".to_vec(),
                )]);
                bundle.truncate(bundle.len() - END_BYTES);
                bundle.splice(TYPE..=TYPE, *b"x").for_each(drop);
                fix_checksum(&mut bundle, 0);
                bundle.extend_from_slice(&base.bundle);
                bundle
            },
        ),
        refused(
            "not-tar",
            "it is a compressed archive",
            BundleInvalid::HeaderMalformed {
                part: Part::ManifestHeader,
            },
            {
                let mut bundle = base.bundle.clone();
                bundle
                    .splice(..8, *b"\x28\xb5\x2f\xfd\x04\x00\x00\x00")
                    .for_each(drop);
                bundle.splice(MAGIC..MAGIC + 8, [0x55; 8]).for_each(drop);
                bundle
            },
        ),
    ]
}

/// Where the header of an entry starts.
fn place(base: &Base<'_>, name: &str) -> u64 {
    let entries = entries_of(&base.bundle);
    let before = entries.iter().take_while(|(entry, _)| entry != name);
    let bytes = before.map(|(_, content)| content.len() as u64);
    bytes
        .map(|size| BLOCK_BYTES as u64 + size + padding_bytes(size))
        .sum()
}

/// The header says a block more and the block is there: only the manifest knows better.
fn longer_index(base: &Base<'_>) -> Vec<u8> {
    base.with_bytes(|bundle| {
        let start = place(base, "index") as usize;
        let size = entries_of(&base.bundle)
            .iter()
            .find(|(name, _)| name == "index")
            .map_or(0, |(_, index)| index.len());
        let header = emit_header("index", (size + BLOCK_BYTES) as u64);
        bundle
            .splice(start..start + BLOCK_BYTES, header)
            .for_each(drop);
    })
}

/// Writes the checksum that the header at `start` should have: six octal digits, NUL, space.
fn fix_checksum(bundle: &mut Vec<u8>, start: usize) {
    let field = start + CHECKSUM..start + CHECKSUM + 8;
    bundle.splice(field.clone(), *b"        ").for_each(drop);
    let header = bundle.iter().skip(start).take(BLOCK_BYTES);
    let sum: u64 = header.map(|byte| u64::from(*byte)).sum();
    bundle
        .splice(field, format!("{sum:06o}\0 ").into_bytes())
        .for_each(drop);
}
