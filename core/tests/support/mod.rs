//! A small builder of bundles and a device in memory, for the promise tests of core.
#![allow(dead_code, reason = "each test uses its part")]

use ed25519_compact::{KeyPair, Seed};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use twinseal_core::decode::Inflate;
use twinseal_core::error::{
    Error, Part, StorageError, StorageFault, StorageObject, StorageOperation,
};
use twinseal_core::install::{Config, Installer, Plan, Tally, Workspace};
use twinseal_core::source::{RunError, Seekable, Source, SourceError, run};
use twinseal_core::storage::{Location, PatchBase, Postponed, RunningObject, Space, Storage};
use twinseal_core::verify::digest::TREE_BYTES;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::verify::hashed::{TREES_MAX_COUNT, Trees};
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::verify::{Verified, verify_manifest};
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm, Sha256Digest};
use twinseal_core::wire::index::{
    Alternative, BLOCK_BYTES, Blob, Encoding, METHOD_PATCH, Range, Record, Removed, Role,
    emit_block, set_next,
};
use twinseal_core::wire::layout::Layout;
use twinseal_core::wire::manifest::*;
use twinseal_core::wire::signatures::{
    ALGORITHM_ED25519, SIGNED_CONTEXT, Signature, emit as emit_signatures,
};
use twinseal_core::wire::tar::check_header;
use twinseal_core::wire::text::{Line, Name};
use twinseal_core::wire::{
    FORMAT_VERSION, FRONT_MAX_BYTES, MANIFEST_MAX_BYTES, SIGNATURES_MAX_BYTES, ZSTD_WINDOW_LOG_MAX,
};

pub const COMPATIBLE: &str = "test-device";
pub const REQUEST_BYTES: usize = 8192;

pub fn verity(bytes: &[u8]) -> BlobDigest {
    let mut digest = VerityDigest::new();
    digest.update(bytes);
    digest.finish()
}

pub fn sha256(bytes: &[u8]) -> Sha256Digest {
    Sha256::digest(bytes).into()
}

