//! Blobs become records, ranges and data, before an index and a manifest are made of them.

use super::*;

pub struct Draft {
    pub manifest: Manifest,
    pub records: Vec<Record>,
    pub data: Vec<u8>,
    /// Stored bytes of the ranges of alternatives, in order: they come after all whole ranges.
    pub waiting: Vec<Vec<u8>>,
    pub part: u64,
    pub release: Release,
}

impl Draft {
    pub fn new(release: &Release) -> Self {
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

    pub fn payload(&mut self, kind: PayloadKind, bytes: &[u8]) {
        let payload = Payload {
            kind,
            digest: verity(bytes),
            size: bytes.len() as u64,
        };
        self.manifest.payloads.push(payload).unwrap();
    }

    pub fn blob(&mut self, role: Role, payload: usize, content: &[u8]) {
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

    pub fn place_alternatives(&mut self) {
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
