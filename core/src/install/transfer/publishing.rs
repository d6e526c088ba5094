//! A blob whose bytes are all written comes to the medium, is read back, and gets its name.
//!
//! Syncing is what costs, not writing: where the storage can, small objects wait under their temporary names, and one sync
//! brings all of them to the medium ([`Storage::postpone`]). Whether one waits or not, it is synced, read back, compared and
//! published in this order.
//!
//! # Power loss
//! Objects that wait are not there yet. What is left of them has the temporary names of an interrupted install.

use super::{Current, Over, Task, Transfer};
use crate::error::{Error, PolicyRefused};
use crate::install::blob::{self, Writing};
use crate::install::{Session, State};
use crate::storage::{Postponed, Storage};
use crate::verify::digest::VerityDigest;
use crate::wire::index::{Blob, Role};

impl Transfer {
    /// All bytes of a blob are written: it waits for others, or is brought to the medium and read back, or published at once.
    pub(super) fn settle<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        over: Over,
    ) -> Result<(), Error> {
        let postponed = if blob.role == Role::Object {
            storage.postpone()?
        } else {
            Postponed::No
        };
        match postponed {
            Postponed::No => {}
            Postponed::Waits => {
                self.pass(session, over);
                return Ok(());
            }
            Postponed::Full => {
                self.pass(session, over);
                return drain(session, storage);
            }
        }
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
        publish(session, storage, &blob)?;
        self.pass(session, over);
        Ok(())
    }

    pub(super) fn read_back<S: Storage>(
        &mut self,
        session: &mut Session<'_>,
        storage: &mut S,
        blob: Blob,
        done: u64,
        mut digest: VerityDigest,
        over: Over,
    ) -> Result<(), Error> {
        let done = done + read_piece_back(session, storage, &blob, done, &mut digest)?;
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
            return self.doubt(storage, blob, over);
        }
        publish(session, storage, &blob)?;
        self.pass(session, over);
        Ok(())
    }

    /// The medium gave back something else than the blob's name says. Of an image of many ranges nobody has compared the whole before:
    /// where each of them is right, the name is wrong, which is the builder's fault.
    fn doubt<S: Storage>(&mut self, storage: &mut S, blob: Blob, over: Over) -> Result<(), Error> {
        let start = self.blob_start.take();
        match (start, blob.role, over) {
            (Some(start), Role::Image, Over::Ranges) => {
                self.walk = start;
                self.blob = Some(Current::Write(Writing::doubted(blob)));
                Ok(())
            }
            _ => {
                storage.discard()?;
                Err(blob::read_back_failed(&blob).into())
            }
        }
    }

    /// Nothing more is to be done for a blob but to pass what the index still says of it.
    fn pass(&mut self, session: &Session<'_>, over: Over) {
        self.blob = match over {
            Over::Ranges => None,
            Over::Copy => Some(Current::Settled {
                audit: session.config.audit,
            }),
        };
    }

    /// An object that was to stay is damaged in the running set: the full route says how to fetch it.
    pub(super) fn start_over<S: Storage>(
        &self,
        session: &mut Session<'_>,
        storage: &mut S,
        lost: &Blob,
    ) -> Result<State, Error> {
        if session.config.can_go_back {
            drain(session, storage)?;
            return session.start_over();
        }
        Err(PolicyRefused::BaseDamaged { base: lost.digest }.into())
    }
}

/// Publishes all objects that wait, each after it was read back. Where none waits, nothing is done.
pub(super) fn drain<S: Storage>(session: &mut Session<'_>, storage: &mut S) -> Result<(), Error> {
    while let Some(blob) = storage.open_postponed()? {
        if session.config.read_back {
            let mut digest = VerityDigest::new();
            let mut done = 0;
            while done < blob.size {
                done += read_piece_back(session, storage, &blob, done, &mut digest)?;
            }
            check_read_back(storage, &blob, digest)?;
        }
        publish(session, storage, &blob)?;
    }
    Ok(())
}

/// Reads the next piece of the open blob from the medium; gives its length.
fn read_piece_back<S: Storage>(
    session: &mut Session<'_>,
    storage: &mut S,
    blob: &Blob,
    done: u64,
    digest: &mut VerityDigest,
) -> Result<u64, Error> {
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
    Ok(bytes)
}

/// What the medium gave back must be what the blob's name says.
fn check_read_back<S: Storage>(
    storage: &mut S,
    blob: &Blob,
    digest: VerityDigest,
) -> Result<(), Error> {
    if digest.finish() == blob.digest {
        return Ok(());
    }
    storage.discard()?;
    Err(blob::read_back_failed(blob).into())
}

fn publish<S: Storage>(
    session: &mut Session<'_>,
    storage: &mut S,
    blob: &Blob,
) -> Result<(), Error> {
    blob::check_seal(session.manifest()?, blob, storage)?;
    storage.publish()?;
    session.tally.blobs += 1;
    Ok(())
}
