//! Small bundles for tests, made with core's own `emit` functions.

use ed25519_compact::{KeyPair, Noise, Seed};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use twinseal_core::error::Part;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::{BlobDigest, Sha256Digest};
use twinseal_core::wire::index::{
    BLOCK_BYTES, Blob, Encoding, Range, Record, Removed, Role, emit_block, set_next,
};
use twinseal_core::wire::layout::Layout;
use twinseal_core::wire::manifest::{
    BuildIdentity, Info, InfoKind, Manifest, Needs, Payload, PayloadKind, Route, ValidityWindow,
};
use twinseal_core::wire::signatures::{ALGORITHM_ED25519, SIGNED_CONTEXT, Signature, emit, key_id};
use twinseal_core::wire::text::{Line, Name};
use twinseal_core::wire::{
    FORMAT_VERSION, MANIFEST_MAX_BYTES, RANGE_MAX_BYTES, SIGNATURES_MAX_BYTES, tar,
};

/// Window of the test bundles' zstd frames, as a power of two.
const WINDOW_LOG: u8 = 17;

/// What a bundle is made of.
#[derive(Clone)]
pub struct Release {
    pub compatible: &'static str,
    pub version: String,
    pub anti_rollback: u64,
    pub window: ValidityWindow,
    /// Objects of a composefs payload; empty for a bundle without UKI and composefs.
    pub objects: Vec<Vec<u8>>,
    /// Image payloads: slot and content.
    pub images: Vec<(&'static str, Vec<u8>)>,
    /// One `info/` entry.
    pub notes: Option<Vec<u8>>,
    pub encoding: Encoding,
    pub range_bytes: usize,
    /// The release that the index has a route from.
    pub base: Option<Box<Release>>,
    /// What the UKI's command line seals instead of the composefs image of the bundle.
    pub uki_seals: Option<BlobDigest>,
    /// A UKI to carry instead of one that is made for the bundle.
    pub uki: Option<Vec<u8>>,
}

impl Release {
    /// A sealed system with a few objects, some of them the same in every version.
    pub fn sealed(number: u64) -> Self {
        let mut objects: Vec<Vec<u8>> = (0..4)
            .map(|seed| content(seed, 20_000 + 3_000 * seed as usize))
            .collect();
        objects.extend(
            (0..4).map(|seed| content(1000 * number + seed, 40_000 + 5_000 * seed as usize)),
        );
        Self {
            compatible: "acme-gateway",
            version: format!("{number}.0"),
            anti_rollback: number,
            window: ValidityWindow {
                not_before: 0,
                not_after: None,
            },
            objects,
            images: Vec::new(),
            notes: Some(format!("Release {number}").into_bytes()),
            encoding: Encoding::Zstd,
            range_bytes: 16 * 1024,
            base: None,
            uki_seals: None,
            uki: None,
        }
    }

    /// A bundle with one image payload for the slot `app`.
    pub fn image(number: u64, bytes: usize) -> Self {
        let images = vec![("app", content(number, bytes))];
        Self {
            objects: Vec::new(),
            images,
            encoding: Encoding::Stored,
            range_bytes: 1024 * 1024,
            ..Self::sealed(number)
        }
    }

    /// The bundle, signed by these keys.
    pub fn bundle(&self, signers: &[&KeyPair]) -> Vec<u8> {
        self.bundle_with(signers, |_| ())
    }

