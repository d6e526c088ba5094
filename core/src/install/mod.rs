//! The installer: says which bytes it needs, checks them, and has the device write them.
//!
//! One loop serves a file, a pipe, HTTP ranges and a serial line: ask [`Installer::need`], do what it says, until it says
//! [`Need::Finished`]. [`crate::source::run`] is that loop for a blocking source.
//!
//! For every blob the question is: is it already at its destination? is it in the running set? else fetch it, whole or as a patch
//! of what the device has, whichever is less (`ways.rs`). That one question gives resume, differences, repair and little wear;
//! there is no progress file.
//!
//! | state | does | file |
//! |---|---|---|
//! | `Front` | manifest and signatures, verified | `front.rs` |
//! | `Info` | `info/` entries, checked or passed over | `info.rs` |
//! | `IndexFetch` | the route chosen (`route.rs`), its index blocks into the scratch area, the whole grammar checked, with the objects that stay (`staying.rs`) | `index_fetch.rs` |
//! | `OtherRoutes` | in an audit: the blocks of the routes that are not followed | `other_routes.rs`, `place.rs` |
//! | `Planning` | every blob looked up: the [`Plan`] | `planning.rs` |
//! | `Decision` | waits for [`Installer::accept`] | here |
//! | `Removal` | target made unbootable; on the route from a base, what only the base has removed | `removal.rs` |
//! | `Transfer` | blobs fetched, patched, copied, read back, published | `transfer/`, `blob.rs`, `patched.rs` |
//! | `OtherData` | in an audit: the data that the transfer did not pass | `other_data.rs` |
//! | `Ending` | the rest of the archive's framing; nothing may follow it | `ending.rs` |
//! | `Activate` | everything synced, then the target set made bootable | here |
//!
//! # Invariants
//! - Nothing is written to a slot before manifest, signatures and index are verified and the plan is accepted.
//! - A patch gives the very bytes that the index states, or the blob is fetched in another way, or the install stops.
//! - Bytes are written or decoded only after the digest of their whole range has been checked.
//! - The set becomes bootable last, after every blob has been synced, read back and published, and, in an audit, after every byte of
//!   the bundle has been checked.
//!
//! # Power loss
//! Before `Removal` nothing has changed. From then on the target set is unbootable until `Activate` ends; the next install
//! finds what is there.

mod blob;
mod data;
mod ending;
mod front;
mod index_fetch;
mod info;
mod other_data;
mod other_routes;
mod patched;
mod place;
mod plan;
mod planning;
mod present;
mod removal;
mod request;
mod route;
mod runs;
mod session;
mod staying;
mod stored;
mod tally;
mod transfer;
mod walk;
mod ways;

pub use plan::{Fetch, NoBase, Plan, PlanSpace, Start};
pub use request::{Ahead, Purpose, Request};
pub use runs::RUN_GAP_BYTES;
pub use stored::{Again, GaveNone, TWICE_BUFFER_BYTES};
pub use tally::Tally;

use crate::decode::RangeDecoder;
use crate::error::{BundleInvalid, Error, Misuse, Part};
use crate::storage::Storage;
use crate::verify::Verified;
use crate::verify::hashed::HashedBytes;
use crate::verify::policy::Policy;
use crate::verify::signature::TrustedKey;
use crate::wire::digest::Sha256Digest;
use crate::wire::index::BLOCK_BYTES;
use crate::wire::manifest::Manifest;
use session::Session;
use stored::Stored;

/// Smallest [`Workspace::output`]: a page.
pub const OUTPUT_MIN_BYTES: usize = 4096;

/// What the caller decides about an install.
#[derive(Clone, Copy)]
pub struct Config<'c> {
    /// Keys that this device trusts for releases.
    pub keys: &'c [TrustedKey],
    /// What this device allows.
    pub policy: Policy<'c>,
    /// Largest piece that [`Need::Bytes`] may ask for: the caller's buffer, at least one index block.
    pub request_max_bytes: u32,
    /// Length of the source, when it is known: a file that is too long or too short is refused at once.
    pub source_bytes: Option<u64>,
    /// Check every byte of the bundle, needed or not, before the set becomes bootable. For a source whose bytes cost nothing.
    pub audit: bool,
    /// Read every blob back from the medium before it counts.
    pub read_back: bool,
    /// Most bytes that may be asked for in all.
    pub budget: Option<u64>,
    /// Whether the source can give again what it has passed. Patches lie behind all whole blobs, so only then they are used; and a
    /// patch whose base proves damaged gives way to other ranges of its blob.
    pub can_go_back: bool,
}

