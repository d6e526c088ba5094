//! A base proved damaged: the blob is fetched another way, within the budget.

use super::{Current, Transfer};
use crate::error::{Error, Misuse, PolicyRefused};
use crate::install::Session;
use crate::install::blob::Writing;
use crate::install::ways::{Choice, Way};
use crate::storage::Storage;
use crate::wire::digest::BlobDigest;
use crate::wire::index::Blob;

impl Transfer {
    /// The base of the patch is damaged: what was written of the blob goes, and its records are passed again to find another way.
    pub(super) fn give_up<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<(), Error> {
        let Some(Current::Write(writing)) = self.blob.take() else {
            return Err(Misuse::InstallerFailed.into());
        };
        let (Way::Patch(number), Some(other)) = (writing.way(), writing.patch()) else {
            return Err(Misuse::InstallerFailed.into());
        };
        session.tally.damaged_bases += 1;
        storage.discard()?;
        let base = other.base_digest;
        let start = self.blob_start.as_ref();
        let Some(start) = start.filter(|_| session.config.can_go_back) else {
            return Err(PolicyRefused::BaseDamaged { base }.into());
        };
        self.walk = start.again();
        // Of what the plan counted for this patch, only what has been fetched is still to be paid.
        session.planned_bytes =
            session.planned_bytes.saturating_sub(other.stored_bytes) + self.fetched_bytes;
        self.given_up |= 1 << number;
        (self.alternatives, self.fetched_bytes) = (0, 0);
        self.blob = Some(Current::Choosing {
            blob: *writing.blob(),
            choice: Choice::new(writing.blob(), self.given_up),
            base,
        });
        Ok(())
    }

    /// Goes back to the start of the blob and takes the way that was chosen, if the budget allows it.
    pub(super) fn take_other_way<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        choice: &Choice,
        base: BlobDigest,
    ) -> Result<(), Error> {
        session.planned_bytes += choice.stored_bytes;
        let over_budget = session
            .config
            .budget
            .is_some_and(|budget| session.planned_bytes > budget);
        let Some(start) = self.blob_start.as_ref().filter(|_| !over_budget) else {
            return Err(PolicyRefused::BaseDamaged { base }.into());
        };
        self.walk = start.again();
        self.alternatives = 0;
        storage.open(&blob, session.manifest()?)?;
        self.blob = Some(Current::Write(Writing::new(
            blob,
            choice.way,
            0,
            session.config.read_back,
        )));
        Ok(())
    }
}