    /// The bundle, with a change to the manifest before it is signed.
    pub fn bundle_with(&self, signers: &[&KeyPair], change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let mut data = Vec::new();
        let mut records = Vec::new();
        let mut payloads = Vec::new();
        let erofs = self.erofs();
        let image = verity(&erofs);
        if !self.objects.is_empty() {
            let made = || uki(self.uki_seals.unwrap_or(image), self.anti_rollback);
            let uki = self.uki.clone().unwrap_or_else(made);
            let object_bytes = self.objects.iter().map(|object| object.len() as u64).sum();
            let kind = PayloadKind::Composefs {
                objects: self.objects.len() as u32,
                object_bytes,
            };
            payloads.push(payload(PayloadKind::Uki, &uki));
            payloads.push(payload(kind, &erofs));
            self.store(Role::Uki, 0, &uki, &mut records, &mut data);
        }
        for (slot, bytes) in &self.images {
            payloads.push(payload(
                PayloadKind::Image {
                    slot: Name::new(slot).unwrap(),
                },
                bytes,
            ));
            self.store(
                Role::Image,
                payloads.len() - 1,
                bytes,
                &mut records,
                &mut data,
            );
        }
        if !self.objects.is_empty() {
            let mut objects: Vec<&Vec<u8>> = self.objects.iter().collect();
            objects.sort_by_key(|object| verity(object).as_bytes().to_vec());
            objects
                .iter()
                .for_each(|object| self.store(Role::Object, 1, object, &mut records, &mut data));
            self.store(Role::Composefs, 1, &erofs, &mut records, &mut data);
        }
        let mut index = blocks(&records);
        let mut routes = vec![route(None, &index)];
        if let Some(base) = &self.base {
            let more = blocks(&records_from(&records, &self.objects, base));
            let base = base.bundle(&[]);
            let bytes = tar::check_header(&base[..512], "manifest", Part::ManifestHeader).unwrap();
            let named = Sha256::digest(&base[512..512 + bytes as usize]).into();
            routes.push(route(Some(named), &more));
            index.extend(more);
        }
        let info = self.notes.iter().map(|notes| Info {
            name: Name::new("notes.md").unwrap(),
            kind: InfoKind::Notes,
            size: notes.len() as u64,
            sha256: Sha256::digest(notes).into(),
        });
        let mut manifest = Manifest {
            format: FORMAT_VERSION,
            compatible: Name::new(self.compatible).unwrap(),
            version: Line::new(&self.version).unwrap(),
            anti_rollback: self.anti_rollback,
            window: self.window,
            sequence: self.anti_rollback,
            build: BuildIdentity {
                source: Line::new("test").unwrap(),
                builder: Line::new("test").unwrap(),
            },
            info: info.collect(),
            seal: (!self.objects.is_empty()).then_some(image),
            payloads: payloads.into_iter().collect(),
            routes: routes.into_iter().collect(),
            data_parts: [data.len() as u64].into_iter().collect(),
            needs: Needs {
                range_bytes: (self.range_bytes as u32 + 1024).min(RANGE_MAX_BYTES),
                zstd_window_log: if self.encoding == Encoding::Zstd {
                    WINDOW_LOG
                } else {
                    0
                },
            },
        };
        change(&mut manifest);
        archive(
            &manifest,
            signers,
            self.notes.as_deref(),
            &index.concat(),
            &data,
        )
    }

    /// The digest that the UKI must seal.
    pub fn seal(&self) -> BlobDigest {
        verity(&self.erofs())
    }

    fn erofs(&self) -> Vec<u8> {
        content(7_000 + self.anti_rollback, 9_000)
    }

    /// Adds a blob and its ranges.
    fn store(
        &self,
        role: Role,
        payload: usize,
        bytes: &[u8],
        records: &mut Vec<Record>,
        data: &mut Vec<u8>,
    ) {
        let start = data.len() as u64;
        let mut ranges = Vec::new();
        for (number, raw) in bytes.chunks(self.range_bytes).enumerate() {
            let stored = encode(self.encoding, raw);
            ranges.push(Record::Range(Range {
                encoding: self.encoding,
                raw_offset: (number * self.range_bytes) as u64,
                raw_bytes: raw.len() as u32,
                stored_offset: data.len() as u64,
                stored_bytes: stored.len() as u32,
                stored_sha256: Sha256::digest(&stored).into(),
                raw_sha256: if raw.len() == bytes.len() {
                    [0; 32]
                } else {
                    Sha256::digest(raw).into()
                },
            }));
            data.extend_from_slice(&stored);
        }
        records.push(Record::Blob(Blob {
            role,
            payload: payload as u8,
            digest: verity(bytes),
            size: bytes.len() as u64,
            ranges: ranges.len() as u32,
            stored_bytes: data.len() as u64 - start,
            alternatives: 0,
        }));
        records.append(&mut ranges);
    }
}

/// A key pair; the same number gives the same pair.
pub fn key(number: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([number; 32]))
}

/// Bytes that a compressor can halve; the same seed gives the same bytes.
pub fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut made = Vec::with_capacity(bytes + 8);
    while made.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend(state.to_le_bytes().map(|byte| byte & 0x0f));
    }
    made.truncate(bytes);
    made
}

/// The fs-verity digest of some bytes.
pub fn verity(bytes: &[u8]) -> BlobDigest {
    let mut digest = VerityDigest::new();
    digest.update(bytes);
    digest.finish()
}

fn payload(kind: PayloadKind, bytes: &[u8]) -> Payload {
    Payload {
        kind,
        digest: verity(bytes),
        size: bytes.len() as u64,
    }
}