/// Memory that the caller lends; core has none of its own.
pub struct Workspace<'w> {
    /// Front matter: [`crate::wire::FRONT_MAX_BYTES`] takes any bundle.
    pub front: &'w mut [u8],
    /// Decoded and copied pieces, at least [`OUTPUT_MIN_BYTES`]; larger is faster.
    pub output: &'w mut [u8],
    /// The decoder for DEFLATE.
    pub inflate: &'w mut dyn RangeDecoder,
    /// A decoder for zstd, when the device has one.
    pub zstd: Option<&'w mut dyn RangeDecoder>,
}

/// What the installer needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "the plan comes once; core has no heap to put it into"
)]
pub enum Need {
    /// Call [`Installer::feed`] with exactly these bytes of the bundle. Requests ascend: a source that cannot seek reads on and
    /// drops what lies between. Only where [`Config::can_go_back`] says so, they may go back.
    Bytes(Request),
    /// Call [`Installer::feed_end`]: does the source end at this offset? Not asked when `source_bytes` was given.
    End {
        /// Where the source must end.
        offset: u64,
    },
    /// Call [`Installer::accept`], or drop the installer: nothing has been written.
    Decision(Plan),
    /// Call [`Installer::work`]: there is something to do without the source.
    Work,
    /// The target set is complete and bootable: call [`Installer::into_installed`].
    Finished,
}

/// Proof that a set was written whole, checked as the [`Config`] says, and made bootable: the only thing that can start a trial.
#[derive(Clone, Debug)]
pub struct Installed {
    manifest: Verified<Manifest>,
    tally: Tally,
}

impl Installed {
    /// The manifest that was installed.
    pub const fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    /// What the install did.
    pub const fn tally(&self) -> Tally {
        self.tally
    }
}

/// The states; each is a struct of its own that holds just what it needs, and is consumed by what happens to it.
#[expect(
    clippy::large_enum_variant,
    reason = "core has no heap to put a state on"
)]
enum State {
    Front(front::Front),
    Info(info::Info),
    IndexFetch(index_fetch::IndexFetch),
    OtherRoutes(other_routes::OtherRoutes),
    Planning(planning::Planning),
    Decision(Plan),
    Removal(removal::Removal),
    Transfer(transfer::Transfer),
    OtherData(other_data::OtherData),
    Ending(ending::Ending),
    Activate,
    Finished,
    Failed,
}

/// An install under way.
pub struct Installer<'w> {
    session: Session<'w>,
    state: State,
}

impl<'w> Installer<'w> {
    /// Starts an install.
    ///
    /// # Errors
    /// [`Misuse::WorkspaceTooSmall`] when a buffer is below its documented minimum.
    pub fn new(config: Config<'w>, workspace: Workspace<'w>) -> Result<Self, Error> {
        let request_min = BLOCK_BYTES as u32;
        if workspace.output.len() < OUTPUT_MIN_BYTES || config.request_max_bytes < request_min {
            return Err(Misuse::WorkspaceTooSmall.into());
        }
        let session = Session {
            config,
            workspace,
            manifest: None,
            manifest_bytes: 0,
            signatures_bytes: 0,
            front_bytes: 0,
            tally: Tally::default(),
            block: [0; BLOCK_BYTES],
            present: present::Present::new(),
            absent: present::Present::new(),
            ways: ways::Ways::new(),
            planned_bytes: 0,
            releases: route::Releases::default(),
            accepted: false,
            interrupted: None,
            followed: route::Followed::default(),
        };
        Ok(Self {
            session,
            state: State::Front(front::Front::new()),
        })
    }

    /// Says what the target set holds: the release that the front matter kept with it proves, read before this install began. The
    /// caller vouches that [`Storage::make_bootable`] was the last that was done to the set, which is so as long as there is
    /// front matter: [`Storage::prepare`] removes it first of all. When the bundle has a route from this release, and
    /// [`Storage::starts_from`] says yes, the install follows it and does not look at the objects that stay.
    pub const fn start_from(&mut self, held: &'w Verified<Manifest>) {
        self.session.releases.target = Some(held);
    }

