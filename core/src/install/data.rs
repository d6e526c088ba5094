//! Ranges of the data, and the framing between its entries, as they are asked for and checked.

use super::{Need, Purpose, Session};
use crate::error::{BundleInvalid, Error, Field};
use crate::wire::index::Range;
use crate::wire::layout::Extent;

/// The seams of the `data` entries: each is checked before the first range behind it is asked for.
#[derive(Clone, Copy)]
pub(super) struct Seams {
    /// The first that has not been checked.
    next: usize,
}

impl Seams {
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        let next = session.layout()?.data_entry();
        Ok(Self { next })
    }

    /// The first that has not been checked.
    pub const fn next(&self) -> usize {
        self.next
    }

    /// The request for a seam that must be checked before something in this entry is asked for.
    pub fn need(&self, session: &Session<'_>, entry: usize) -> Result<Option<Need>, Error> {
        if self.next > entry {
            return Ok(None);
        }
        let layout = session.layout()?;
        let seam = layout.seam(self.next);
        let bytes = seam.expected().len() as u64;
        Ok(Some(session.request(seam.offset, bytes, Purpose::Framing)))
    }

    /// Takes the bytes of a seam; false when it was none that [`need`](Self::need) asked for.
    pub fn feed(
        &mut self,
        session: &Session<'_>,
        entry: usize,
        bytes: &[u8],
    ) -> Result<bool, Error> {
        if self.next > entry {
            return Ok(false);
        }
        session.check_seam(self.next, bytes)?;
        self.next += 1;
        Ok(true)
    }
}

/// The entry and the place in the bundle of a range.
pub(super) fn place(session: &Session<'_>, range: &Range) -> Result<(usize, Extent), Error> {
    let place = session
        .layout()?
        .data(range.stored_offset, u64::from(range.stored_bytes));
    place.ok_or(Error::BundleInvalid(BundleInvalid::Field {
        field: Field::DataParts,
    }))
}