/// Bytes that do not compress, from a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A PE file with one section, `.cmdline`.
pub fn uki(cmdline: &str, filler: usize) -> Vec<u8> {
    let mut file = vec![0; 512];
    file[..2].copy_from_slice(b"MZ");
    file[60] = 64;
    file[64..68].copy_from_slice(b"PE\0\0");
    file[70] = 1;
    file[88..96].copy_from_slice(b".cmdline");
    for (at, value) in [(96, cmdline.len()), (104, cmdline.len()), (108, 512)] {
        file[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    file.extend_from_slice(cmdline.as_bytes());
    file.extend_from_slice(&noise(77, filler));
    file
}

pub fn key(number: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([number; 32]))
}

pub fn trusted(number: u8) -> TrustedKey {
    TrustedKey::ed25519(*key(number).pk)
}

/// What to build.
#[derive(Clone)]
pub struct Release {
    pub uki: Option<Vec<u8>>,
    pub erofs: Vec<u8>,
    pub objects: Vec<Vec<u8>>,
    pub images: Vec<(&'static str, Vec<u8>)>,
    pub info: Vec<(&'static str, Vec<u8>)>,
    pub encoding: Encoding,
    pub range_bytes: usize,
    pub part_bytes: u64,
    pub signers: Vec<u8>,
    pub anti_rollback: u64,
    /// Adds an alternative of an unknown method to every object.
    pub alternatives: bool,
    /// Adds a route from this release.
    pub base: Option<Box<Release>>,
    /// Adds patches against these releases to every blob that has a counterpart there, in this order.
    pub patched_from: Vec<Release>,
    /// The instructions of the first range of all patches, instead of the right ones.
    pub first_instructions: Option<Vec<u8>>,
}

impl Release {
    /// A small sealed release; `seed` changes some objects and keeps others.
    pub fn sealed(seed: u64) -> Self {
        let erofs = noise(seed + 1, 5000);
        let objects = vec![
            noise(100, 70),
            noise(101, 9000),
            noise(seed + 2, 20_000),
            vec![7; 30_000],
        ];
        let cmdline = format!("quiet composefs={} ro", verity(&erofs));
        Self {
            uki: Some(uki(&cmdline, 6000)),
            erofs,
            objects,
            images: vec![("fpga", noise(seed + 3, 10_000))],
            info: vec![("sbom.json", b"{}".to_vec())],
            encoding: Encoding::Stored,
            range_bytes: 4096,
            part_bytes: u64::MAX,
            signers: vec![1],
            anti_rollback: 5,
            alternatives: false,
            base: None,
            patched_from: Vec::new(),
            first_instructions: None,
        }
    }

    /// The release after `base`, in which every blob differs in a few bytes; it has patches from there.
    pub fn evolved(base: &Release, seed: u8) -> Self {
        let change = |bytes: &Vec<u8>| {
            let mut changed = bytes.clone();
            let at = changed.len() / 2;
            changed[at] ^= 1 + seed;
            changed.push(seed);
            changed
        };
        let erofs = change(&base.erofs);
        let cmdline = format!("quiet composefs={} ro", verity(&erofs));
        let images = base.images.iter().map(|(slot, bytes)| {
            let mut changed = bytes.clone();
            changed[5000] ^= 1 + seed;
            (*slot, changed)
        });
        Self {
            uki: base.uki.as_ref().map(|_| uki(&cmdline, 6000)),
            erofs,
            objects: base.objects.iter().map(change).collect(),
            images: images.collect(),
            encoding: Encoding::Deflate,
            base: None,
            patched_from: vec![Release {
                patched_from: Vec::new(),
                ..base.clone()
            }],
            ..base.clone()
        }
    }

    /// What a range of a patch makes: less than a range may store, so that there is room for instructions that do not compress.
    pub const fn slice_bytes(&self) -> usize {
        self.range_bytes - self.range_bytes / 8
    }

    /// What of this release the content of `next` is paired with.
    fn counterpart(&self, next: &Release, role: Role, content: &[u8]) -> Option<Vec<u8>> {
        let place = |ours: &[u8], theirs: &[u8]| (ours == content).then(|| theirs.to_vec());
        match role {
            Role::Uki => self.uki.clone(),
            Role::Composefs => Some(self.erofs.clone()),
            Role::Object => {
                let mut pairs = next.objects.iter().zip(&self.objects);
                pairs.find_map(|(ours, theirs)| place(ours, theirs))
            }
            Role::Image => {
                let mut pairs = next.images.iter().zip(&self.images);
                pairs.find_map(|((_, ours), (_, theirs))| place(ours, theirs))
            }
        }
    }

    pub fn build(&self) -> Vec<u8> {
        self.build_with(|_| {}, |_| {})
    }

    /// The release after `base`: the composefs image and one object have changed, and it has a route from there.
    pub fn after(base: &Release, seed: u64) -> Self {
        let erofs = noise(seed + 1, 5000);
        let cmdline = format!("quiet composefs={} ro", verity(&erofs));
        let mut objects = base.objects.clone();
        if let Some(last) = objects.last_mut() {
            *last = noise(seed, last.len() + 3);
        }
        Self {
            uki: Some(uki(&cmdline, 6000)),
            erofs,
            objects,
            base: Some(Box::new(base.clone())),
            ..base.clone()
        }
    }

    /// Builds with a change to the records before the index is made, and one to the manifest before it is signed.
    pub fn build_with(
        &self,
        records: impl Fn(&mut Vec<Record>),
        manifest: impl Fn(&mut Manifest),
    ) -> Vec<u8> {
        self.build_routes_with(records, |_| {}, manifest)
    }

    /// The same, with a change to the records of the route from the base.
    pub fn build_routes_with(
        &self,
        records: impl Fn(&mut Vec<Record>),
        base_records: impl Fn(&mut Vec<Record>),
        manifest: impl Fn(&mut Manifest),
    ) -> Vec<u8> {
        let mut draft = self.draft();
        records(&mut draft.records);
        let (mut index, first_block) = emit_route(&draft.records);
        draft.manifest.routes[0].blocks = (index.len() / BLOCK_BYTES) as u32;
        draft.manifest.routes[0].first_block = first_block;
        if let Some(base) = &self.base {
            let mut from_base = records_from(&draft.records, base);
            base_records(&mut from_base);
            let (blocks, first_block) = emit_route(&from_base);
            let base = Some(sha256(manifest_entry(&base.build())));
            let blocks_count = (blocks.len() / BLOCK_BYTES) as u32;
            draft
                .manifest
                .routes
                .push(Route {
                    base,
                    blocks: blocks_count,
                    first_block,
                })
                .unwrap();
            index.extend_from_slice(&blocks);
        }
        manifest(&mut draft.manifest);
        let mut buffer = vec![0; MANIFEST_MAX_BYTES];
        let signed = draft.manifest.emit(&mut buffer).unwrap().to_vec();
        let signatures = sign(&signed, &self.signers);
        frame(
            &draft.manifest,
            &signed,
            &signatures,
            &self.info,
            &index,
            &draft.data,
        )
    }

    fn draft(&self) -> Draft {
        let mut objects = self.objects.clone();
        objects.sort_by_key(|object| verity(object).as_bytes().to_vec());
        let mut draft = Draft::new(self);
        if let Some(uki) = &self.uki {
            draft.payload(PayloadKind::Uki, uki);
        }
        for (slot, bytes) in &self.images {
            draft.payload(
                PayloadKind::Image {
                    slot: Name::new(slot).unwrap(),
                },
                bytes,
            );
        }
        if self.uki.is_some() {
            let object_bytes = objects.iter().map(|object| object.len() as u64).sum();
            let kind = PayloadKind::Composefs {
                objects: objects.len() as u32,
                object_bytes,
            };
            draft.payload(kind, &self.erofs);
            draft.manifest.seal = Some(verity(&self.erofs));
        }
        let payloads: Vec<_> = draft
            .manifest
            .payloads
            .iter()
            .cloned()
            .enumerate()
            .collect();
        let contents = self
            .uki
            .iter()
            .chain(self.images.iter().map(|(_, bytes)| bytes))
            .chain([&self.erofs]);
        for ((number, payload), content) in payloads.iter().zip(contents) {
            let role = match payload.kind {
                PayloadKind::Uki => Role::Uki,
                PayloadKind::Image { .. } => Role::Image,
                PayloadKind::Composefs { .. } => {
                    objects
                        .iter()
                        .for_each(|object| draft.blob(Role::Object, *number, object));
                    Role::Composefs
                }
            };
            draft.blob(role, *number, content);
        }
        draft.place_alternatives();
        draft.manifest.data_parts.push(draft.part).unwrap();
        draft
    }
}

struct Draft {
    manifest: Manifest,
    records: Vec<Record>,
    data: Vec<u8>,
    /// Stored bytes of the ranges of alternatives, in order: they come after all whole ranges.
    waiting: Vec<Vec<u8>>,
    part: u64,
    release: Release,
}

impl Draft {
    fn new(release: &Release) -> Self {
        let info = release.info.iter().map(|(name, bytes)| Info {
            name: Name::new(name).unwrap(),
            kind: InfoKind::Sbom,
            size: bytes.len() as u64,
            sha256: sha256(bytes),
        });
        let zstd = release.encoding == Encoding::Zstd;
        let manifest = Manifest {
            format: FORMAT_VERSION,
            compatible: Name::new(COMPATIBLE).unwrap(),
            version: Line::new("1.0").unwrap(),
            anti_rollback: release.anti_rollback,
            window: ValidityWindow {
                not_before: 1000,
                not_after: Some(2000),
            },
            sequence: 1,
            build: BuildIdentity {
                source: Line::new("abc").unwrap(),
                builder: Line::new("test").unwrap(),
            },
            info: info.collect(),
            payloads: heapless::Vec::new(),
            seal: None,
            routes: [Route {
                base: None,
                blocks: 1,
                first_block: [0; 32],
            }]
            .into_iter()
            .collect(),
            data_parts: heapless::Vec::new(),
            needs: Needs {
                range_bytes: release.range_bytes as u32,
                zstd_window_log: if zstd { ZSTD_WINDOW_LOG_MAX } else { 0 },
            },
        };
        Self {
            manifest,
            records: Vec::new(),
            data: Vec::new(),
            waiting: Vec::new(),
            part: 0,
            release: release.clone(),
        }
    }

    fn payload(&mut self, kind: PayloadKind, bytes: &[u8]) {
        let payload = Payload {
            kind,
            digest: verity(bytes),
            size: bytes.len() as u64,
        };
        self.manifest.payloads.push(payload).unwrap();
    }

    fn blob(&mut self, role: Role, payload: usize, content: &[u8]) {
        let start = self.data.len() as u64;
        let head = self.records.len();
        let mut raw_offset = 0;
        let mut ranges = Vec::new();
        for piece in content.chunks(self.release.range_bytes) {
            let range = Range {
                raw_sha256: raw_sha256(piece, content),
                ..self.range(piece, raw_offset)
            };
            raw_offset += piece.len() as u64;
            ranges.push(Record::Range(range));
        }
        let stored_bytes = self.data.len() as u64 - start;
        let mut others = Vec::new();
        if self.release.alternatives && role == Role::Object {
            let stored = noise(start, 50);
            let range = self.other_range(&stored, 0);
            let stored_bytes = u64::from(range.stored_bytes);
            others = vec![
                Record::Alternative(Alternative {
                    method: 99,
                    base_role: Role::Object,
                    base_digest: verity(b"some older object"),
                    base_size: 17,
                    ranges: 1,
                    stored_bytes,
                }),
                Record::Range(range),
            ];
        }
        let mut alternatives = u16::from(!others.is_empty());
        let release = self.release.clone();
        for old in &release.patched_from {
            if let Some(base) = old.counterpart(&release, role, content) {
                others.extend(self.patch(role, &base, content));
                alternatives += 1;
            }
        }
        let blob = Blob {
            role,
            payload: payload as u8,
            digest: verity(content),
            size: content.len() as u64,
            ranges: ranges.len() as u32,
            stored_bytes,
            alternatives,
        };
        self.records.insert(head, Record::Blob(blob));
        self.records.extend(ranges);
        self.records.extend(others);
    }

    /// A patch against `base`, in ranges.
    fn patch(&mut self, role: Role, base: &[u8], content: &[u8]) -> Vec<Record> {
        let slice_bytes = self.release.slice_bytes();
        let (mut records, mut stored_bytes) = (Vec::new(), 0);
        for (number, slice) in content.chunks(slice_bytes).enumerate() {
            let offset = number * slice_bytes;
            let given = self.release.first_instructions.take();
            let instructions = given.unwrap_or_else(|| instructions(base, offset, slice));
            let range = self.other_range(&instructions, offset as u64);
            stored_bytes += u64::from(range.stored_bytes);
            records.push(Record::Range(Range {
                raw_bytes: slice.len() as u32,
                raw_sha256: raw_sha256(slice, content),
                ..range
            }));
        }
        let alternative = Alternative {
            method: METHOD_PATCH,
            base_role: role,
            base_digest: verity(base),
            base_size: base.len() as u64,
            ranges: records.len() as u32,
            stored_bytes,
        };
        records.insert(0, Record::Alternative(alternative));
        records
    }

    /// A range that stores a part of its blob whole: its place is next in the data.
    fn range(&mut self, piece: &[u8], raw_offset: u64) -> Range {
        let (range, stored) = self.encoded(piece, raw_offset);
        Range {
            stored_offset: self.place(&stored),
            ..range
        }
    }

    /// A range of an alternative: its place is found when all whole ranges have theirs.
    fn other_range(&mut self, piece: &[u8], raw_offset: u64) -> Range {
        let (range, stored) = self.encoded(piece, raw_offset);
        self.waiting.push(stored);
        range
    }

    fn place_alternatives(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        let mut records = std::mem::take(&mut self.records);
        let mut is_other = false;
        for record in &mut records {
            match record {
                Record::Alternative(_) => is_other = true,
                Record::Range(range) if is_other => {
                    range.stored_offset = self.place(&waiting.next().unwrap());
                }
                Record::Range(_) => {}
                Record::Blob(_) | Record::Removed(_) => is_other = false,
            }
        }
        self.records = records;
    }

    /// Adds stored bytes to the data; gives where they stand.
    fn place(&mut self, stored: &[u8]) -> u64 {
        if self.part > 0 && self.part + stored.len() as u64 > self.release.part_bytes {
            self.manifest.data_parts.push(self.part).unwrap();
            self.part = 0;
        }
        let stored_offset = self.data.len() as u64;
        self.part += stored.len() as u64;
        self.data.extend_from_slice(stored);
        stored_offset
    }

    fn encoded(&self, piece: &[u8], raw_offset: u64) -> (Range, Vec<u8>) {
        let deflated = miniz_oxide::deflate::compress_to_vec(piece, 6);
        let deflate = self.release.encoding == Encoding::Deflate && deflated.len() < piece.len();
        let (encoding, stored) = if deflate {
            (Encoding::Deflate, deflated)
        } else {
            (Encoding::Stored, piece.to_vec())
        };
        let range = Range {
            encoding,
            raw_offset,
            raw_bytes: piece.len() as u32,
            stored_offset: 0,
            stored_bytes: stored.len() as u32,
            stored_sha256: sha256(&stored),
            raw_sha256: sha256(piece),
        };
        (range, stored)
    }
}

/// The digest of a slice in its range: none when it is all of its blob.
pub fn raw_sha256(slice: &[u8], blob: &[u8]) -> Sha256Digest {
    if slice.len() == blob.len() {
        return Sha256Digest::default();
    }
    sha256(slice)
}

/// Instructions that make `slice` from what stands at the same place in `base`; what is beyond its end is copied. Batches of three
/// steps.
pub fn instructions(base: &[u8], offset: usize, slice: &[u8]) -> Vec<u8> {
    const STEP_BYTES: usize = 1000;
    const BATCH_STEPS: usize = 3;
    let number = |mut value: u64| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let (mut stream, mut position, mut at) = (Vec::new(), 0, offset);
    for batch in slice.chunks(BATCH_STEPS * STEP_BYTES) {
        let (mut added, mut copied) = (Vec::new(), Vec::new());
        stream.extend(number(batch.chunks(STEP_BYTES).count() as u64));
        for piece in batch.chunks(STEP_BYTES) {
            let from = at.min(base.len());
            let adds = piece.len().min(base.len() - from);
            let pairs = piece.iter().zip(&base[from..]);
            stream.extend(number(2 * (from - position) as u64));
            stream.extend(number(adds as u64));
            stream.extend(number((piece.len() - adds) as u64));
            added.extend(pairs.map(|(new, old)| new.wrapping_sub(*old)));
            copied.extend_from_slice(&piece[adds..]);
            position = from + adds;
            at += piece.len();
        }
        stream.extend(added);
        stream.extend(copied);
    }
    stream
}

/// The records of the route from a base, of those of the full one.
fn records_from(full: &[Record], base: &Release) -> Vec<Record> {
    let mut kept = Vec::new();
    let mut at_base = BTreeMap::new();
    for object in &base.objects {
        let removed = Removed {
            digest: verity(object),
            size: object.len() as u64,
        };
        at_base.insert(removed.digest.as_bytes().to_vec(), removed);
    }
    let mut removed = at_base.clone();
    for record in full {
        if let Record::Blob(blob) = record
            && blob.role == Role::Object
        {
            removed.remove(blob.digest.as_bytes());
        }
    }
    let mut passes = true;
    for record in full {
        if let Record::Blob(blob) = record {
            passes = blob.role != Role::Object || !at_base.contains_key(blob.digest.as_bytes());
            while let Some(next) = removed.first_entry()
                && (blob.role == Role::Composefs
                    || (blob.role == Role::Object
                        && next.key().as_slice() < blob.digest.as_bytes()))
            {
                kept.push(Record::Removed(next.remove()));
            }
        }
        if passes {
            kept.push(*record);
        }
    }
    kept
}

/// The content of `manifest` in a bundle or in kept front matter.
pub fn manifest_entry(bundle: &[u8]) -> &[u8] {
    let size = check_header(&bundle[..512], "manifest", Part::ManifestHeader).unwrap();
    &bundle[512..512 + size as usize]
}

/// What kept front matter proves; `None` when nothing is kept.
pub fn proved(front: &[u8]) -> Option<Verified<Manifest>> {
    let manifest = front.first().map(|_| manifest_entry(front))?;
    let rest = &front[512 + manifest.len().next_multiple_of(512)..];
    let size = check_header(&rest[..512], "signatures", Part::SignaturesHeader).unwrap();
    let signatures = &rest[512..512 + size as usize];
    let policy = Policy { floor: 0, ..POLICY };
    Some(verify_manifest(manifest, signatures, &[trusted(1)], &policy).unwrap())
}

fn emit_route(records: &[Record]) -> (Vec<u8>, Sha256Digest) {
    let mut blocks = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let (block, count) = emit_block(rest, &Sha256Digest::default());
        blocks.push(block);
        rest = &rest[count..];
    }
    let mut next = Sha256Digest::default();
    for block in blocks.iter_mut().rev() {
        set_next(block, &next);
        next = sha256(block);
    }
    (blocks.concat(), next)
}

pub fn sign(manifest: &[u8], signers: &[u8]) -> Vec<u8> {
    let signed: Vec<_> = signers
        .iter()
        .map(|number| {
            // Without noise: signatures are deterministic whatever features other crates ask for.
            let message = [SIGNED_CONTEXT, manifest].concat();
            (trusted(*number).id(), key(*number).sk.sign(message, None))
        })
        .collect();
    let list: Vec<_> = signed
        .iter()
        .map(|(key, bytes)| Signature {
            key: *key,
            algorithm: ALGORITHM_ED25519,
            bytes: bytes.as_slice(),
        })
        .collect();
    let mut buffer = vec![0; SIGNATURES_MAX_BYTES];
    emit_signatures(&list, &mut buffer).unwrap().to_vec()
}

fn frame(
    manifest: &Manifest,
    signed: &[u8],
    signatures: &[u8],
    info: &[(&str, Vec<u8>)],
    index: &[u8],
    data: &[u8],
) -> Vec<u8> {
    let layout = Layout::new(manifest, signed.len() as u64, signatures.len() as u64);
    let mut contents = vec![signed.to_vec(), signatures.to_vec()];
    contents.extend(info.iter().map(|(_, bytes)| bytes.clone()));
    contents.push(index.to_vec());
    let mut start = 0;
    for part in &manifest.data_parts {
        let end = (start + *part as usize).min(data.len());
        contents.push(data[start.min(end)..end].to_vec());
        start = end;
    }
    let mut bundle = Vec::new();
    for (entry, content) in contents.iter().enumerate() {
        bundle.extend_from_slice(layout.seam(entry).expected());
        bundle.extend_from_slice(content);
    }
    bundle.extend_from_slice(layout.seam(layout.entries()).expected());
    bundle
}

/// A device in memory. Every call that changes it is counted, and can be made the last one before a power cut.
#[derive(Clone, Default)]
pub struct Device {
    /// Published objects and the composefs image, by digest.
    pub target: BTreeMap<Vec<u8>, Vec<u8>>,
    pub running: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Blobs being written, by digest: what a crash leaves.
    pub partial: BTreeMap<Vec<u8>, Vec<u8>>,
    pub image_slots: BTreeMap<String, Vec<u8>>,
    pub bootable: bool,
    pub staged_uki: Option<Vec<u8>>,
    pub front: Vec<u8>,
    /// The front matter that is kept with the running set, when its release was committed.
    pub running_front: Vec<u8>,
    /// Objects of the running set that are damaged: reading them gives other bytes.
    pub spoiled: BTreeSet<Vec<u8>>,
    pub prepared: u32,
    pub writes: u32,
    /// Objects and images that were looked up.
    pub looks: u32,
    /// Objects of the base that were removed.
    pub removed: u32,
    pub scratch: Vec<u8>,
    pub space: Space,
    /// The storage fails at this change, counted from 0, and at all later ones.
    pub cut_at: Option<u32>,
    pub changes: u32,
    /// Flips a bit of what is read back after `settle`.
    pub bad_medium: bool,
    pub settled: bool,
    /// So many objects wait to be brought to the medium together; 0: none does.
    pub batch: usize,
    pub waiting: Vec<Blob>,
    pub draining: bool,
    /// Flips a bit of what is read back of objects that waited.
    pub bad_batch: bool,
    /// Blobs and batches that were brought to the medium.
    pub syncs: u32,
    /// Trees are read back and hashed here, not in core.
    pub hashes_itself: bool,
    /// Flips a bit of the trees that are read back.
    pub bad_trees: bool,
    pub open: Option<(Vec<u8>, Role, String)>,
    pub open_blob: Option<Blob>,
    /// The UKI and the image slots of the running set.
    pub running_uki: Option<Vec<u8>>,
    pub running_images: BTreeMap<String, Vec<u8>>,
    /// Names of what the running set holds, by its manifest.
    pub known_bases: BTreeSet<Vec<u8>>,
    /// Bytes of bases that were read.
    pub base_bytes: u64,
    /// The UKI of the running set is damaged between the plan and the transfer.
    pub spoils_bases_when_prepared: bool,
}

fn failure(operation: StorageOperation, fault: StorageFault) -> StorageError {
    StorageError {
        operation,
        object: StorageObject::Object,
        fault,
    }
}

impl Device {
    pub fn new() -> Self {
        Self {
            image_slots: [("fpga".to_owned(), vec![0; 10_000])].into(),
            bootable: true,
            ..Self::default()
        }
    }

    /// A device whose running set is `release`.
    pub fn running(release: &Release) -> Self {
        let objects = release.objects.iter().chain([&release.erofs]);
        let images = release.images.iter();
        let known = objects.clone().chain(&release.uki);
        Self {
            known_bases: known
                .chain(images.clone().map(|(_, bytes)| bytes))
                .map(|bytes| verity(bytes).as_bytes().to_vec())
                .collect(),
            running: objects
                .map(|bytes| (verity(bytes).as_bytes().to_vec(), bytes.clone()))
                .collect(),
            running_uki: release.uki.clone(),
            running_images: images
                .map(|(slot, bytes)| ((*slot).to_owned(), bytes.clone()))
                .collect(),
            ..Self::new()
        }
    }

    fn base(&self, base: &PatchBase<'_>) -> Option<&Vec<u8>> {
        match base.role {
            Role::Uki => self.running_uki.as_ref(),
            Role::Image => self.running_images.get(base.slot.expect("the slot")),
            Role::Object | Role::Composefs => self.running.get(base.digest.as_bytes()),
        }
    }

    fn change(&mut self) -> Result<(), StorageError> {
        self.changes += 1;
        match self.cut_at {
            Some(cut) if self.changes > cut => {
                Err(failure(StorageOperation::Write, StorageFault::Code(5)))
            }
            _ => Ok(()),
        }
    }

    fn bytes(&mut self) -> &mut Vec<u8> {
        let (digest, role, slot) = self.open.clone().expect("a blob is open");
        match role {
            Role::Image => self.image_slots.get_mut(&slot).expect("the slot"),
            _ => self.partial.entry(digest).or_default(),
        }
    }
}

impl Storage for Device {
    fn locate(&mut self, blob: &Blob, _: &Manifest) -> Result<Location, StorageError> {
        let digest = blob.digest.as_bytes();
        self.looks += 1;
        Ok(match blob.role {
            Role::Uki | Role::Image => Location::Absent,
            _ if self.target.contains_key(digest) => Location::Target,
            _ if self.running.contains_key(digest) => Location::Running,
            _ => Location::Absent,
        })
    }
    fn starts_from(&mut self, base: &Manifest) -> Result<bool, StorageError> {
        let image = base.composefs().map(|payload| payload.digest);
        Ok(image.is_some_and(|digest| self.target.contains_key(digest.as_bytes())))
    }
    fn freed_bytes(&mut self, digest: &BlobDigest) -> Result<u64, StorageError> {
        let object = self.target.get(digest.as_bytes());
        Ok(object.map_or(0, |object| object.len() as u64))
    }
    fn remove(&mut self, digest: &BlobDigest) -> Result<(), StorageError> {
        assert!(!self.bootable, "nothing is removed from a bootable set");
        self.change()?;
        self.removed += u32::from(self.target.remove(digest.as_bytes()).is_some());
        Ok(())
    }
    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        Ok(self.image_slots.get(slot).map(|bytes| bytes.len() as u64))
    }
    fn space(&mut self) -> Result<Space, StorageError> {
        Ok(self.space)
    }
    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let rest = self.scratch.get(offset as usize..).unwrap_or(&[]);
        buffer.fill(0);
        buffer
            .iter_mut()
            .zip(rest)
            .for_each(|(to, from)| *to = *from);
        Ok(())
    }
    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let end = offset as usize + bytes.len();
        self.scratch.resize(self.scratch.len().max(end), 0);
        self.scratch[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }
    fn prepare(&mut self, _: &Manifest) -> Result<(), StorageError> {
        self.change()?;
        if self.spoils_bases_when_prepared {
            let uki = self.running_uki.iter_mut().flatten();
            uki.for_each(|byte| *byte ^= 1);
        }
        self.bootable = false;
        self.open = None;
        self.waiting.clear();
        self.draining = false;
        self.front.clear();
        self.prepared += 1;
        Ok(())
    }
    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        assert!(
            self.prepared > 0,
            "nothing is opened before the set is unbootable"
        );
        assert!(!self.bootable, "nothing is written to a bootable set");
        let slot = match &manifest.payloads[usize::from(blob.payload)].kind {
            PayloadKind::Image { slot } => slot.as_str().to_owned(),
            _ => String::new(),
        };
        self.settled = false;
        self.open = Some((blob.digest.as_bytes().to_vec(), blob.role, slot));
        self.open_blob = Some(*blob);
        Ok((self.bytes().len() as u64).min(blob.size))
    }
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let spoil = (self.bad_medium || (self.bad_batch && self.draining)) && self.settled;
        let bytes = self.bytes();
        let from = bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(from.ok_or(failure(StorageOperation::Read, StorageFault::Short))?);
        if spoil {
            buffer[0] ^= 1;
        }
        Ok(())
    }
    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        let trees = ((end - offset) as usize / TREE_BYTES).min(TREES_MAX_COUNT);
        if trees == 0 || !self.hashes_itself {
            return Ok(None);
        }
        let mut bytes = vec![0; trees * TREE_BYTES];
        self.read(offset, &mut bytes)?;
        bytes[TREE_BYTES - 1] ^= u8::from(self.bad_trees);
        Ok(Some(Trees::of(&bytes)))
    }
    fn write(&mut self, offset: u64, piece: &[u8]) -> Result<(), StorageError> {
        self.change()?;
        self.writes += 1;
        let bytes = self.bytes();
        let end = offset as usize + piece.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset as usize..end].copy_from_slice(piece);
        Ok(())
    }
    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let bytes = &self.running[blob.digest.as_bytes()];
        let from = bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(from.ok_or(failure(StorageOperation::Read, StorageFault::Short))?);
        if self.spoiled.contains(blob.digest.as_bytes()) {
            buffer.iter_mut().for_each(|byte| *byte ^= 1);
        }
        Ok(())
    }
    fn running_object_after(
        &mut self,
        after: Option<&BlobDigest>,
    ) -> Result<Option<RunningObject>, StorageError> {
        let from = after.map_or(Bound::Unbounded, |after| {
            Bound::Excluded(after.as_bytes().to_vec())
        });
        let next = self.running.range((from, Bound::Unbounded)).next();
        Ok(next.map(|(digest, bytes)| RunningObject {
            digest: BlobDigest::new(DigestAlgorithm::Sha256, digest).unwrap(),
            size: bytes.len() as u64,
        }))
    }
    fn has_base(&mut self, base: &PatchBase<'_>) -> Result<bool, StorageError> {
        // What stands in the boot slot and in an image slot has no name; the running set's manifest has it.
        let known = self.known_bases.contains(base.digest.as_bytes());
        let found = self.base(base).filter(|_| known);
        Ok(found.is_some_and(|bytes| bytes.len() as u64 == base.size))
    }
    fn read_base(
        &mut self,
        base: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.base_bytes += buffer.len() as u64;
        let bytes = self.base(base).expect("it was said to be there");
        let from = bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(from.ok_or(failure(StorageOperation::Read, StorageFault::Short))?);
        Ok(())
    }
    fn settle(&mut self) -> Result<(), StorageError> {
        self.settled = true;
        self.syncs += 1;
        self.change()
    }
    fn postpone(&mut self) -> Result<Postponed, StorageError> {
        let blob = self.open_blob.expect("a blob is open");
        assert_eq!(blob.role, Role::Object, "nothing else waits");
        if self.batch == 0 {
            return Ok(Postponed::No);
        }
        self.change()?;
        assert!(self.waiting.len() < self.batch, "a full batch is published");
        self.open = None;
        self.waiting.push(blob);
        Ok(if self.waiting.len() == self.batch {
            Postponed::Full
        } else {
            Postponed::Waits
        })
    }
    fn open_postponed(&mut self) -> Result<Option<Blob>, StorageError> {
        assert!(self.open.is_none(), "one blob is open at a time");
        if !self.waiting.is_empty() && !self.draining {
            self.change()?;
            self.syncs += 1;
        }
        let next = self.waiting.pop();
        self.draining = next.is_some();
        self.settled = self.draining;
        self.open = next.map(|blob| (blob.digest.as_bytes().to_vec(), blob.role, String::new()));
        Ok(next)
    }
    fn publish(&mut self) -> Result<(), StorageError> {
        self.change()?;
        let (digest, role, _) = self.open.take().expect("a blob is open");
        match role {
            Role::Image => {}
            Role::Uki => self.staged_uki = self.partial.get(&digest).cloned(),
            _ => {
                let bytes = self.partial.remove(&digest).unwrap_or_default();
                self.target.insert(digest, bytes);
            }
        }
        Ok(())
    }
    fn discard(&mut self) -> Result<(), StorageError> {
        let (digest, _, _) = self.open.take().expect("a blob is open");
        self.partial.remove(&digest);
        Ok(())
    }
    fn sync(&mut self) -> Result<(), StorageError> {
        self.change()
    }
    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        self.change()?;
        assert!(self.waiting.is_empty(), "nothing waits any more");
        let whole = manifest
            .composefs()
            .is_none_or(|payload| self.target.contains_key(payload.digest.as_bytes()));
        assert!(
            whole,
            "the composefs image is there before the set becomes bootable"
        );
        self.front = front.to_vec();
        self.bootable = true;
        Ok(())
    }
}

