//! Builds small bundles.

use super::*;

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
        } else if self.release.encoding == Encoding::Zstd {
            (Encoding::Zstd, forgetful::encode(piece))
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
