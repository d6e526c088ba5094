//! Sixth state: the framing that no range needed, the end of the archive, and nothing after it.
//!
//! # Invariants
//! - The set is made bootable only after the whole archive was found to end where it must.

use super::{Need, Purpose, Session, State};
use crate::error::Error;

pub(super) struct Ending {
    /// The first seam that has not been checked; past the last when all are.
    seam: usize,
}

impl Ending {
    pub fn new(seam: usize) -> Self {
        Self { seam }
    }

    pub fn waits_for_end(&self, session: &Session<'_>) -> bool {
        session
            .layout()
            .is_ok_and(|layout| self.seam > layout.entries())
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let layout = session.layout()?;
        if self.seam > layout.entries() {
            return Ok(Need::End {
                offset: layout.bundle_bytes(),
            });
        }
        let seam = layout.seam(self.seam);
        Ok(session.request(seam.offset, seam.expected().len() as u64, Purpose::Framing))
    }

    pub fn feed(self, session: &mut Session<'_>, bytes: &[u8]) -> Result<State, Error> {
        session.check_seam(self.seam, bytes)?;
        let next = Self {
            seam: self.seam + 1,
        };
        // A source of known length was compared with the bundle's before anything else.
        let over = next.waits_for_end(session) && session.config.source_bytes.is_some();
        Ok(if over {
            State::Activate
        } else {
            State::Ending(next)
        })
    }
}
