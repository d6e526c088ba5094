//! Second state: the `info/` entries, checked when the source's bytes cost nothing and passed over otherwise.

use super::stored::Stored;
use super::{Need, Purpose, Session, State, index_fetch};
use crate::error::{BundleInvalid, Error, Part};
use sha2::{Digest, Sha256};

/// A place among the `info/` entries. Every entry has a seam before it; the last seam is that of `index`.
pub(super) struct Info {
    entry: usize,
    place: Place,
}

enum Place {
    Seam,
    Content { done: u64, digest: Sha256 },
}

impl Info {
    /// Starts at the seam after `signatures`; without an audit, at the seam before `index`.
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        let entry = if session.config.audit {
            2
        } else {
            session.layout()?.index_entry()
        };
        Ok(Self {
            entry,
            place: Place::Seam,
        })
    }

    pub fn part(&self) -> Part {
        match self.place {
            Place::Seam => Part::InfoHeader,
            Place::Content { .. } => Part::Info,
        }
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let layout = session.layout()?;
        match &self.place {
            Place::Seam => {
                let seam = layout.seam(self.entry);
                Ok(session.request(seam.offset, seam.expected().len() as u64, Purpose::Framing))
            }
            Place::Content { done, .. } => {
                let content = layout.content(self.entry);
                Ok(session.request(content.offset + done, content.size - done, Purpose::Framing))
            }
        }
    }

    pub fn feed(
        self,
        session: &mut Session<'_>,
        bytes: u64,
        mut stored: Stored<'_>,
    ) -> Result<State, Error> {
        let layout = session.layout()?;
        match self.place {
            Place::Seam => {
                session.check_seam(self.entry, stored.at_once())?;
                if self.entry == layout.index_entry() {
                    return Ok(State::IndexFetch(index_fetch::IndexFetch::new(session)?));
                }
                let content = Self {
                    entry: self.entry,
                    place: Place::Content {
                        done: 0,
                        digest: Sha256::new(),
                    },
                };
                content.or_next(session)
            }
            Place::Content { done, mut digest } => {
                stored.update(&mut digest)?;
                let place = Place::Content {
                    done: done + bytes,
                    digest,
                };
                Self {
                    entry: self.entry,
                    place,
                }
                .or_next(session)
            }
        }
    }

    /// Goes to the next entry when this one is complete and right.
    fn or_next(self, session: &Session<'_>) -> Result<State, Error> {
        let Place::Content { done, digest } = &self.place else {
            return Ok(State::Info(self));
        };
        let info = session.manifest()?.info.get(self.entry.saturating_sub(2));
        let info = info.ok_or(BundleInvalid::UnexpectedEntry {
            part: Part::InfoHeader,
        })?;
        if *done < info.size {
            return Ok(State::Info(self));
        }
        if digest.clone().finalize().as_slice() != info.sha256 {
            return Err(BundleInvalid::Damaged { part: Part::Info }.into());
        }
        Ok(State::Info(Self {
            entry: self.entry + 1,
            place: Place::Seam,
        }))
    }
}
