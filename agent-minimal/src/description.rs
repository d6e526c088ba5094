//! The device description, as `twinseal` reads it (docs/device.md), without a TOML library.
//!
//! What is read is a part of TOML: `key = value` and `[table]`, one a line, comments, strings between `"` without escapes, whole
//! numbers, `true` and `false`, and lists of strings on one line. All keys of the description are known; what is outside of this
//! is refused with its line, never guessed.
//!
//! # Invariants
//! - A description that is read here says the same to `twinseal`.
//! - A key that is not known, stands twice or has a wrong value is an error; a typing mistake never falls back to a default.

mod fields;

use crate::files::OwnPath;
use fields::{Fields, Slot};
use heapless::Vec;
use rustix::io::Errno;
use thiserror::Error;
use twinseal_core::boot::Set;
use twinseal_core::boot::select::ATTEMPTS_DEFAULT;
use twinseal_core::wire::PAYLOADS_MAX_COUNT;
use twinseal_core::wire::text::Name;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::{BootLayout, Verity};

/// Largest description that is read. The longest in use has about forty lines.
pub const DESCRIPTION_MAX_BYTES: usize = 16 * 1024;

/// Most keys that a device trusts.
pub const KEYS_MAX: usize = 8;

const EFI_VARIABLES: &str = twinseal_platform_linux::loader::uefi::VARIABLES_FOLDER;

/// What a device is, and where its slots are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Device type.
    pub compatible: Name,
    /// Folder of the agent's state.
    pub state: OwnPath,
    /// The boot record.
    pub record: OwnPath,
    /// Key files; `None` for every `*.pub` of the default folder.
    pub trusted_keys: Option<Vec<OwnPath, KEYS_MAX>>,
    /// Whether objects are sealed.
    pub verity: Verity,
    /// Boots that a trial has.
    pub trial_attempts: u8,
    /// Whether the clock counts.
    pub trusts_clock: bool,
    /// The file that says which set runs.
    pub running: OwnPath,
    /// Who chooses the set at boot.
    pub loader: Loader,
    /// Folder of the firmware's variables.
    pub variables: OwnPath,
    /// Boot and root slots, A and B; `None` for a device with image slots alone.
    pub sets: Option<[SetSlots; 2]>,
    /// Pairs of image slots.
    pub images: Vec<ImagePair, PAYLOADS_MAX_COUNT>,
    /// Whether it has a table `[budget]` or `[network]`, which only the full agent keeps to.
    pub limits_network: bool,
}

/// Who chooses the set at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// The boot record alone.
    Record,
    /// The UEFI firmware, by variables that follow the boot record.
    Uefi,
    /// systemd-boot, by variables that follow the boot record.
    SystemdBoot,
}

impl Loader {
    /// Where the UKI of a set stands in its boot slot.
    pub const fn layout(self, set: Set) -> BootLayout {
        match self {
            Self::Record | Self::Uefi => BootLayout::RemovableMedia,
            Self::SystemdBoot => BootLayout::EntryFolder(set),
        }
    }
}

/// The slots of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSlots {
    /// The boot slot.
    pub boot: OwnPath,
    /// The root slot.
    pub root: OwnPath,
}

/// A pair of image slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePair {
    /// The name that bundles have for it.
    pub name: Name,
    /// Those of set A and B.
    pub of: [OwnPath; 2],
}

/// What is wrong with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DescriptionFault {
    /// It cannot be read.
    #[error("the device description cannot be read ({}).", crate::console::words_of(*.0))]
    Unreadable(Errno),
    /// It is too large, or no text.
    #[error("the device description must be a text of at most {DESCRIPTION_MAX_BYTES} bytes.")]
    NoText,
    /// A line is not of the form that is read.
    #[error(
        "line {line} is not of the form that this agent reads: `key = \"value\"`, `[table]` or a comment, one a line."
    )]
    Form {
        /// Which, from 1.
        line: u16,
    },
    /// A key is not known, or does not belong there.
    #[error("line {line} has a key or a table that is not known.")]
    Unknown {
        /// Which, from 1.
        line: u16,
    },
    /// A key stands twice.
    #[error("line {line} has a key that stands there twice.")]
    Twice {
        /// Which, from 1.
        line: u16,
    },
    /// A value is not one of those that the key can have.
    #[error("line {line} has a value that the key cannot have.")]
    Value {
        /// Which, from 1.
        line: u16,
    },
    /// There is no device type.
    #[error("`compatible` is missing, the device type.")]
    NoCompatible,
    /// Image slots only, and boot or root slots, or a loader; or no image slot.
    #[error("`image-only` goes with [slots.NAME] alone, at least one, and with no loader.")]
    ImageOnly,
    /// Variables without somebody who reads them.
    #[error("`variables` needs `loader = \"uefi\"` or `\"systemd-boot\"`.")]
    VariablesWithoutLoader,
    /// A path that both sets have.
    #[error("both sets share a slot; give each its own.")]
    Shared,
    /// A path is too long.
    #[error("a path is longer than 255 bytes.")]
    PathTooLong,
}

