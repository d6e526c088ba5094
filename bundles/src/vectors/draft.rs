//! A small bundle in memory, step by step, so that every step can be changed before the next one.

use std::fs::File;
use std::io::{Read, Seek};

use twinseal_core::wire::MANIFEST_MAX_BYTES;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Record;
use twinseal_core::wire::manifest::{BuildIdentity, InfoKind, Manifest, Route, ValidityWindow};
use twinseal_core::wire::tar::{BLOCK_BYTES, END_BYTES, emit_header, padding_bytes};
use twinseal_core::wire::text::{Line, Name};

use super::tiny_uki::{pe_file, sections};
use crate::assemble::{
    BlobPlan, Compression, Content, EncodingOptions, Identity, InfoContent, Plan, RANGE_MIN_BYTES,
    Target, describe, full_route, records, store, write_data, write_end, write_front,
};
use crate::composefs_image::{ComposefsImage, from_tar};
use crate::error::{Error, FileOperation};
use crate::keys::SigningKey;
use crate::rootfs::RootOptions;
use crate::sign::{OwnedSignature, sign_manifest, signatures_entry};

/// The root of every vector, by path and content. Files of more than 64 bytes become objects.
fn tree() -> [(&'static str, Vec<u8>); 5] {
    let program: Vec<u8> = (0..9000u32)
        .flat_map(|number| (number / 5).to_le_bytes())
        .take(9000)
        .collect();
    [
        ("etc/motd", b"Sealed.\n".to_vec()),
        ("usr/bin/app", program),
        (
            "usr/lib/os-release",
            b"ID=twinseal-vector\nPRETTY_NAME=\"A root of five files\"\nVERSION_ID=1\n".to_vec(),
        ),
        ("usr/share/noise", noise(300)),
        (
            "usr/share/words",
            b"small tools for sealed machines\n".repeat(40),
        ),
    ]
}

/// Bytes that no encoder can shorten: a multiplicative generator with the modulus 2^31 - 1.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 20_261_123u64;
    let next = || {
        state = state * 48_271 % 0x7fff_ffff;
        (state >> 8) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// The composefs image of the root.
///
/// # Errors
/// When the host has no room for a temporary file.
pub fn image() -> Result<ComposefsImage, Error> {
    let directory = tempfile::tempdir().map_err(FileOperation::Create.on(&std::env::temp_dir()))?;
    let path = directory.path().join("root.tar");
    let mut archive = Vec::new();
    for (name, content) in tree() {
        archive.extend(emit_header(name, content.len() as u64));
        archive.extend_from_slice(&content);
        archive.resize(
            archive.len() + padding_bytes(content.len() as u64) as usize,
            0,
        );
    }
    archive.resize(archive.len() + END_BYTES, 0);
    std::fs::write(&path, archive).map_err(FileOperation::Write.on(&path))?;
    Ok(from_tar(&path, &RootOptions::at_epoch(0))?)
}

/// A name that stands in this file.
pub fn name(text: &'static str) -> Name {
    Name::new(text).expect("a constant that is a name")
}

/// A line that stands in this file.
pub fn line(text: &'static str) -> Line {
    Line::new(text).expect("a constant that is a line")
}

/// What a draft is made with.
pub struct Recipe<'a> {
    /// The root.
    pub image: &'a ComposefsImage,
    /// The UKI; the one that seals `image` when none is given.
    pub uki: Option<Vec<u8>>,
    /// How ranges are compressed.
    pub compression: Compression,
    /// Where a data part must end.
    pub part_max_bytes: u64,
}

impl<'a> Recipe<'a> {
    /// What the good bundle is made with.
    pub fn new(image: &'a ComposefsImage) -> Self {
        Self {
            image,
            uki: None,
            compression: Compression::Zstd,
            part_max_bytes: u64::MAX,
        }
    }

    /// The UKI that seals the image.
    pub fn sealing_uki(&self) -> Vec<u8> {
        pe_file(&sections(&format!(
            "quiet composefs={}",
            BlobDigest::sha256(self.image.digest)
        )))
    }

    /// Makes the draft.
    ///
    /// # Errors
    /// When the host has no room for temporary files.
    pub fn draft(&self) -> Result<Draft, Error> {
        let firmware: Vec<u8> = b"firmware of the second processor ".repeat(300);
        let uki = self.uki.clone().unwrap_or_else(|| self.sealing_uki());
        let mut blobs = vec![BlobPlan::bytes(Target::Uki, &uki)];
        let slot = name("firmware");
        let content = Content::Bytes(&firmware);
        blobs.push(BlobPlan {
            target: Target::Image { slot },
            size: firmware.len() as u64,
            digest: None,
            content,
        });
        blobs.extend(BlobPlan::composefs(self.image));
        let info = vec![InfoContent {
            name: name("notes.txt"),
            kind: InfoKind::Notes,
            content: b"The first release.\n".to_vec(),
        }];
        let level = self.compression.default_level();
        let encoding = EncodingOptions {
            compression: self.compression,
            level,
            range_bytes: RANGE_MIN_BYTES,
        };
        Draft::from_plan(
            &Plan {
                identity: identity(),
                info,
                blobs,
                encoding,
            },
            self.part_max_bytes,
        )
    }
}

fn identity() -> Identity {
    Identity {
        compatible: name(super::COMPATIBLE),
        version: line("1.0"),
        anti_rollback: super::FLOOR,
        window: ValidityWindow {
            not_before: super::TIME - 1000,
            not_after: Some(super::TIME + 1000),
        },
        sequence: 1,
        build: BuildIdentity {
            source: line("vectors"),
            builder: line("twinseal-bundle vectors"),
        },
    }
}

/// A bundle that is not yet framed.
#[derive(Clone)]
pub struct Draft {
    /// Its manifest; the full route is filled in at the end.
    pub manifest: Manifest,
    /// The records of the full route.
    pub records: Vec<Record>,
    /// Blocks of routes after the full one.
    pub more_blocks: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
    /// The contents of its `info/` entries.
    pub info: Vec<Vec<u8>>,
}

impl Draft {
    /// A draft of a plan.
    ///
    /// # Errors
    /// When the host has no room for temporary files, or the plan cannot be read.
    pub fn from_plan(plan: &Plan<'_>, part_max_bytes: u64) -> Result<Self, Error> {
        let path = std::env::temp_dir();
        let mut file: File = tempfile::tempfile().map_err(FileOperation::Create.on(&path))?;
        let stored = store(&plan.blobs, plan.encoding, part_max_bytes, &file, &path)?;
        let mut data = Vec::new();
        file.rewind()
            .and_then(|()| file.read_to_end(&mut data))
            .map_err(FileOperation::Read.on(&path))?;
        let records = records(&stored.blobs);
        let (_, route) = full_route(&records);
        let manifest = describe(&plan.identity, &plan.info, &stored, route)?;
        let info = plan.info.iter().map(|info| info.content.clone()).collect();
        Ok(Self {
            manifest,
            records,
            more_blocks: Vec::new(),
            data,
            info,
        })
    }

    /// The blocks of the index, and the manifest with the routes that they have.
    pub fn index(mut self) -> Framed {
        let (mut blocks, route) = full_route(&self.records);
        if let Some(first) = self.manifest.routes.first_mut() {
            *first = Route {
                base: first.base,
                ..route
            };
        }
        blocks.extend_from_slice(&self.more_blocks);
        Framed {
            manifest: self.manifest,
            blocks,
            data: self.data,
            info: self.info,
        }
    }

    /// The whole bundle, signed.
    pub fn signed_by(self, keys: &[&SigningKey]) -> Vec<u8> {
        self.index().signed_by(keys)
    }
}

/// A bundle whose index is made.
#[derive(Clone)]
pub struct Framed {
    /// Its manifest.
    pub manifest: Manifest,
    /// The content of `index`.
    pub blocks: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
    /// The contents of its `info/` entries.
    pub info: Vec<Vec<u8>>,
}

impl Framed {
    /// The bytes of the manifest, whether it keeps the rules or not.
    pub fn manifest_entry(&self) -> Vec<u8> {
        let mut buffer = [0; MANIFEST_MAX_BYTES];
        self.manifest
            .emit(&mut buffer)
            .expect("the manifest of a vector is small")
            .to_vec()
    }

    /// The whole bundle, signed.
    pub fn signed_by(&self, keys: &[&SigningKey]) -> Vec<u8> {
        let manifest = self.manifest_entry();
        let signatures: Vec<_> = keys
            .iter()
            .map(|key| sign_manifest(key, &manifest))
            .collect();
        self.with_entries(&manifest, &signatures)
    }

    /// The whole bundle with this manifest and these signatures.
    pub fn with_entries(&self, manifest: &[u8], signatures: &[OwnedSignature]) -> Vec<u8> {
        let signatures = signatures_entry(signatures).expect("the signatures of a vector are few");
        let info: Vec<&[u8]> = self.info.iter().map(Vec::as_slice).collect();
        let mut bundle = Vec::new();
        write_front(
            &mut bundle,
            &self.manifest,
            manifest,
            &signatures,
            &info,
            &self.blocks,
        )
        .and_then(|()| write_data(&mut bundle, &self.manifest.data_parts, self.data.as_slice()))
        .and_then(|()| write_end(&mut bundle))
        .expect("memory takes all, and a draft's data is as long as its parts");
        bundle
    }
}

/// An entry of an archive: name and content.
pub type Entry = (String, Vec<u8>);

/// The entries of a sound archive.
pub fn entries_of(bundle: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((header, after)) = rest.split_at_checked(BLOCK_BYTES) {
        let text = |field: std::ops::Range<usize>| {
            let field = header.get(field).unwrap_or(&[]);
            String::from_utf8_lossy(field)
                .trim_end_matches('\0')
                .to_owned()
        };
        // The places of name and size in a tar header (POSIX, ustar).
        let (name, size) = (
            text(0..100),
            u64::from_str_radix(&text(124..136), 8).unwrap_or(0),
        );
        if name.is_empty() {
            break;
        }
        let length = size as usize;
        entries.push((name, after.get(..length).unwrap_or(after).to_vec()));
        rest = after
            .get(length + padding_bytes(size) as usize..)
            .unwrap_or(&[]);
    }
    entries
}

/// An archive of these entries, in this order.
pub fn archive_of(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in entries {
        archive.extend(emit_header(name, content.len() as u64));
        archive.extend_from_slice(content);
        archive.resize(
            archive.len() + padding_bytes(content.len() as u64) as usize,
            0,
        );
    }
    archive.resize(archive.len() + END_BYTES, 0);
    archive
}
