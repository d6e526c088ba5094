//! The newest proved bundle of all media at hand.
//!
//! # Invariants
//! - A medium is mounted for reading only, and only as long as it is looked at or installed from.
//! - A bundle counts when a trusted key signed it and this device's policy allows it; how new it is stands in that proved manifest, and
//!   never in its name. All others are passed over, each with its reason.
//! - What is chosen is opened anew, and the install proves it from the start: a medium that changes in between gains nothing.

use crate::bundle::SourceProblem;
use crate::error::AgentError;
use core::fmt;
use rustix::fd::OwnedFd;
use rustix::fs::fstat;
use rustix::io::Errno;
use twinseal_core::error::{
    BundleInvalid, Error, StorageError, StorageFault, StorageObject, StorageOperation,
};
use twinseal_core::verify::policy::Policy;
use twinseal_core::verify::signature::TrustedKey;
use twinseal_core::verify::verify_manifest;
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::layout::Layout;
use twinseal_platform_linux::file::read_up_to;
use twinseal_platform_linux::front_entries;
use twinseal_platform_linux::media::{BundleName, Medium, Newness, newest_bundle};
use twinseal_platform_linux::partition::{BlockDevices, DeviceName};

/// The best bundle, and where it is.
pub struct Choice {
    /// The medium.
    pub medium: Medium,
    /// The bundle's name in its root folder.
    pub name: BundleName,
    newness: Newness,
}

/// What makes a bundle one for this device, and who hears why others are not.
#[derive(Clone, Copy)]
pub struct Search<'s> {
    /// Keys that the device trusts for releases.
    pub keys: &'s [TrustedKey],
    /// What the device allows.
    pub policy: Policy<'s>,
    /// Where a medium is mounted while it is looked at.
    pub folder: &'s str,
    /// Takes a line for people.
    pub say: &'s dyn Fn(fmt::Arguments<'_>),
    /// Called before each medium and each bundle that is looked at: a bad disk may take long.
    pub alive: &'s dyn Fn(),
}

impl Search<'_> {
    /// The newest bundle of all media; of two that are equally new the first by the names of media. A medium that cannot be read is none.
    ///
    /// # Errors
    /// When the kernel does not show its devices.
    pub fn newest(&self, devices: &BlockDevices<'_>) -> Result<Option<Choice>, StorageError> {
        let mut best: Option<Choice> = None;
        let mut last: Option<DeviceName> = None;
        while let Some(medium) = next_medium(last.as_deref(), devices)? {
            last = Some(medium.name.clone());
            (self.alive)();
            let found = match self.newest_on(&medium) {
                // This system has it mounted for writing: what is on it is no stick's.
                Err(error) if error.fault == BUSY => None,
                found => self.told(&medium.name, found).flatten(),
            };
            if let Some((name, newness)) = found
                && best.as_ref().is_none_or(|best| newness > best.newness)
            {
                best = Some(Choice {
                    medium,
                    name,
                    newness,
                });
            }
        }
        Ok(best)
    }

    /// The newest bundle of one medium.
    fn newest_on(&self, medium: &Medium) -> Result<Option<(BundleName, Newness)>, StorageError> {
        let mounted = medium.mount(self.folder)?;
        let prove = |name: &str, file: &OwnedFd| self.prove(name, file);
        let found = newest_bundle(mounted.directory(), prove, &|name| {
            (self.say)(format_args!(
                "{name} is passed over: a bundle is a file that can be opened, with letters, digits, `.`, `-` and `_` in its name, which ends in .tseal"
            ));
        })?;
        // The open file goes first, or the medium stays mounted.
        let found = found.map(|found| (found.name, found.newness));
        mounted.unmount()?;
        Ok(found)
    }

    fn prove(&self, name: &str, file: &OwnedFd) -> Option<Newness> {
        (self.alive)();
        self.told(name, newness(file, self.keys, &self.policy))
    }

    /// What was found, or a line that says why the thing of this name is passed over.
    fn told<T, E: fmt::Display>(&self, name: &str, result: Result<T, E>) -> Option<T> {
        result
            .inspect_err(|error| (self.say)(format_args!("{name} is passed over: {error}")))
            .ok()
    }
}

/// A file system that is mounted for writing cannot be mounted for reading only.
const BUSY: StorageFault = StorageFault::Code(Errno::BUSY.raw_os_error());