    /// Says what runs: the release that the front matter kept with the running set proves. The caller vouches that it was committed
    /// there. When the bundle has a route from this release, the install follows it: the objects that stay are those that
    /// [`Storage::running_object_after`] names. They are copied unless they are at their place, and each copy is checked.
    pub const fn know_running(&mut self, running: &'w Verified<Manifest>) {
        self.session.releases.running = Some(running);
    }

    /// Says that an install of the release with this manifest (its SHA-256) into the target set began and had no end: the power
    /// was cut, or the installer killed. If this bundle is that release, an audit does not read from it what is there already.
    pub const fn go_on_from(&mut self, interrupted: Sha256Digest) {
        self.session.interrupted = Some(interrupted);
    }

    /// What the installer needs next. Asking changes nothing.
    ///
    /// # Errors
    /// [`Misuse::InstallerFailed`] after an error; [`PolicyRefused`](crate::error::PolicyRefused::BudgetExceeded) when the next request would go over the
    /// budget.
    pub fn need(&self) -> Result<Need, Error> {
        let need = self.state_need()?;
        if let Need::Bytes(request) = need {
            self.session.check_budget(u64::from(request.bytes))?;
        }
        Ok(need)
    }

    fn state_need(&self) -> Result<Need, Error> {
        match &self.state {
            State::Front(state) => Ok(state.need(&self.session)),
            State::Info(state) => state.need(&self.session),
            State::IndexFetch(state) => state.need(&self.session),
            State::OtherRoutes(state) => state.need(&self.session),
            State::Decision(plan) => Ok(Need::Decision(*plan)),
            State::Transfer(state) => state.need(&self.session),
            State::OtherData(state) => state.need(&self.session),
            State::Ending(state) => state.need(&self.session),
            State::Planning(_) | State::Removal(_) | State::Activate => Ok(Need::Work),
            State::Finished => Ok(Need::Finished),
            State::Failed => Err(Misuse::InstallerFailed.into()),
        }
    }

    /// Takes the bytes that [`Need::Bytes`] asked for, exactly.
    ///
    /// # Errors
    /// Whatever is found wrong with them; the installer is at its end then.
    pub fn feed<S: Storage>(&mut self, bytes: &[u8], storage: &mut S) -> Result<(), Error> {
        let hashed = None;
        self.take(bytes.len(), Stored::Once { bytes, hashed }, storage)
    }

