//! A device in memory.

use super::*;

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
    /// Flips a bit in so many reads of an image after `settle`.
    pub bad_image_reads: u32,
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
        let is_image = self.open.as_ref().is_some_and(|open| open.1 == Role::Image);
        let bad_image = is_image && self.settled && self.bad_image_reads > 0;
        self.bad_image_reads -= u32::from(bad_image);
        let spoil =
            (self.bad_medium || (self.bad_batch && self.draining)) && self.settled || bad_image;
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
