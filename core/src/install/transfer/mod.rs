//! The work: the target set is unbootable now; every blob comes to its place, in the order of the index.
//!
//! # Power loss
//! A published blob is whole, synced and read back. Of the blob that was open, and of those that wait to be published together
//! (`publishing.rs`), an unpublished part may be left; the next install checks it range by range and goes on from there.

mod copying;
mod other_way;
mod publishing;

use copying::Copied;

use super::blob::{self, Writing};
use super::data::{self, Seams};
use super::other_data::OtherData;
use super::patched::Outcome;
use super::planning::read_block;
use super::runs::LookAhead;
use super::stored::Stored;
use super::walk::{Step, Walk};
use super::ways::{self, Choice, Way};
use super::{Ahead, Need, Purpose, Request, Session, State};
use crate::error::{BundleInvalid, Error, Misuse};
use crate::storage::{Location, Storage};
use crate::verify::digest::VerityDigest;
use crate::wire::digest::BlobDigest;
use crate::wire::index::{Alternative, Blob, Encoding, Range, Role};
use crate::wire::layout::Extent;
use crate::wire::manifest::Manifest;

/// The work under way.
pub(super) struct Transfer {
    walk: Walk,
    /// Blobs of the route that were begun.
    blobs: u32,
    /// Those, and the objects that stay.
    looked_up: u32,
    seams: Seams,
    blob: Option<Current>,
    task: Task,
    /// The first record after that of the blob, if it is fetched by a patch, or is an image that may be doubted.
    blob_start: Option<Walk>,
    /// Alternatives of the blob that were passed.
    alternatives: u16,
    /// A bit for each of them whose base proved damaged.
    given_up: u16,
    /// Bytes fetched for the blob the way that is taken.
    fetched_bytes: u64,
    /// Where the data begins that no whole range was asked for of: after going back, nothing is checked twice.
    passed_to: u64,
    /// Where the run begins and ends that the last look ahead found, as places in the bundle.
    run: (u64, u64),
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
    /// A base proved damaged: the next cheapest way is chosen while its records are passed once more.
    Choosing {
        blob: Blob,
        choice: Choice,
        base: BlobDigest,
    },
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

impl Task {
    /// Before the first byte of a copy.
    fn copy_of(blob: Blob) -> Self {
        Self::Copy {
            blob,
            done: 0,
            digest: VerityDigest::new(),
        }
    }
}

/// How far a step along the index went.
enum Went {
    /// Past a record.
    On,
    /// As far as is right for one piece of work.
    Far,
    /// To the end of the route.
    ToEnd,
    /// To an object that was to stay and is in neither set any more.
    ToLost(Blob),
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
        Ok(Self {
            walk: session.walk()?,
            blobs: 0,
            looked_up: 0,
            seams: Seams::new(session)?,
            blob: None,
            task: Task::Walk,
            blob_start: None,
            alternatives: 0,
            given_up: 0,
            fetched_bytes: 0,
            passed_to: 0,
            run: (0, 0),
        })
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let Task::Range { range, purpose } = &self.task else {
            return Ok(Need::Work);
        };
        let (entry, place) = data::place(session, range)?;
        if let Some(seam) = self.seams.need(session, entry)? {
            return Ok(seam);
        }
        Ok(Need::Bytes(Request {
            offset: place.offset,
            bytes: range.stored_bytes,
            purpose: *purpose,
            ahead: self.ahead(session, range, *purpose, entry, &place)?,
        }))
    }