/// What the device allows in these tests.
pub const POLICY: Policy<'static> = Policy {
    compatible: COMPATIBLE,
    floor: 5,
    now: Some(1500),
    highest_time_seen: 1400,
};

/// How an install is run.
#[derive(Clone)]
pub struct Options {
    pub keys: Vec<u8>,
    pub policy: Policy<'static>,
    pub audit: bool,
    pub read_back: bool,
    pub budget: Option<u64>,
    pub known_length: bool,
    pub request_bytes: usize,
    pub can_go_back: bool,
    /// The manifest of an install that was interrupted on the device.
    pub interrupted: Option<Sha256Digest>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys: vec![1],
            policy: POLICY,
            audit: true,
            read_back: true,
            budget: None,
            known_length: true,
            request_bytes: REQUEST_BYTES,
            can_go_back: true,
            interrupted: None,
        }
    }
}

/// The end of an install.
#[derive(Debug)]
pub struct Done {
    pub plan: Option<Plan>,
    pub tally: Tally,
}

/// Installs from memory.
pub fn install(bundle: &[u8], device: &mut Device, options: &Options) -> Result<Done, Error> {
    let mut source = Seekable(bundle_reader(bundle));
    install_from(&mut source, bundle.len(), device, options)
}

pub struct Reader<'b> {
    bytes: &'b [u8],
    position: u64,
    /// Bytes read in all.
    pub taken: u64,
}