    /// Takes the bytes that [`Need::Bytes`] asked for, exactly, with the hashes that were taken of them ahead.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub fn feed_hashed<S: Storage>(
        &mut self,
        hashed: HashedBytes<'_>,
        storage: &mut S,
    ) -> Result<(), Error> {
        let bytes = hashed.bytes();
        let hashed = Some(hashed);
        self.take(bytes.len(), Stored::Once { bytes, hashed }, storage)
    }

    /// Takes the bytes that [`Need::Bytes`] asked for from a source that gives them twice, for a caller who does not hold a whole range:
    /// through `buffer` of [`TWICE_BUFFER_BYTES`]. Requests that fit the buffer are [fed](Self::feed).
    ///
    /// # Errors
    /// As [`feed`](Self::feed). When the source gives no bytes, any error.
    pub fn feed_twice<S: Storage>(
        &mut self,
        again: &mut dyn Again,
        buffer: &mut [u8],
        storage: &mut S,
    ) -> Result<(), Error> {
        let Need::Bytes(request) = self.need()? else {
            return Err(Misuse::UnexpectedFeed.into());
        };
        let bytes = request.bytes as usize;
        self.take(bytes, Stored::twice(again, bytes, buffer), storage)
    }

    fn take<S: Storage>(
        &mut self,
        bytes: usize,
        stored: Stored<'_>,
        storage: &mut S,
    ) -> Result<(), Error> {
        let Need::Bytes(request) = self.need()? else {
            return Err(Misuse::UnexpectedFeed.into());
        };
        if bytes != request.bytes as usize {
            return Err(Misuse::UnexpectedFeed.into());
        }
        self.session.count(request);
        let session = &mut self.session;
        self.state = match core::mem::replace(&mut self.state, State::Failed) {
            State::Front(state) => state.feed(session, stored.at_once())?,
            State::Info(state) => state.feed(session, bytes as u64, stored)?,
            State::IndexFetch(state) => state.feed(session, stored.at_once(), storage)?,
            State::OtherRoutes(state) => state.feed(session, stored.at_once(), storage)?,
            State::Transfer(state) => state.feed(session, stored, storage)?,
            State::OtherData(state) => state.feed(session, stored)?,
            State::Ending(state) => state.feed(session, stored.at_once())?,
            _ => return Err(Misuse::UnexpectedFeed.into()),
        };
        Ok(())
    }

    /// Takes the answer to [`Need::End`].
    ///
    /// # Errors
    /// [`BundleInvalid::TrailingBytes`] when the source goes on.
    pub fn feed_end(&mut self, at_end: bool) -> Result<(), Error> {
        let Need::End { .. } = self.need()? else {
            return Err(Misuse::UnexpectedFeed.into());
        };
        self.state = if at_end {
            State::Activate
        } else {
            State::Failed
        };
        if at_end {
            Ok(())
        } else {
            Err(BundleInvalid::TrailingBytes.into())
        }
    }

    /// Reports that the source ended before a request was answered whole: gives the error that names the part.
    pub fn feed_truncated(&mut self) -> Error {
        let part = match &self.state {
            State::Front(state) => state.part(),
            State::Info(state) => state.part(),
            State::IndexFetch(_) | State::OtherRoutes(_) => Part::Index,
            State::Ending(_) => Part::End,
            _ => Part::Data,
        };
        self.state = State::Failed;
        BundleInvalid::Truncated { part }.into()
    }

    /// Does one bounded piece of work that needs no bytes of the source.
    ///
    /// # Errors
    /// Whatever goes wrong; the installer is at its end then.
    pub fn work<S: Storage>(&mut self, storage: &mut S) -> Result<(), Error> {
        let Need::Work = self.need()? else {
            return Err(Misuse::UnexpectedFeed.into());
        };
        let session = &mut self.session;
        self.state = match core::mem::replace(&mut self.state, State::Failed) {
            State::IndexFetch(state) => state.work(session, storage)?,
            State::Planning(state) => state.work(session, storage)?,
            State::Removal(state) => state.work(session, storage)?,
            State::Transfer(state) => state.work(session, storage)?,
            State::OtherData(state) => state.work(session, storage)?,
            State::Activate => {
                storage.sync()?;
                let front = session
                    .workspace
                    .front
                    .get(..session.front_bytes)
                    .unwrap_or(&[]);
                storage.make_bootable(session.manifest()?, front)?;
                State::Finished
            }
            _ => return Err(Misuse::UnexpectedFeed.into()),
        };
        Ok(())
    }

    /// Accepts the plan: from here on the target set is written.
    ///
    /// # Errors
    /// [`PolicyRefused`](crate::error::PolicyRefused) when the plan does not fit the room or the budget, [`Misuse::NotAccepted`] when there is no plan to accept.
    pub fn accept<S: Storage>(&mut self, storage: &mut S) -> Result<(), Error> {
        let State::Decision(plan) = &self.state else {
            return Err(Misuse::NotAccepted.into());
        };
        plan.check(self.session.config.budget)?;
        self.session.planned_bytes = plan.source_bytes();
        self.session.accepted = true;
        self.state = State::Failed;
        storage.prepare(self.session.manifest()?)?;
        self.state = if self.session.followed.target_base().is_some() {
            State::Removal(removal::Removal::new(&self.session)?)
        } else {
            State::Transfer(transfer::Transfer::new(&self.session)?)
        };
        Ok(())
    }

    /// The verified manifest, as soon as there is one.
    pub const fn manifest(&self) -> Option<&Verified<Manifest>> {
        self.session.manifest.as_ref()
    }

    /// What has been done so far.
    pub const fn tally(&self) -> Tally {
        self.session.tally
    }

    /// The proof that the target set is complete.
    ///
    /// # Errors
    /// [`Misuse::NotAccepted`] when it is not.
    pub fn into_installed(self) -> Result<Installed, Error> {
        match (self.state, self.session.manifest) {
            (State::Finished, Some(manifest)) => Ok(Installed {
                manifest,
                tally: self.session.tally,
            }),
            _ => Err(Misuse::NotAccepted.into()),
        }
    }
}
