//! Blobs that the running set has: copied from there, piece by piece, and fetched after all when a copy is not right.

use super::{Current, Over, Task, Transfer, Went};
use crate::error::{Error, Misuse};
use crate::install::blob::{self, Writing};
use crate::install::planning::locate;
use crate::install::ways::Way;
use crate::install::{Session, staying};
use crate::storage::{Location, RunningObject, Storage};
use crate::verify::digest::VerityDigest;
use crate::wire::index::Blob;

/// What became of a piece of a copy.
#[derive(PartialEq, Eq)]
pub(super) enum Copied {
    /// It is written, or the blob is fetched instead.
    On,
    /// It is damaged, and the route does not say how to fetch the blob.
    Lost,
}

impl Transfer {
    /// An object stays: it is there, or is copied from the running set.
    pub(super) fn stay<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        object: &RunningObject,
    ) -> Result<Went, Error> {
        let manifest = session.manifest()?;
        let blob = staying::as_blob(object, manifest);
        match self.find(session, storage, &blob)? {
            Location::Target => {
                session.count_present(blob.size);
                Ok(Went::On)
            }
            Location::Running => {
                storage.open(&blob, manifest)?;
                self.task = Task::copy_of(blob);
                Ok(Went::Far)
            }
            Location::Absent => Ok(Went::ToLost(blob)),
        }
    }

    /// Where the next blob of the route is, or object that stays: what was found before is not looked for again.
    pub(super) fn find<S: Storage>(
        &mut self,
        session: &Session<'_>,
        storage: &mut S,
        blob: &Blob,
    ) -> Result<Location, Error> {
        let present = session.present.contains(self.looked_up);
        self.looked_up += 1;
        if present {
            return Ok(Location::Target);
        }
        locate(blob, session.manifest()?, storage)
    }

    /// Copies one piece from the running set; a copy that cannot be read or is not what its name says is fetched instead.
    pub(super) fn copy<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        done: u64,
        mut digest: VerityDigest,
    ) -> Result<Copied, Error> {
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
            return Ok(Copied::On);
        }
        if readable && digest.finish() == blob.digest {
            self.settle(session, storage, blob, Over::Copy)?;
            return Ok(Copied::On);
        }
        session.tally.damaged_blobs += 1;
        storage.discard()?;
        if blob.ranges == 0 && session.followed.running_base().is_some() {
            return Ok(Copied::Lost);
        }
        let manifest = session
            .manifest
            .as_ref()
            .ok_or(Misuse::InstallerFailed)?
            .value();
        storage.open(&blob, manifest)?;
        self.blob = Some(Current::Write(Writing::new(
            blob,
            Way::Whole,
            0,
            session.config.read_back,
        )));
        Ok(Copied::On)
    }
}