    /// What will be asked for after a range, when that is certain: the other ranges of a blob of which nothing is there yet, and
    /// those that are only checked. Of ranges that are decoded the lengths differ, so that nothing is gained by guessing them; and
    /// of a patch nothing is certain as long as its base may be damaged.
    fn ahead(
        &self,
        session: &Session<'_>,
        range: &Range,
        purpose: Purpose,
        entry: usize,
        place: &Extent,
    ) -> Result<Ahead, Error> {
        let (start, end) = self.run;
        let run_bytes = if (start..end).contains(&place.offset) {
            end - place.offset
        } else {
            0
        };
        let unknown = Ahead {
            run_bytes,
            ..Ahead::default()
        };
        let (certain, trees) = match (&self.blob, purpose) {
            (_, Purpose::Audit) => (true, false),
            (Some(Current::Write(writing)), _) if writing.patch().is_none() => {
                (writing.is_new(), writing.takes_digest())
            }
            _ => (false, false),
        };
        if !certain || range.encoding != Encoding::Stored {
            return Ok(unknown);
        }
        let data = session.layout()?.content(entry);
        let data_left = (data.offset + data.size).saturating_sub(place.offset + place.size);
        Ok(Ahead {
            bytes: self.walk.stored_left().min(data_left),
            trees,
            run_bytes,
        })
    }

