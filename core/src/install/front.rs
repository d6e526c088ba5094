//! First state: `manifest` and `signatures` into the front buffer, then verified.
//!
//! # Invariants
//! - Sizes are checked against their limits before the bytes are asked for; the headers must be canonical.

use super::{Need, Purpose, Session, State, info};
use crate::error::{BundleInvalid, Error, Part, PolicyRefused};
use crate::verify::verify_manifest;
use crate::wire::tar::{BLOCK_BYTES, END_BYTES, check_header, padding_bytes};
use crate::wire::{MANIFEST_MAX_BYTES, SIGNATURES_MAX_BYTES};

/// Where the front matter stands: header, manifest, padding, header, signatures, padding.
pub(super) struct Front {
    /// Bytes in the front buffer.
    filled: usize,
    expects: Expects,
}

enum Expects {
    ManifestHeader,
    /// The manifest with its padding, and the header of the signatures.
    Manifest {
        size: usize,
    },
    /// The signatures. Their padding belongs to the next seam.
    Signatures {
        manifest_size: usize,
        size: usize,
    },
}

impl Front {
    pub fn new() -> Self {
        Self {
            filled: 0,
            expects: Expects::ManifestHeader,
        }
    }

    pub fn part(&self) -> Part {
        match self.expects {
            Expects::ManifestHeader => Part::ManifestHeader,
            Expects::Manifest { .. } => Part::Manifest,
            Expects::Signatures { .. } => Part::Signatures,
        }
    }

    pub fn need(&self, session: &Session<'_>) -> Need {
        let target = match self.expects {
            Expects::ManifestHeader => BLOCK_BYTES,
            Expects::Manifest { size } => 2 * BLOCK_BYTES + padded(size),
            Expects::Signatures {
                manifest_size,
                size,
            } => 2 * BLOCK_BYTES + padded(manifest_size) + size,
        };
        session.request(
            self.filled as u64,
            target.saturating_sub(self.filled) as u64,
            Purpose::Framing,
        )
    }

    pub fn feed(mut self, session: &mut Session<'_>, bytes: &[u8]) -> Result<State, Error> {
        let end = self.filled + bytes.len();
        let available = session.workspace.front.len() as u32;
        let room = session.workspace.front.get_mut(self.filled..end);
        room.ok_or(PolicyRefused::BufferTooSmall {
            needed: end as u32,
            available,
        })?
        .copy_from_slice(bytes);
        self.filled = end;
        let front = session.workspace.front.get(..end).unwrap_or(&[]);
        match self.expects {
            Expects::ManifestHeader => {
                let size =
                    sized_header(front, "manifest", Part::ManifestHeader, MANIFEST_MAX_BYTES)?;
                Ok(self.then(Expects::Manifest { size }))
            }
            Expects::Manifest { size } if end == 2 * BLOCK_BYTES + padded(size) => {
                let header = front.get(end - BLOCK_BYTES..).unwrap_or(&[]);
                check_padding(
                    front,
                    BLOCK_BYTES + size,
                    end - BLOCK_BYTES,
                    Part::SignaturesHeader,
                )?;
                let signatures = sized_header(
                    header,
                    "signatures",
                    Part::SignaturesHeader,
                    SIGNATURES_MAX_BYTES,
                )?;
                Ok(self.then(Expects::Signatures {
                    manifest_size: size,
                    size: signatures,
                }))
            }
            Expects::Signatures {
                manifest_size,
                size,
            } if end == 2 * BLOCK_BYTES + padded(manifest_size) + size => {
                self.verify(session, manifest_size, size)
            }
            _ => Ok(State::Front(self)),
        }
    }

    fn then(mut self, expects: Expects) -> State {
        self.expects = expects;
        State::Front(self)
    }

    /// Has the contents of the two entries verified, whose headers and padding were compared as they came.
    fn verify(
        self,
        session: &mut Session<'_>,
        manifest_size: usize,
        signatures_size: usize,
    ) -> Result<State, Error> {
        let end = self.filled + padding_bytes(signatures_size as u64) as usize + END_BYTES;
        let available = session.workspace.front.len() as u32;
        let front = session.workspace.front.get_mut(..end);
        let front = front.ok_or(PolicyRefused::BufferTooSmall {
            needed: end as u32,
            available,
        })?;
        // The padding of the signatures comes later, in a seam; what is kept with the set is an archive that ends here, with zeros.
        front
            .iter_mut()
            .skip(self.filled)
            .for_each(|byte| *byte = 0);
        let content = |at: usize, size| front.get(at..at + size).unwrap_or(&[]);
        let manifest = content(BLOCK_BYTES, manifest_size);
        let signatures = content(2 * BLOCK_BYTES + padded(manifest_size), signatures_size);
        let config = &session.config;
        let verified = verify_manifest(manifest, signatures, config.keys, &config.policy)?;
        session.front_bytes = end;
        session.manifest_bytes = manifest_size as u64;
        session.signatures_bytes = signatures_size as u64;
        session.manifest = Some(verified);
        check_needs(session)?;
        Ok(State::Info(info::Info::new(session)?))
    }
}

/// What the manifest says that this device and this source must have.
fn check_needs(session: &Session<'_>) -> Result<(), Error> {
    let manifest = session.manifest()?;
    let (needs, config) = (manifest.needs, &session.config);
    if needs.range_bytes > config.request_max_bytes {
        let available = config.request_max_bytes;
        return Err(PolicyRefused::BufferTooSmall {
            needed: needs.range_bytes,
            available,
        }
        .into());
    }
    if needs.zstd_window_log > 0 && session.workspace.zstd.is_none() {
        return Err(PolicyRefused::NoDecoder.into());
    }
    let unsupported = |payload: &crate::wire::manifest::Payload| {
        payload.digest.algorithm() != crate::wire::digest::DigestAlgorithm::Sha256
    };
    if manifest.payloads.iter().any(unsupported) {
        return Err(BundleInvalid::AlgorithmUnsupported.into());
    }
    let expected = session.layout()?.bundle_bytes();
    match config.source_bytes {
        Some(found) if found != expected => Err(BundleInvalid::Length { expected, found }.into()),
        _ => Ok(()),
    }
}

fn sized_header(
    header: &[u8],
    name: &str,
    part: Part,
    limit: usize,
) -> Result<usize, BundleInvalid> {
    let size = check_header(header, name, part)?;
    let content = if part == Part::ManifestHeader {
        Part::Manifest
    } else {
        Part::Signatures
    };
    match usize::try_from(size) {
        Ok(0) => Err(BundleInvalid::Unreadable { part: content }),
        Ok(size) if size <= limit => Ok(size),
        _ => Err(BundleInvalid::TooLarge { part: content }),
    }
}

fn check_padding(front: &[u8], start: usize, end: usize, part: Part) -> Result<(), BundleInvalid> {
    let zeros = front
        .get(start..end)
        .is_some_and(|padding| padding.iter().all(|byte| *byte == 0));
    if zeros {
        Ok(())
    } else {
        Err(BundleInvalid::Padding { part })
    }
}

fn padded(size: usize) -> usize {
    size + padding_bytes(size as u64) as usize
}