pub fn bundle_reader(bytes: &[u8]) -> Reader<'_> {
    Reader {
        bytes,
        position: 0,
        taken: 0,
    }
}

impl embedded_io::ErrorType for Reader<'_> {
    type Error = embedded_io::ErrorKind;
}

impl embedded_io::Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let rest = self.bytes.get(self.position as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length as u64;
        self.taken += length as u64;
        Ok(length)
    }
}

impl embedded_io::Seek for Reader<'_> {
    fn seek(&mut self, position: embedded_io::SeekFrom) -> Result<u64, Self::Error> {
        self.position = match position {
            embedded_io::SeekFrom::Start(offset) => offset,
            embedded_io::SeekFrom::End(offset) => self.bytes.len() as u64 + offset as u64,
            embedded_io::SeekFrom::Current(offset) => self.position + offset as u64,
        };
        Ok(self.position)
    }
}

pub fn install_from<R>(
    source: &mut R,
    length: usize,
    device: &mut Device,
    options: &Options,
) -> Result<Done, Error>
where
    R: Source<Error = embedded_io::ErrorKind>,
{
    let keys: Vec<_> = options.keys.iter().map(|number| trusted(*number)).collect();
    let config = Config {
        keys: &keys,
        policy: options.policy,
        request_max_bytes: options.request_bytes as u32,
        source_bytes: options.known_length.then_some(length as u64),
        audit: options.audit,
        read_back: options.read_back,
        budget: options.budget,
        can_go_back: options.can_go_back,
    };
    let mut front = vec![0xa5; FRONT_MAX_BYTES];
    let mut output = vec![0; 4096];
    let mut inflate = Box::new(Inflate::new());
    let workspace = Workspace {
        front: &mut front,
        output: &mut output,
        inflate: &mut inflate,
        zstd: None,
    };
    let (held, running) = (proved(&device.front), proved(&device.running_front));
    let mut installer = Installer::new(config, workspace)?;
    if let Some(held) = &held {
        installer.start_from(held);
    }
    if let Some(running) = &running {
        installer.know_running(running);
    }
    if let Some(interrupted) = options.interrupted {
        installer.go_on_from(interrupted);
    }
    let mut plan = None;
    let mut buffer = vec![0; options.request_bytes];
    let result = run(&mut installer, source, device, &mut buffer, |_, seen| {
        plan = Some(*seen);
        true
    });
    match result {
        Ok(()) => {
            let tally = installer.tally();
            installer.into_installed()?;
            Ok(Done { plan, tally })
        }
        Err(RunError::Core(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

/// What the target set must hold after an install of `release`.
pub fn assert_holds(device: &Device, release: &Release) {
    for object in release
        .objects
        .iter()
        .chain(release.uki.iter().map(|_| &release.erofs))
    {
        assert_eq!(
            device.target.get(verity(object).as_bytes()),
            Some(object),
            "an object is missing or wrong"
        );
    }
    assert_eq!(device.staged_uki, release.uki);
    for (slot, bytes) in &release.images {
        assert_eq!(&device.image_slots[*slot][..bytes.len()], bytes);
    }
    assert!(device.bootable);
}

/// As [`assert_holds`], and nothing else.
pub fn assert_holds_only(device: &Device, release: &Release) {
    assert_holds(device, release);
    let digests = |bytes: &Vec<u8>| verity(bytes).as_bytes().to_vec();
    let mut expected: Vec<_> = release.objects.iter().map(digests).collect();
    expected.push(digests(&release.erofs));
    expected.sort();
    assert!(device.target.keys().eq(expected.iter()), "other objects");
}

/// Names the error of a source that ended.
pub fn ended<E>() -> SourceError<E> {
    SourceError::Ended
}