impl Description {
    /// Reads a description from its text; relative paths start at `folder`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str, folder: &str) -> Result<Self, DescriptionFault> {
        let fields = Fields::read(text)?;
        let place = |path: &str| place(folder, path);
        let state = place(fields.state.unwrap_or("/var/lib/twinseal"))?;
        let record = match fields.record {
            Some(record) => place(record)?,
            None => place_in(&state, "boot-record")?,
        };
        let description = Self {
            compatible: fields
                .compatible
                .clone()
                .ok_or(DescriptionFault::NoCompatible)?,
            record,
            state,
            trusted_keys: fields.trusted_keys(&place)?,
            verity: fields.verity.unwrap_or(Verity::Required),
            trial_attempts: fields.trial_attempts.unwrap_or(ATTEMPTS_DEFAULT),
            trusts_clock: fields.trusts_clock.unwrap_or(true),
            running: place(fields.running.unwrap_or("/run/twinseal/running-set"))?,
            loader: fields.loader.unwrap_or(Loader::Record),
            variables: place(fields.variables.unwrap_or(EFI_VARIABLES))?,
            sets: sets(&fields, &place)?,
            images: images(&fields.slots, &place)?,
            limits_network: fields.has_others.contains(&true),
        };
        if fields.variables.is_some() && description.loader == Loader::Record {
            return Err(DescriptionFault::VariablesWithoutLoader);
        }
        description.check_places()?;
        Ok(description)
    }

    fn check_places(&self) -> Result<(), DescriptionFault> {
        if self.sets.is_none() && (self.images.is_empty() || self.loader != Loader::Record) {
            return Err(DescriptionFault::ImageOnly);
        }
        let of = |set: Set| {
            let slots = self.sets.as_ref().map(|[a, b]| set.of([a, b]));
            let slots = slots
                .into_iter()
                .flat_map(|slots| [&slots.boot, &slots.root]);
            let images = self.images.iter().map(move |pair| {
                let [a, b] = &pair.of;
                set.of([a, b])
            });
            slots.chain(images)
        };
        if of(Set::A).any(|one| of(Set::B).any(|other| one == other)) {
            return Err(DescriptionFault::Shared);
        }
        Ok(())
    }
}

fn place(folder: &str, mut path: &str) -> Result<OwnPath, DescriptionFault> {
    // So that one path is not told from another by what says nothing.
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    path = match path.strip_suffix('/') {
        None | Some("") => path,
        Some(path) => path,
    };
    let placed = if path.starts_with('/') || folder.is_empty() {
        join(&[path])
    } else {
        join(&[folder, "/", path])
    };
    placed.map_err(|_| DescriptionFault::PathTooLong)
}

fn place_in(folder: &str, name: &str) -> Result<OwnPath, DescriptionFault> {
    join(&[folder, "/", name]).map_err(|_| DescriptionFault::PathTooLong)
}

fn sets(
    fields: &Fields<'_>,
    place: &dyn Fn(&str) -> Result<OwnPath, DescriptionFault>,
) -> Result<Option<[SetSlots; 2]>, DescriptionFault> {
    if fields.image_only == Some(true) {
        let named = fields.sets.iter().any(|slots| slots.stands);
        return if named {
            Err(DescriptionFault::ImageOnly)
        } else {
            Ok(None)
        };
    }
    let [a, b] = &fields.sets;
    let slots = |boot: Option<&str>, root: Option<&str>, set: Set| {
        let labels = set.of([
            [
                "/dev/disk/by-partlabel/boot-a",
                "/dev/disk/by-partlabel/root-a",
            ],
            [
                "/dev/disk/by-partlabel/boot-b",
                "/dev/disk/by-partlabel/root-b",
            ],
        ]);
        Ok(SetSlots {
            boot: place(boot.unwrap_or(labels[0]))?,
            root: place(root.unwrap_or(labels[1]))?,
        })
    };
    Ok(Some([
        slots(a.boot, a.root, Set::A)?,
        slots(b.boot, b.root, Set::B)?,
    ]))
}

fn images(
    slots: &[Slot<'_>],
    place: &dyn Fn(&str) -> Result<OwnPath, DescriptionFault>,
) -> Result<Vec<ImagePair, PAYLOADS_MAX_COUNT>, DescriptionFault> {
    let mut images = Vec::new();
    for slot in slots {
        let missing = DescriptionFault::Value { line: slot.line };
        let pair = ImagePair {
            name: slot.name.clone(),
            of: [
                place(slot.a.ok_or(missing)?)?,
                place(slot.b.ok_or(missing)?)?,
            ],
        };
        // As many fit as were read.
        let _ = images.push(pair);
    }
    Ok(images)
}

#[cfg(test)]
mod tests;