    pub fn feed<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        mut stored: Stored<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        let Task::Range { range, purpose } = self.task else {
            return Err(Misuse::UnexpectedFeed.into());
        };
        let (entry, _) = data::place(session, &range)?;
        if self.seams.feed(session, entry, stored.at_once())? {
            return Ok(State::Transfer(self));
        }
        stored.check(&range)?;
        self.task = Task::Walk;
        if let (Purpose::Data, Some(Current::Write(writing))) = (purpose, &mut self.blob) {
            let bytes = u64::from(range.stored_bytes);
            self.fetched_bytes += bytes;
            if writing.patch().is_some() {
                session.tally.patch_bytes += bytes;
            }
            match writing.take_range(session, &range, &mut stored, storage) {
                Ok(Outcome::Written) => {}
                Ok(Outcome::BaseDamaged) => self.give_up(session, storage)?,
                Err(error) => {
                    use BundleInvalid::{Patch, RangeDecodes};
                    // What was written may be right although its stream is not; it must not help the next try.
                    if let Error::BundleInvalid(RangeDecodes { .. } | Patch { .. }) = error {
                        storage.discard()?;
                    }
                    return Err(error);
                }
            }
        }
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
                let copied = self.copy(session, storage, blob, done, digest)?;
                if copied == Copied::Lost {
                    return self.start_over(session, storage, &blob);
                }
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
                Went::ToEnd => {
                    publishing::drain(session, storage)?;
                    let whole_bytes = self.walk.whole_bytes();
                    return OtherData::after_transfer(session, self.seams, whole_bytes);
                }
                Went::ToLost(blob) => return self.start_over(session, storage, &blob),
            }
        }
        self.look_ahead(session, storage)?;
        Ok(State::Transfer(self))
    }

    /// Finds out how far the run reaches that begins with the range that is asked for next.
    fn look_ahead<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<(), Error> {
        let Task::Range {
            range,
            purpose: Purpose::Data,
        } = self.task
        else {
            return Ok(());
        };
        let (_, place) = data::place(session, &range)?;
        if (self.run.0..self.run.1).contains(&place.offset) {
            return Ok(());
        }
        let way = match &self.blob {
            Some(Current::Write(writing)) => Some(writing.way()),
            _ => None,
        };
        let ahead = LookAhead {
            walk: self.walk,
            blobs: self.blobs,
            alternatives: self.alternatives,
            way,
            is_wanted: true,
        };
        let (end, is_other_block) = ahead.end_of_run(session, storage, &range)?;
        if is_other_block {
            self.walk = self.walk.again();
        }
        let last = session.layout()?.data(end.saturating_sub(1), 1);
        let end = last.map_or(0, |(_, last)| last.offset + last.size);
        self.run = (place.offset, end);
        Ok(())
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
        match self.walk.merged_step(&session.block, manifest, storage)? {
            Step::Block => {
                read_block(&mut self.walk, &mut session.block, storage)?;
                return Ok(Went::Far);
            }
            Step::Blob(blob) => self.begin(session, storage, blob)?,
            Step::Range(range) => self.whole_range(session, storage, range)?,
            Step::Alternative(other) => self.alternative(storage, manifest, other)?,
            Step::OtherRange(range) => {
                if let Some(Current::Write(writing)) = &mut self.blob
                    && writing.patch().is_some()
                    && !writing.has_range(session, &range, storage)?
                {
                    self.task = Task::Range {
                        range,
                        purpose: Purpose::Data,
                    };
                }
            }
            Step::BlobEnd => match self.blob.take() {
                Some(Current::Write(writing)) => {
                    if writing.way() != Way::Whole {
                        session.tally.patched_blobs += 1;
                    }
                    let blob = writing.finish(storage)?;
                    self.settle(session, storage, blob, Over::Ranges)?;
                    return Ok(Went::Far);
                }
                Some(Current::Choosing { blob, choice, base }) => {
                    self.take_other_way(session, storage, blob, &choice, base)?;
                    return Ok(Went::Far);
                }
                Some(Current::Settled { .. }) | None => {}
            },
            Step::Stays(object) => return self.stay(session, storage, &object),
            // `Removal` has seen to them, or the storage.
            Step::Removed(_) => {}
            Step::End => {
                if session.followed.target_base().is_some() {
                    session.count_present(self.walk.kept().bytes);
                }
                return Ok(Went::ToEnd);
            }
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
        let way = session.ways.of(self.blobs);
        self.blobs += 1;
        (self.alternatives, self.given_up, self.fetched_bytes) = (0, 0, 0);
        let may_come_again = way != Way::Whole || blob.role == Role::Image;
        self.blob_start = may_come_again.then(|| self.walk.again());
        if blob.role != Role::Object {
            publishing::drain(session, storage)?;
        }
        let manifest = session.manifest()?;
        match self.find(session, storage, &blob)? {
            Location::Target => {
                session.count_present(blob.size);
                self.blob = Some(Current::Settled {
                    audit: session.audits_what_is_there(),
                });
            }
            Location::Running => {
                storage.open(&blob, manifest)?;
                self.task = Task::copy_of(blob);
            }
            Location::Absent => {
                let left = storage.open(&blob, manifest)?;
                self.blob = Some(Current::Write(Writing::new(
                    blob,
                    way,
                    left,
                    session.config.read_back,
                )));
            }
        }
        Ok(())
    }

    /// A range that stores the current blob whole: asked for, found in the target set, only checked, or passed over.
    fn whole_range<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        range: Range,
    ) -> Result<(), Error> {
        let audit = match &mut self.blob {
            Some(Current::Write(writing)) if writing.way() == Way::Whole => {
                if !writing.has_range(session, &range, storage)? {
                    if writing.is_doubted() {
                        let failed = blob::read_back_failed(writing.blob());
                        storage.discard()?;
                        return Err(failed.into());
                    }
                    self.ask_whole(range, Purpose::Data);
                    return Ok(());
                }
                session.audits_what_is_there()
            }
            Some(Current::Write(_)) => session.config.audit,
            Some(Current::Settled { audit }) => *audit,
            Some(Current::Choosing { .. }) | None => false,
        };
        // Along the route from a base `OtherData` reads everything.
        let is_full_route = session.followed.base.is_none();
        if audit && is_full_route && range.stored_offset >= self.passed_to {
            self.ask_whole(range, Purpose::Audit);
        }
        Ok(())
    }

    fn ask_whole(&mut self, range: Range, purpose: Purpose) {
        let end = range.stored_offset + u64::from(range.stored_bytes);
        self.passed_to = end.max(self.passed_to);
        self.task = Task::Range { range, purpose };
    }

    /// An alternative of the current blob begins.
    fn alternative<S: Storage>(
        &mut self,
        storage: &mut S,
        manifest: &Manifest,
        other: Alternative,
    ) -> Result<(), Error> {
        match &mut self.blob {
            Some(Current::Write(writing)) => writing.pass_alternative(self.alternatives, other),
            Some(Current::Choosing { blob, choice, .. }) => {
                let base = ways::base_of(&other, blob, manifest);
                choice.consider(&other, || Ok(storage.has_base(&base)?))?;
            }
            Some(Current::Settled { .. }) | None => {}
        }
        self.alternatives = self.alternatives.saturating_add(1);
        Ok(())
    }
}
