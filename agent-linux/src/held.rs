//! What a set holds: whether it can be booted, and the release in it, proved anew from the front matter that an install keeps.
//!
//! # Invariants
//! - A release is named only when a trusted key's signature over its manifest was checked just now; what is kept on the medium is
//!   never believed.

use crate::device::Device;
use crate::error::AgentError;
use crate::slots::{Access, OpenSet, Places};
use twinseal_core::Error;
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::{Verified, verify_manifest};
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::manifest::Manifest;
use twinseal_platform_linux::{front_entries, is_incomplete, read_front, uki_path};

/// What a set holds.
pub struct Held {
    /// Whether it is complete: the UKI stands where the firmware boots it, and starts more than the recovery of a set that is being
    /// rebuilt; without boot slots, its front matter is there.
    pub bootable: bool,
    /// The release; `Ok(None)` when no front matter is kept, an error when it cannot be proved.
    pub release: Result<Option<Verified<Manifest>>, AgentError>,
}

impl Held {
    /// Looks at a set. A slot that cannot be opened holds nothing.
    pub fn look(device: &Device, places: &Places, set: Set) -> Self {
        match places.open(set, Access::Read) {
            Err(error) => Self {
                bootable: false,
                release: Err(error),
            },
            Ok(open) => Self::of(device, &open),
        }
    }

    /// Looks at a set that is open.
    pub fn of(device: &Device, open: &OpenSet<'_>) -> Self {
        let release = kept_release(device, open);
        let layout = open.paths().layout;
        let has_uki = |boot| matches!(uki_path(boot, layout), Ok(Some(_)));
        let stands = open.boot().map_or_else(|| is_kept(&release), has_uki);
        let bootable = stands && !is_incomplete(open.front());
        Self { bootable, release }
    }

    /// Looks at both sets.
    pub fn look_at_both(device: &Device, places: &Places) -> [Self; 2] {
        Set::BOTH.map(|set| Self::look(device, places, set))
    }

    /// The release, when it can be proved.
    pub fn proved(&self) -> Option<&Verified<Manifest>> {
        self.release.as_ref().ok().and_then(Option::as_ref)
    }

    /// Why what the set holds cannot be proved; `None` when it is proved, and when the set holds nothing that boots.
    pub fn problem(&self) -> Option<String> {
        match &self.release {
            Err(error) => Some(error.to_string()),
            Ok(None) if self.bootable => {
                Some("no signed manifest is kept with what boots there.".to_owned())
            }
            Ok(_) => None,
        }
    }

    /// What the choice of a set needs to know.
    pub fn facts(&self) -> SetFacts {
        let release = self.proved();
        SetFacts {
            bootable: self.bootable,
            manifest: release.map(|release| *release.manifest_sha256()),
            anti_rollback: release.map(|release| release.value().anti_rollback),
        }
    }
}

/// The facts of both sets.
pub fn facts(held: &[Held; 2]) -> [SetFacts; 2] {
    let [a, b] = held;
    [a.facts(), b.facts()]
}

/// Whether front matter is there, proved or not: on a device without boot slots that is what an install makes last.
const fn is_kept(release: &Result<Option<Verified<Manifest>>, AgentError>) -> bool {
    matches!(
        release,
        Ok(Some(_))
            | Err(AgentError::Core(
                Error::BundleInvalid(_) | Error::PolicyRefused(_)
            ))
    )
}

fn kept_release(
    device: &Device,
    open: &OpenSet<'_>,
) -> Result<Option<Verified<Manifest>>, AgentError> {
    let mut buffer = vec![0; FRONT_MAX_BYTES];
    let Some(length) = read_front(open.front(), &mut buffer)? else {
        return Ok(None);
    };
    let (manifest, signatures) =
        front_entries(buffer.get(..length).unwrap_or(&[])).map_err(Error::from)?;
    // What is installed may have expired and may be below the floor by now: that is no reason not to name it.
    let policy = Policy {
        compatible: device.description.compatible.as_str(),
        floor: 0,
        now: None,
        highest_time_seen: 0,
    };
    let verified =
        verify_manifest(manifest, signatures, &device.keys, &policy).map_err(AgentError::Core)?;
    Ok(Some(verified))
}
