//! In an audit, after the transfer: the data that it did not pass. Along the full route it has passed everything that stores a blob
//! whole, and patches are left; along the route from a base it has read just what it needed, and all of the data is read.
//!
//! # Invariants
//! - After it every byte of the data has been in a range whose digest was right: a range is taken where the last one ended, and what
//!   the ranges of all routes leave uncovered refuses the bundle.

use super::data::{self, Seams};
use super::ending::Ending;
use super::place::Place;
use super::planning::scratch_damaged;
use super::stored::Stored;
use super::{Ahead, Need, Purpose, Request, Session, State};
use crate::error::{BundleInvalid, Error, Misuse, RecordFault};
use crate::storage::Storage;
use crate::wire::index::{Block, Cursor, Range, Record};

pub(super) struct OtherData {
    seams: Seams,
    /// Where the data begins that has not been checked.
    next: u64,
    /// The block that is read.
    place: Place,
    /// Whether the full route is to be passed once more: its alternatives lie behind all that its records store whole.
    twice: bool,
    /// Its records, once it is in the session, and those that were passed.
    records: Option<usize>,
    record: usize,
    cursor: Cursor,
    /// The range that is asked for.
    range: Option<Range>,
}

/// Where the data begins that the transfer does not audit; `whole_bytes` of it store the blobs of the route that is followed whole.
pub(super) fn start(session: &Session<'_>, whole_bytes: u64) -> Result<u64, Error> {
    Ok(if !session.config.audit {
        session.manifest()?.data_bytes()
    } else if session.followed.base.is_some() {
        0
    } else {
        whole_bytes
    })
}

impl OtherData {
    /// The state after the transfer.
    pub fn after_transfer(
        session: &Session<'_>,
        seams: Seams,
        whole_bytes: u64,
    ) -> Result<State, Error> {
        let first = Place::first_of(0, session.manifest()?);
        let next = start(session, whole_bytes)?;
        Self {
            seams,
            next,
            place: first.ok_or(Misuse::InstallerFailed)?,
            twice: next == 0,
            records: None,
            record: 0,
            cursor: Cursor::new(),
            range: None,
        }
        .or_end(session)
    }

    /// The ending when all of the data has been checked.
    fn or_end(self, session: &Session<'_>) -> Result<State, Error> {
        Ok(if self.next == session.manifest()?.data_bytes() {
            State::Ending(Ending::new(self.seams.next()))
        } else {
            State::OtherData(self)
        })
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let Some(range) = &self.range else {
            return Ok(Need::Work);
        };
        let (entry, place) = data::place(session, range)?;
        let seam = self.seams.need(session, entry)?;
        Ok(seam.unwrap_or(Need::Bytes(Request {
            offset: place.offset,
            bytes: range.stored_bytes,
            purpose: Purpose::Audit,
            ahead: Ahead::default(),
        })))
    }

    pub fn feed(
        mut self,
        session: &mut Session<'_>,
        mut stored: Stored<'_>,
    ) -> Result<State, Error> {
        let range = self.range.ok_or(Misuse::UnexpectedFeed)?;
        let (entry, _) = data::place(session, &range)?;
        if self.seams.feed(session, entry, stored.at_once())? {
            return Ok(State::OtherData(self));
        }
        stored.check(&range)?;
        self.next += u64::from(range.stored_bytes);
        self.range = None;
        self.or_end(session)
    }

    /// Along one block to the next range that has not been checked.
    pub fn work<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        let place = self.place;
        let fault = |fault| BundleInvalid::IndexRecord {
            block: place.block,
            fault,
        };
        let records = match self.records {
            Some(records) => records,
            None => {
                let offset = place.scratch_offset(session.manifest()?, &session.followed);
                storage.scratch_read(offset, &mut session.block)?;
                if !place.proves(&session.block) {
                    return Err(scratch_damaged().into());
                }
                Block::new(&session.block).records().map_err(fault)?
            }
        };
        self.records = Some(records);
        while self.record < records {
            let record = Block::new(&session.block).record(&mut self.cursor);
            self.record += 1;
            if let Record::Range(range) = record.map_err(fault)?
                && range.stored_offset == self.next
            {
                if range.stored_bytes > session.manifest()?.needs.range_bytes {
                    return Err(fault(RecordFault::Size).into());
                }
                self.range = Some(range);
                return Ok(State::OtherData(self));
            }
        }
        let manifest = session.manifest()?;
        let mut next = place.after(&session.block, manifest)?;
        if self.twice && next.is_none_or(|next| next.route > 0) {
            self.twice = false;
            next = Place::first_of(0, manifest);
        }
        self.place = next.ok_or(fault(RecordFault::Tiling))?;
        (self.records, self.record, self.cursor) = (None, 0, Cursor::new());
        Ok(State::OtherData(self))
    }
}