/// A PE file with one section, the command line; the rest is filling.
fn uki(seals: BlobDigest, number: u64) -> Vec<u8> {
    let cmdline = format!("quiet composefs={seals}");
    let mut file = vec![0; 1024];
    file[..2].copy_from_slice(b"MZ");
    file[60] = 64;
    file[64..68].copy_from_slice(b"PE\0\0");
    file[70] = 1;
    file[88..96].copy_from_slice(b".cmdline");
    for (field, value) in [(96, cmdline.len()), (104, cmdline.len()), (108, file.len())] {
        file[field..field + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    file.extend_from_slice(cmdline.as_bytes());
    file.extend(content(9_000 + number, 50_000));
    file
}

fn encode(encoding: Encoding, raw: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Stored => raw.to_vec(),
        Encoding::Deflate => miniz_oxide::deflate::compress_to_vec(raw, 6),
        Encoding::Zstd => {
            let mut context = zstd_safe::CCtx::create();
            context
                .set_parameter(zstd_safe::CParameter::WindowLog(u32::from(WINDOW_LOG)))
                .unwrap();
            let mut stored = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
            context.compress2(&mut stored, raw).unwrap();
            stored
        }
    }
}

fn route(base: Option<Sha256Digest>, blocks: &[[u8; BLOCK_BYTES]]) -> Route {
    Route {
        base,
        blocks: blocks.len() as u32,
        first_block: Sha256::digest(blocks[0]).into(),
    }
}

/// The records of the route from a base, of those of the full one.
fn records_from(full: &[Record], objects: &[Vec<u8>], base: &Release) -> Vec<Record> {
    let named = |objects: &[Vec<u8>]| -> BTreeMap<Vec<u8>, u64> {
        let objects = objects.iter();
        objects
            .map(|object| (verity(object).as_bytes().to_vec(), object.len() as u64))
            .collect()
    };
    let (theirs, ours) = (named(&base.objects), named(objects));
    let mut removed = theirs
        .iter()
        .filter(|(digest, _)| !ours.contains_key(*digest))
        .peekable();
    let (mut records, mut passes) = (Vec::new(), true);
    for record in full {
        if let Record::Blob(blob) = record {
            let digest = blob.digest.as_bytes();
            passes = blob.role != Role::Object || !theirs.contains_key(digest);
            while let Some((name, size)) = removed.next_if(|(name, _)| match blob.role {
                Role::Object => name.as_slice() < digest,
                role => role == Role::Composefs,
            }) {
                let digest = BlobDigest::sha256(name.as_slice().try_into().unwrap());
                records.push(Record::Removed(Removed {
                    digest,
                    size: *size,
                }));
            }
        }
        if passes {
            records.push(*record);
        }
    }
    records
}

/// The records as a chain of index blocks.
fn blocks(records: &[Record]) -> Vec<[u8; BLOCK_BYTES]> {
    let mut blocks: Vec<[u8; BLOCK_BYTES]> = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let (block, count) = emit_block(rest, &[0; 32]);
        blocks.push(block);
        rest = &rest[count..];
    }
    let mut next = [0; 32];
    for block in blocks.iter_mut().rev() {
        set_next(block, &next);
        next = Sha256::digest(*block).into();
    }
    blocks
}

fn archive(
    manifest: &Manifest,
    signers: &[&KeyPair],
    notes: Option<&[u8]>,
    index: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let mut buffer = [0; MANIFEST_MAX_BYTES];
    let bytes = manifest.emit(&mut buffer).unwrap();
    let signed: Vec<_> = signers
        .iter()
        .map(|pair| (key_id(ALGORITHM_ED25519, &*pair.pk), sign(pair, bytes)))
        .collect();
    let list: Vec<_> = signed
        .iter()
        .map(|(key, bytes)| Signature {
            key: *key,
            algorithm: ALGORITHM_ED25519,
            bytes,
        })
        .collect();
    let mut buffer = [0; SIGNATURES_MAX_BYTES];
    let signatures = emit(&list, &mut buffer).unwrap();
    let layout = Layout::new(manifest, bytes.len() as u64, signatures.len() as u64);
    let mut bundle = tar::emit_header("manifest", bytes.len() as u64).to_vec();
    let contents = [
        Some(bytes),
        Some(signatures),
        notes,
        Some(index),
        Some(data),
    ];
    for (entry, content) in contents.into_iter().flatten().enumerate() {
        bundle.extend_from_slice(content);
        bundle.extend_from_slice(layout.seam(entry + 1).expected());
    }
    assert_eq!(bundle.len() as u64, layout.bundle_bytes());
    bundle
}

fn sign(pair: &KeyPair, manifest: &[u8]) -> [u8; 64] {
    let mut state = pair.sk.sign_incremental(Noise::new([0; 16]));
    state.absorb(SIGNED_CONTEXT);
    state.absorb(manifest);
    *state.sign()
}
