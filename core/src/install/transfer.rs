//! The work: the target set is unbootable now; every blob comes to its place, in the order of the index.
//!
//! # Power loss
//! A published blob is whole, synced and read back. Of the blob that was open, an unpublished part may be left; the next
//! install checks it range by range and goes on from there.

use super::blob::{self, Writing};
use super::planning::{locate, read_block};
use super::walk::{Step, Walk};
use super::{Ahead, Need, Purpose, Request, Session, State, ending};
use crate::error::{BundleInvalid, Error, Field, Misuse};
use crate::storage::{Location, Storage};
use crate::verify::digest::VerityDigest;
use crate::verify::hashed::HashedBytes;
use crate::wire::index::{Blob, Encoding, Range};
use crate::wire::layout::Extent;
use sha2::{Digest, Sha256};

/// The work under way.
pub(super) struct Transfer {
    walk: Walk,
    /// Blobs begun.
    blobs: u32,
    /// The first seam that has not been checked.
    seam: usize,
    blob: Option<Current>,
    task: Task,
}

/// The blob whose ranges the walk is passing.
#[expect(
    clippy::large_enum_variant,
    reason = "core has no heap to put a running digest on"
)]
enum Current {
    /// It is being written from the source.
    Write(Writing),
    /// It is at its place; its ranges are passed over, or only checked.
    Settled { audit: bool },
}

/// What is to be done next.
enum Task {
    /// Go on along the index.
    Walk,
    /// Get a range.
    Range { range: Range, purpose: Purpose },
    /// Copy the blob from the running set, from byte `done` on.
    Copy {
        blob: Blob,
        done: u64,
        digest: VerityDigest,
    },
    /// Read the blob back from the medium, from byte `done` on. `audit` is for its ranges afterwards.
    ReadBack {
        blob: Blob,
        done: u64,
        digest: VerityDigest,
        over: Over,
    },
}

/// How far a step along the index went.
enum Went {
    /// Past a record.
    On,
    /// As far as is right for one piece of work.
    Far,
    /// To the end of the route.
    ToEnd,
}

/// What follows a blob that has been published.
#[derive(Clone, Copy)]
enum Over {
    /// Its ranges have been passed.
    Ranges,
    /// Its ranges are still to come.
    Copy,
}