fn next_medium(
    last: Option<&str>,
    devices: &BlockDevices<'_>,
) -> Result<Option<Medium>, StorageError> {
    Medium::after(last, devices).map_err(|fault| StorageError {
        operation: StorageOperation::Read,
        object: StorageObject::Medium,
        fault,
    })
}

/// How new the bundle in an open file is, as its proved manifest says.
fn newness(
    file: &OwnedFd,
    keys: &[TrustedKey],
    policy: &Policy<'_>,
) -> Result<Newness, AgentError> {
    let mut buffer = [0; FRONT_MAX_BYTES];
    let length = read_up_to(file, 0, &mut buffer)
        .map_err(|errno| AgentError::source("the medium", SourceProblem::Kernel(errno)))?;
    let front = buffer.get(..length).unwrap_or(&[]);
    let (manifest, signatures) = front_entries(front).map_err(Error::from)?;
    let proved = verify_manifest(manifest, signatures, keys, policy)?;
    let release = proved.value();
    let layout = Layout::new(release, manifest.len() as u64, signatures.len() as u64);
    let expected = layout.bundle_bytes();
    // As of a stick that was pulled out too early.
    match fstat(file).map(|about| about.st_size as u64) {
        Ok(found) if found != expected => {
            Err(Error::from(BundleInvalid::Length { expected, found }).into())
        }
        _ => Ok((release.anti_rollback, release.sequence)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::fs::File;
    use std::path::Path;

    const BUNDLE: &[u8] = include_bytes!("../../core/tests/golden/small.tseal");
    const KEY: &[u8] = include_bytes!("../../core/tests/golden/small.pub");

    /// The device type that it is for.
    const COMPATIBLE: &str = "test-device";

    fn keys() -> [TrustedKey; 1] {
        [TrustedKey::ed25519(KEY.try_into().unwrap())]
    }

    const fn policy(floor: u64) -> Policy<'static> {
        Policy {
            compatible: COMPATIBLE,
            floor,
            now: None,
            highest_time_seen: 0,
        }
    }

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn newness_is_that_of_the_proved_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tseal");
        fs::write(&file, BUNDLE).unwrap();
        let (floor, _) = newness(&open(&file), &keys(), &policy(0)).unwrap();
        assert!(newness(&open(&file), &keys(), &policy(floor)).is_ok());
        assert!(newness(&open(&file), &keys(), &policy(floor + 1)).is_err());
        assert!(newness(&open(&file), &[], &policy(0)).is_err());
    }

    #[test]
    fn every_cut_and_every_flip_of_the_front_matter_is_passed_over() {
        let (manifest, signatures) = front_entries(BUNDLE).unwrap();
        let end_of = |entry: &[u8]| entry.as_ptr_range().end as usize - BUNDLE.as_ptr() as usize;
        let end = end_of(signatures);
        let padding = end_of(manifest)..end_of(manifest).next_multiple_of(512);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tseal");
        for at in (0..end).step_by(7) {
            fs::write(&file, &BUNDLE[..at]).unwrap();
            assert!(
                newness(&open(&file), &keys(), &policy(0)).is_err(),
                "cut at {at}"
            );
            let mut flipped = BUNDLE.to_vec();
            flipped[at] ^= 1;
            fs::write(&file, flipped).unwrap();
            let refused = newness(&open(&file), &keys(), &policy(0)).is_err();
            assert!(refused || padding.contains(&at), "flip at {at}");
        }
    }

    #[test]
    fn the_good_bundle_is_chosen_among_bad_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("good.tseal"), BUNDLE).unwrap();
        fs::write(folder.path().join("z-cut.tseal"), &BUNDLE[..700]).unwrap();
        fs::write(folder.path().join("a-noise.tseal"), [7; 4096]).unwrap();
        let short = &BUNDLE[..BUNDLE.len() - 1];
        fs::write(folder.path().join("a-short.tseal"), short).unwrap();
        let search = Search {
            keys: &keys(),
            policy: policy(0),
            folder: "",
            say: &|_| (),
            alive: &|| (),
        };
        let prove = |name: &str, file: &OwnedFd| search.prove(name, file);
        let found = newest_bundle(folder.path().to_str().unwrap(), prove, &|_| ()).unwrap();
        assert_eq!(found.unwrap().name, "good.tseal");
    }
}
