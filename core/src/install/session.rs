//! What every state of an install works with: the caller's choices and memory, and what is known so far.

use super::{
    Ahead, Config, Need, Purpose, Request, State, Tally, Workspace, index_fetch, present, route,
    walk, ways,
};
use crate::error::{BundleInvalid, Error, Misuse, Part, PolicyRefused};
use crate::verify::Verified;
use crate::wire::digest::Sha256Digest;
use crate::wire::index::BLOCK_BYTES;
use crate::wire::layout::Layout;
use crate::wire::manifest::Manifest;

/// What every state works with.
pub(super) struct Session<'w> {
    pub config: Config<'w>,
    pub workspace: Workspace<'w>,
    pub manifest: Option<Verified<Manifest>>,
    pub manifest_bytes: u64,
    pub signatures_bytes: u64,
    /// Bytes of the front buffer that are a tar archive of the front matter.
    pub front_bytes: usize,
    pub tally: Tally,
    /// The index block that was taken last.
    pub block: [u8; BLOCK_BYTES],
    /// What the plan found at its place.
    pub present: present::Present,
    /// What of the route it found nowhere, for the look ahead along the runs of the data, which does not see what stays.
    pub absent: present::Present,
    /// Which way the plan chose for each blob.
    pub ways: ways::Ways,
    /// Bytes that the source must give by the plan, and by what was chosen since.
    pub planned_bytes: u64,
    /// What the sets hold, by their own front matter.
    pub releases: route::Releases<'w>,
    /// Whether the plan was accepted: what is planned anew since must fit by itself.
    pub accepted: bool,
    /// The manifest of an install into the target set that began and did not end.
    pub interrupted: Option<Sha256Digest>,
    /// The route that is followed; the full one until `IndexFetch` has chosen.
    pub followed: route::Followed,
}

impl Session<'_> {
    /// The manifest; a state after `Front` always has it.
    pub fn manifest(&self) -> Result<&Manifest, Error> {
        self.manifest
            .as_ref()
            .map(Verified::value)
            .ok_or(Error::Misuse(Misuse::InstallerFailed))
    }

    pub fn layout(&self) -> Result<Layout<'_>, Error> {
        Ok(Layout::new(
            self.manifest()?,
            self.manifest_bytes,
            self.signatures_bytes,
        ))
    }

    /// Whether an audit reads from the bundle what is in the target set and in the scratch area already: not when an install of this
    /// very release was interrupted there, which had read it.
    pub fn audits_what_is_there(&self) -> bool {
        let manifest = self.manifest.as_ref().map(Verified::manifest_sha256);
        self.config.audit && (manifest.is_none() || manifest != self.interrupted.as_ref())
    }

    /// Bytes of the route that is followed.
    pub fn route_bytes(&self) -> Result<u64, Error> {
        let route = self.manifest()?.routes.get(self.followed.number);
        Ok(route.map_or(0, |route| u64::from(route.blocks) * BLOCK_BYTES as u64))
    }

    /// A walk along the route that is followed, from its start.
    pub fn walk(&self) -> Result<walk::Walk, Error> {
        Ok(walk::Walk::new(self.manifest()?, &self.followed))
    }

    /// What stays cannot be had from the running set: everything is planned anew along the full route. After the plan was accepted
    /// only from a source that can go back, and only within the budget.
    pub fn start_over(&mut self) -> Result<State, Error> {
        self.releases.drop_all();
        self.present = present::Present::new();
        self.absent = present::Present::new();
        self.ways = ways::Ways::new();
        self.tally.present_bytes = 0;
        Ok(State::IndexFetch(index_fetch::IndexFetch::new(self)?))
    }

    /// A request for (the first piece of) a run of bytes.
    pub fn request(&self, offset: u64, bytes: u64, purpose: Purpose) -> Need {
        let bytes = bytes.min(u64::from(self.config.request_max_bytes)) as u32;
        Need::Bytes(Request {
            offset,
            bytes,
            purpose,
            ahead: Ahead::default(),
        })
    }

    /// Compares what stands between two entries with what must.
    pub fn check_seam(&self, number: usize, found: &[u8]) -> Result<(), Error> {
        let seam = self.layout()?.seam(number);
        if found == seam.expected() {
            return Ok(());
        }
        let part = seam.part;
        let fault = if seam.differs_in_padding(found) {
            BundleInvalid::Padding { part }
        } else if part == Part::End {
            BundleInvalid::HeaderMalformed { part }
        } else {
            self.seam_fault(number, found)?
        };
        Err(fault.into())
    }

    /// Whether the header in a seam is damaged, or a sound header of another entry.
    fn seam_fault(&self, number: usize, found: &[u8]) -> Result<BundleInvalid, Error> {
        let layout = self.layout()?;
        let (seam, name) = (layout.seam(number), layout.name(number));
        let header = found
            .len()
            .checked_sub(crate::wire::tar::BLOCK_BYTES)
            .and_then(|start| found.get(start..));
        let checked = crate::wire::tar::check_header(header.unwrap_or(&[]), &name, seam.part);
        Ok(checked
            .err()
            .unwrap_or(BundleInvalid::HeaderMalformed { part: seam.part }))
    }

    /// Counts what was fed.
    pub fn count(&mut self, request: Request) {
        let tally = &mut self.tally;
        let counter = match request.purpose {
            Purpose::Framing => &mut tally.framing_bytes,
            Purpose::Index => &mut tally.index_bytes,
            Purpose::Data => &mut tally.data_bytes,
            Purpose::Audit => &mut tally.audit_bytes,
        };
        *counter += u64::from(request.bytes);
    }

    /// Counts bytes that were found in the target set.
    pub fn count_present(&mut self, bytes: u64) {
        self.tally.present_bytes += bytes;
        if self.audits_what_is_there() {
            self.tally.present_audited_bytes += bytes;
        }
    }

    /// Whether one more request keeps within the budget.
    pub fn check_budget(&self, more: u64) -> Result<(), Error> {
        let needed = self.tally.source_bytes() + more;
        match self.config.budget {
            Some(budget) if needed > budget => {
                Err(PolicyRefused::BudgetExceeded { needed, budget }.into())
            }
            _ => Ok(()),
        }
    }
}