impl Transfer {
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        let seam = session.layout()?.data_entry();
        Ok(Self {
            walk: Walk::new(session.manifest()?),
            blobs: 0,
            seam,
            blob: None,
            task: Task::Walk,
        })
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let Task::Range { range, purpose } = &self.task else {
            return Ok(Need::Work);
        };
        let (entry, place) = place(session, range)?;
        if self.seam <= entry {
            let seam = session.layout()?.seam(self.seam);
            return Ok(session.request(
                seam.offset,
                seam.expected().len() as u64,
                Purpose::Framing,
            ));
        }
        Ok(Need::Bytes(Request {
            offset: place.offset,
            bytes: range.stored_bytes,
            purpose: *purpose,
            ahead: self.ahead(session, range, entry, &place)?,
        }))
    }

    /// What will be asked for after a range, when that is certain: the other ranges of a blob of which nothing is there yet. Of
    /// ranges that are decoded the lengths differ, so that nothing is gained by guessing them.
    fn ahead(
        &self,
        session: &Session<'_>,
        range: &Range,
        entry: usize,
        place: &Extent,
    ) -> Result<Ahead, Error> {
        let (certain, trees) = match &self.blob {
            Some(Current::Write(writing)) => (writing.is_new(), writing.takes_digest()),
            Some(Current::Settled { audit }) => (*audit, false),
            None => (false, false),
        };
        if !certain || range.encoding != Encoding::Stored {
            return Ok(Ahead::default());
        }
        let data = session.layout()?.content(entry);
        let data_left = (data.offset + data.size).saturating_sub(place.offset + place.size);
        Ok(Ahead {
            bytes: self.walk.stored_left().min(data_left),
            trees,
        })
    }

    pub fn feed<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        bytes: &[u8],
        hashed: Option<HashedBytes<'_>>,
        storage: &mut S,
    ) -> Result<State, Error> {
        let Task::Range { range, purpose } = self.task else {
            return Err(Misuse::UnexpectedFeed.into());
        };
        let (entry, _) = place(session, &range)?;
        if self.seam <= entry {
            session.check_seam(self.seam, bytes)?;
            self.seam += 1;
            return Ok(State::Transfer(self));
        }
        let sha256 = hashed.map_or_else(|| Sha256::digest(bytes).into(), |hashed| *hashed.sha256());
        if sha256 != range.stored_sha256 {
            return Err(BundleInvalid::RangeDamaged {
                stored_offset: range.stored_offset,
            }
            .into());
        }
        if let (Purpose::Data, Some(Current::Write(writing))) = (purpose, &mut self.blob) {
            writing.take_range(session, &range, bytes, hashed, storage)?;
        }
        self.task = Task::Walk;
        Ok(State::Transfer(self))
    }

    pub fn work<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        match self.task {
            Task::Walk => return self.walk(session, storage),
            Task::Copy { blob, done, digest } => {
                self.task = Task::Walk;
                self.copy(session, storage, blob, done, digest)?;
            }
            Task::ReadBack {
                blob,
                done,
                digest,
                over,
            } => {
                self.task = Task::Walk;
                self.read_back(session, storage, blob, done, digest, over)?;
            }
            Task::Range { .. } => return Err(Misuse::UnexpectedFeed.into()),
        }
        Ok(State::Transfer(self))
    }

    /// Along the index to the next thing to do, or to the end of a block: blobs that are there cost no more than reading past
    /// their records.
    fn walk<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        while let Task::Walk = self.task {
            match self.step(session, storage)? {
                Went::On => {}
                Went::Far => break,
                Went::ToEnd => return Ok(State::Ending(ending::Ending::new(self.seam))),
            }
        }
        Ok(State::Transfer(self))
    }

    /// One step along the index.
    fn step<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<Went, Error> {
        let manifest = session
            .manifest
            .as_ref()
            .ok_or(Misuse::InstallerFailed)?
            .value();
        match self.walk.step(&session.block, manifest)? {
            Step::Block => {
                read_block(&mut self.walk, &mut session.block, storage)?;
                return Ok(Went::Far);
            }
            Step::Blob(blob) => self.begin(session, storage, blob)?,
            Step::Range(range) => self.range(session, storage, range)?,
            Step::OtherRange(range) => {
                let wanted = !matches!(self.blob, Some(Current::Settled { audit: false }) | None);
                if session.config.audit && wanted {
                    self.task = Task::Range {
                        range,
                        purpose: Purpose::Audit,
                    };
                }
            }
            Step::BlobEnd => {
                if let Some(Current::Write(writing)) = self.blob.take() {
                    let blob = writing.finish(storage)?;
                    self.settle(session, storage, blob, Over::Ranges)?;
                    return Ok(Went::Far);
                }
            }
            Step::End => return Ok(Went::ToEnd),
        }
        Ok(Went::On)
    }

    /// A blob begins: is it there, is it in the running set, else it is fetched.
    fn begin<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
    ) -> Result<(), Error> {
        let manifest = session
            .manifest
            .as_ref()
            .ok_or(Misuse::InstallerFailed)?
            .value();
        let present = session.present.contains(self.blobs);
        self.blobs += 1;
        let location = if present {
            Location::Target
        } else {
            locate(&blob, manifest, storage)?
        };
        match location {
            Location::Target => {
                session.tally.present_bytes += blob.size;
                self.blob = Some(Current::Settled { audit: false });
            }
            Location::Running => {
                storage.open(&blob, manifest)?;
                self.task = Task::Copy {
                    blob,
                    done: 0,
                    digest: VerityDigest::new(),
                };
            }
            Location::Absent => {
                let left = storage.open(&blob, manifest)?;
                self.blob = Some(Current::Write(Writing::new(
                    blob,
                    left,
                    session.config.read_back,
                )));
            }
        }
        Ok(())
    }

    /// A range of the current blob: passed over, found in the target set, only checked, or asked for.
    fn range<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        range: Range,
    ) -> Result<(), Error> {
        match &mut self.blob {
            Some(Current::Write(writing)) => {
                if !writing.has_range(session, &range, storage)? {
                    self.task = Task::Range {
                        range,
                        purpose: Purpose::Data,
                    };
                }
            }
            Some(Current::Settled { audit: true }) => {
                self.task = Task::Range {
                    range,
                    purpose: Purpose::Audit,
                }
            }
            Some(Current::Settled { audit: false }) | None => {}
        }
        Ok(())
    }

    /// Copies one piece from the running set; a copy that cannot be read or is not what its name says is fetched instead.
    fn copy<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        done: u64,
        mut digest: VerityDigest,
    ) -> Result<(), Error> {
        let piece = blob::piece(session.workspace.output, blob.size - done);
        let readable = storage.read_running(&blob, done, piece).is_ok();
        if readable {
            digest.update(piece);
            storage.write(done, piece)?;
            session.tally.written_bytes += piece.len() as u64;
            session.tally.copied_bytes += piece.len() as u64;
        }
        let done = done + piece.len() as u64;
        if readable && done < blob.size {
            self.task = Task::Copy { blob, done, digest };
            return Ok(());
        }
        if readable && digest.finish() == blob.digest {
            return self.settle(session, storage, blob, Over::Copy);
        }
        session.tally.damaged_blobs += 1;
        storage.discard()?;
        let manifest = session
            .manifest
            .as_ref()
            .ok_or(Misuse::InstallerFailed)?
            .value();
        storage.open(&blob, manifest)?;
        self.blob = Some(Current::Write(Writing::new(
            blob,
            0,
            session.config.read_back,
        )));
        Ok(())
    }

    /// All bytes of a blob are written: bring them to the medium, then read them back or publish at once.
    fn settle<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        over: Over,
    ) -> Result<(), Error> {
        storage.settle()?;
        if session.config.read_back {
            self.task = Task::ReadBack {
                blob,
                done: 0,
                digest: VerityDigest::new(),
                over,
            };
            return Ok(());
        }
        self.publish(session, storage, &blob, over)
    }

    fn read_back<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        done: u64,
        mut digest: VerityDigest,
        over: Over,
    ) -> Result<(), Error> {
        let left = blob.size - done;
        let trees = storage
            .read_trees(done, blob.size)?
            .filter(|trees| (1..=left).contains(&trees.bytes()) && digest.update_trees(trees));
        let bytes = if let Some(trees) = trees {
            trees.bytes()
        } else {
            let piece = blob::piece(session.workspace.output, left);
            storage.read(done, piece)?;
            digest.update(piece);
            piece.len() as u64
        };
        session.tally.read_back_bytes += bytes;
        let done = done + bytes;
        if done < blob.size {
            self.task = Task::ReadBack {
                blob,
                done,
                digest,
                over,
            };
            return Ok(());
        }
        if digest.finish() != blob.digest {
            storage.discard()?;
            return Err(blob::read_back_failed(&blob).into());
        }
        self.publish(session, storage, &blob, over)
    }

    fn publish<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: &Blob,
        over: Over,
    ) -> Result<(), Error> {
        blob::check_seal(session.manifest()?, blob, storage)?;
        storage.publish()?;
        session.tally.blobs += 1;
        self.blob = match over {
            Over::Ranges => None,
            Over::Copy => Some(Current::Settled {
                audit: session.config.audit,
            }),
        };
        Ok(())
    }
}

/// The entry and the place in the bundle of a range; `IndexFetch` has checked that there is one.
fn place(session: &Session<'_>, range: &Range) -> Result<(usize, Extent), Error> {
    let place = session
        .layout()?
        .data(range.stored_offset, u64::from(range.stored_bytes));
    place.ok_or(Error::BundleInvalid(BundleInvalid::Field {
        field: Field::DataParts,
    }))
}
