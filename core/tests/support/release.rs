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
    pub fn counterpart(&self, next: &Release, role: Role, content: &[u8]) -> Option<Vec<u8>> {
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
