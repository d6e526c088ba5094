//! What a set holds: whether it can be booted, and the release in it, proved anew from the front matter that an install keeps.
//!
//! # Invariants
//! - A release is named only when a trusted key's signature over its manifest was checked just now; what is kept on the medium is
//!   never believed.

use crate::device::Device;
use crate::error::AgentError;
use crate::slots::{Access, OpenSet, Places};
use twinseal_core::boot::{Set, SetFacts};
use twinseal_core::error::Error;
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
    pub fn look(device: &Device, set: Set) -> Self {
        let nothing = |error| Self {
            bootable: false,
            release: Err(error),
        };
        match Places::of(&device.description, set) {
            Err(error) => nothing(error),
            Ok(mut places) => match places.open(Access::Read) {
                Err(error) => nothing(error),
                Ok(open) => Self::of(device, &open),
            },
        }
    }

    /// Looks at a set that is open.
    pub fn of(device: &Device, open: &OpenSet<'_>) -> Self {
        let paths = open.paths();
        let release = kept_release(device, paths.front);
        let stands = match paths.boot {
            Some(boot) => matches!(uki_path(boot, paths.layout), Ok(Some(_))),
            None => is_kept(&release),
        };
        let bootable = stands && !is_incomplete(paths.front);
        Self { bootable, release }
    }

    /// The release, when it can be proved.
    pub fn proved(&self) -> Option<&Verified<Manifest>> {
        self.release.as_ref().ok().and_then(Option::as_ref)
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

fn kept_release(device: &Device, front: &str) -> Result<Option<Verified<Manifest>>, AgentError> {
    let mut buffer = [0; FRONT_MAX_BYTES];
    let Some(length) = read_front(front, &mut buffer)? else {
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
    Ok(Some(verify_manifest(
        manifest,
        signatures,
        &device.keys,
        &policy,
    )?))
}
