//! `check`: every object of a set, read whole, its UKI, and whether its release can be proved; what is damaged is named by its digest.
//!
//! # Invariants
//! - Nothing is changed.

use crate::cli::CheckArguments;
use crate::device::Device;
use crate::error::AgentError;
use crate::events::{self, Event};
use crate::exit;
use crate::health::{damage_text, read_all, running_root};
use crate::held::Held;
use crate::objects::{Damage, Objects, file_digest};
use crate::report::{Outlet, warn};
use crate::slots::{Access, OpenSet, Places};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;
use twinseal_core::verify::Verified;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::manifest::Manifest;

/// What was found in a set.
#[derive(Debug, Default)]
pub struct Found {
    /// Objects that are there or should be.
    pub objects: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that are not well.
    pub damaged: Vec<(BlobDigest, Damage)>,
    /// The image that the set must have, when it is not listed among its images.
    pub unlisted: Option<BlobDigest>,
    /// What is wrong with the UKI.
    pub uki: Option<(BlobDigest, Damage)>,
    /// Why the release cannot be proved, as a sentence: then nobody knows which UKI and which image the set must have.
    pub unproved: Option<String>,
}

impl Found {
    /// Whether nothing is damaged.
    pub const fn is_well(&self) -> bool {
        self.damaged.is_empty()
            && self.uki.is_none()
            && self.unlisted.is_none()
            && self.unproved.is_none()
    }
}

/// `check`: looks at one set or both; gives the exit code.
///
/// # Errors
/// When a set cannot be opened or looked through.
pub fn check(
    device: &Device,
    arguments: &CheckArguments,
    outlet: &mut Outlet,
) -> Result<u8, AgentError> {
    let _lock = device.lock()?;
    let places = Places::new(device);
    let mut code = exit::OK;
    let sets = arguments
        .set
        .map_or(Set::BOTH.to_vec(), |set| vec![set.into()]);
    for set in sets {
        let found = look_through(device, &places, set, outlet)?;
        if found.as_ref().is_some_and(|found| !found.is_well()) {
            code = exit::DAMAGED;
        }
        outlet.tell(&Event::CheckedSet(checked_event(set, found.as_ref())));
    }
    Ok(code)
}

/// Reads everything that a set holds; `None` when it holds nothing.
///
/// # Errors
/// When it cannot be opened or looked through.
pub fn look_through(
    device: &Device,
    places: &Places,
    set: Set,
    outlet: &mut Outlet,
) -> Result<Option<Found>, AgentError> {
    let (opened, root) = open_root(device, places, set)?;
    let held = Held::of(device, &opened);
    let release = held.proved().map(Verified::value);
    let seal = release.and_then(|release| release.seal);
    let mut found = Found {
        unproved: held
            .problem()
            .map(|problem| format!("What set {set} holds cannot be proved: {problem}")),
        ..Found::default()
    };
    let Some(root) = root else {
        return Ok(found.unproved.is_some().then_some(found));
    };
    found.uki = release.and_then(|release| uki_damage(release, opened.uki().as_deref()));
    let objects = match Objects::list(&root, seal.as_ref()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            found.unlisted = seal;
            return Ok((!found.is_well()).then_some(found));
        }
        other => other.map_err(|error| AgentError::File {
            file: root,
            done: "looked through",
            error,
        })?,
    };
    read_all(
        &objects,
        device.description.verity,
        outlet,
        |object, damage| found.damaged.push((object, damage)),
    );
    if !objects.is_complete() {
        warn(&format!(
            "An image of set {set} cannot be read, so objects may be missing that nobody names."
        ));
    }
    found.objects = objects.count();
    found.bytes = objects.bytes();
    found.unlisted = seal.filter(|_| !objects.is_listed());
    Ok(Some(found))
}

/// Opens a set for reading; its root slot is where the initramfs left it, when it runs.
///
/// # Errors
/// When it cannot be opened.
pub fn open_root<'p>(
    device: &Device,
    places: &'p Places,
    set: Set,
) -> Result<(OpenSet<'p>, Option<PathBuf>), AgentError> {
    let runs = device.running_set().is_ok_and(|running| running == set);
    let opened = places.open(set, Access::Read)?;
    let left = runs.then(|| running_root(device)).flatten();
    let root = left.or_else(|| opened.root().map(PathBuf::from));
    Ok((opened, root))
}

/// What is wrong with the UKI of a set, by its signed manifest.
fn uki_damage(release: &Manifest, uki: Option<&Path>) -> Option<(BlobDigest, Damage)> {
    let digest = release.uki()?.digest;
    let damage = match file_digest(uki?) {
        Ok(found) if found == digest => return None,
        Ok(_) => Damage::OtherDigest,
        Err(damage) => damage,
    };
    Some((digest, damage))
}

fn checked_event(set: Set, found: Option<&Found>) -> events::CheckedSet {
    let part = |part: &'static str, (digest, damage): &(BlobDigest, Damage)| events::DamagedPart {
        part,
        digest: Some(digest.to_string()),
        problem: problem_name(damage),
        text: damage_text(digest, damage),
    };
    let objects = found.into_iter().flat_map(|found| &found.damaged);
    let uki = found.and_then(|found| found.uki.as_ref());
    let unproved = found.and_then(|found| found.unproved.clone());
    let unproved = unproved.map(|text| events::DamagedPart {
        part: "release",
        digest: None,
        problem: "not-proved",
        text,
    });
    let unlisted = found.and_then(|found| Some((found.unlisted?, Damage::Missing)));
    events::CheckedSet {
        set: set.to_string(),
        holds_something: found.is_some(),
        objects: found.map_or(0, |found| found.objects),
        bytes: found.map_or(0, |found| found.bytes),
        damaged: objects
            .map(|damaged| part("object", damaged))
            .chain(unlisted.iter().map(|damaged| part("image", damaged)))
            .chain(uki.map(|damaged| part("uki", damaged)))
            .chain(unproved)
            .collect(),
    }
}

const fn problem_name(damage: &Damage) -> &'static str {
    match damage {
        Damage::Missing => "missing",
        Damage::Refused => "refused",
        Damage::NotSealed => "not-sealed",
        Damage::OtherDigest => "other-digest",
        Damage::Unreadable(_) => "unreadable",
    }
}
