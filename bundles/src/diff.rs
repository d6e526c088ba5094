//! What changed between two bundles, by path, and what an update from one to the other costs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::Serialize;
use twinseal_core::wire::index::Role;

use crate::composefs_image::{FileEntry, FileKind, file_list};
use crate::error::Error;
use crate::inspect::{Bytes, COMPOSEFS_MAX_BYTES, printable};
use crate::pe::PeImage;
use crate::read::{BlobName, Bundle, IndexedBlob, find, image_slot};
use crate::uki::UkiError;
use crate::update_cost::UpdateCost;
use crate::verify::check_patches;

/// Largest UKI that is compared.
const UKI_MAX_BYTES: u64 = 1 << 30;

/// Files that the form for people lists.
const TOP_FILES: usize = 20;

/// What changed. The field names are those of the JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Version of the old bundle.
    pub old_version: String,
    /// Version of the new bundle.
    pub new_version: String,
    /// Objects that only the new bundle has.
    pub objects_added: Sum,
    /// Objects that only the old bundle has.
    pub objects_removed: Sum,
    /// Objects that both have.
    pub objects_kept: Sum,
    /// Files that only the new bundle has.
    pub files_added: Vec<FileChange>,
    /// Files that only the old bundle has.
    pub files_removed: Vec<FileChange>,
    /// Files whose kind, content or link target changed.
    pub files_changed: Vec<FileChange>,
    /// Files of which only owner, mode, time or attributes changed.
    pub files_touched: Vec<FileChange>,
    /// Sections of the UKI that are not the same.
    pub uki_sections: Vec<SectionChange>,
    /// Images for slots that are not the same.
    pub images: Vec<ImageChange>,
    /// Bytes of the new bundle that a device with the old one fetches, all together.
    pub update_bytes: u64,
    /// What they are.
    pub update: UpdateCost,
    /// Patches against the old bundle that were applied, and gave what they should.
    pub patches_checked: u32,
    /// Bytes of the new bundle.
    pub new_bundle_bytes: u64,
}

/// A number of things and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes in the bundle that has them (the new one, for those that both have).
    pub stored_bytes: u64,
}

/// A file that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Absolute path; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Size in the old bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_bytes: Option<u64>,
    /// Size in the new bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_bytes: Option<u64>,
}

/// A section of the UKI that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SectionChange {
    /// Its name.
    pub name: String,
    /// Size in the old UKI; `None` when it is new.
    pub old_bytes: Option<u64>,
    /// Size in the new UKI; `None` when it is gone.
    pub new_bytes: Option<u64>,
}

/// An image that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageChange {
    /// The slot.
    pub slot: String,
    /// Size in the old bundle; `None` when it is new.
    pub old_bytes: Option<u64>,
    /// Size in the new bundle; `None` when it is gone.
    pub new_bytes: Option<u64>,
}

/// One of the two bundles.
struct Side {
    bundle: Bundle,
    index: Vec<IndexedBlob>,
    files: BTreeMap<PathBuf, FileEntry>,
    sections: BTreeMap<String, Vec<u8>>,
}

impl Side {
    fn read(path: &Path) -> Result<Self, Error> {
        let bundle = Bundle::open(path)?;
        let index = bundle.index()?;
        let manifest = bundle.manifest();
        let (mut files, mut sections) = (BTreeMap::new(), BTreeMap::new());
        if let Ok(blob) = find(&index, &BlobName::Composefs, manifest) {
            let erofs = bundle.blob_bytes(blob, COMPOSEFS_MAX_BYTES)?;
            files = file_list(&erofs)?
                .into_iter()
                .map(|file| (file.path.clone(), file))
                .collect();
        }
        if let Ok(blob) = find(&index, &BlobName::Uki, manifest) {
            let uki = bundle.blob_bytes(blob, UKI_MAX_BYTES)?;
            let image = PeImage::parse(&uki).map_err(UkiError::Image)?;
            for section in image.sections() {
                let content = image.content(section).map_err(UkiError::Image)?;
                sections.insert(section.name_text(), content.to_vec());
            }
        }
        Ok(Self {
            bundle,
            index,
            files,
            sections,
        })
    }

    /// Blobs by digest.
    fn blobs(&self) -> BTreeMap<Vec<u8>, &IndexedBlob> {
        self.index
            .iter()
            .map(|blob| (blob.blob.digest.as_bytes().to_vec(), blob))
            .collect()
    }

    /// Digest and size of images by slot.
    fn images(&self) -> BTreeMap<String, (Vec<u8>, u64)> {
        let images = self.index.iter().filter_map(|blob| {
            let slot = image_slot(&blob.blob, self.bundle.manifest())?;
            Some((
                slot.to_owned(),
                (blob.blob.digest.as_bytes().to_vec(), blob.blob.size),
            ))
        });
        images.collect()
    }
}

/// Compares two bundles.
///
/// # Errors
/// When one of them cannot be read, or holds a damaged UKI or composefs image; [`Error::Unsound`] when a patch of the new one does
/// not give its blob.
pub fn diff(old: &Path, new: &Path) -> Result<Difference, Error> {
    let (old, new) = (Side::read(old)?, Side::read(new)?);
    let (old_blobs, new_blobs) = (old.blobs(), new.blobs());
    let sum = |blobs: &BTreeMap<Vec<u8>, &IndexedBlob>, keep: &dyn Fn(&Vec<u8>) -> bool| {
        let objects = blobs
            .iter()
            .filter(|(digest, blob)| blob.blob.role == Role::Object && keep(digest));
        // A hostile bundle may claim any sizes.
        objects.fold(Sum::default(), |sum, (_, blob)| Sum {
            count: sum.count + 1,
            bytes: sum.bytes.saturating_add(blob.blob.size),
            stored_bytes: sum.stored_bytes.saturating_add(blob.blob.stored_bytes),
        })
    };
    let update = UpdateCost::between(&old.bundle, &new.bundle)?;
    let mut difference = Difference {
        old_version: old.bundle.manifest().version.to_string(),
        new_version: new.bundle.manifest().version.to_string(),
        objects_added: sum(&new_blobs, &|digest| !old_blobs.contains_key(digest)),
        objects_removed: sum(&old_blobs, &|digest| !new_blobs.contains_key(digest)),
        objects_kept: sum(&new_blobs, &|digest| old_blobs.contains_key(digest)),
        files_added: Vec::new(),
        files_removed: Vec::new(),
        files_changed: Vec::new(),
        files_touched: Vec::new(),
        uki_sections: sections(&old.sections, &new.sections),
        images: images(&old.images(), &new.images()),
        update_bytes: update.bytes(),
        update,
        patches_checked: check_patches(&new.bundle, &old.bundle)?.patches,
        new_bundle_bytes: new.bundle.bytes(),
    };
    difference.add_files(&old.files, &new.files);
    Ok(difference)
}

impl Difference {
    fn add_files(
        &mut self,
        old: &BTreeMap<PathBuf, FileEntry>,
        new: &BTreeMap<PathBuf, FileEntry>,
    ) {
        for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let (before, after) = (old.get(path), new.get(path));
            let change = FileChange {
                path: path.to_string_lossy().into_owned(),
                old_bytes: before.map(|file| file.size),
                new_bytes: after.map(|file| file.size),
            };
            match (before, after) {
                (None, Some(_)) => self.files_added.push(change),
                (Some(_), None) => self.files_removed.push(change),
                (Some(before), Some(after)) if content_differs(before, after) => {
                    self.files_changed.push(change)
                }
                (Some(before), Some(after)) if before != after => self.files_touched.push(change),
                _ => {}
            }
        }
    }
}

fn content_differs(old: &FileEntry, new: &FileEntry) -> bool {
    // A file of the same content may move between the image and an object of its own.
    let regular = |file: &FileEntry| {
        matches!(
            file.kind,
            FileKind::InlineFile { .. } | FileKind::ObjectFile
        )
    };
    let same_kind = old.kind == new.kind || (regular(old) && regular(new));
    !same_kind || old.digest != new.digest
}

fn sections(
    old: &BTreeMap<String, Vec<u8>>,
    new: &BTreeMap<String, Vec<u8>>,
) -> Vec<SectionChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name));
    let length = |content: &Vec<u8>| content.len() as u64;
    let changes = changed.map(|name| SectionChange {
        name: name.clone(),
        old_bytes: old.get(name).map(length),
        new_bytes: new.get(name).map(length),
    });
    changes.collect()
}

fn images(
    old: &BTreeMap<String, (Vec<u8>, u64)>,
    new: &BTreeMap<String, (Vec<u8>, u64)>,
) -> Vec<ImageChange> {
    let slots: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = slots
        .into_iter()
        .filter(|slot| old.get(*slot) != new.get(*slot));
    let changes = changed.map(|slot| ImageChange {
        slot: slot.clone(),
        old_bytes: old.get(slot).map(|(_, bytes)| *bytes),
        new_bytes: new.get(slot).map(|(_, bytes)| *bytes),
    });
    changes.collect()
}

/// Sizes before and after: `1.2 MB -> 1.3 MB`, `new`, `gone`.
struct Sizes(Option<u64>, Option<u64>);

impl Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(old), Some(new)) => write!(f, "{} -> {}", Bytes(old), Bytes(new)),
            (None, Some(new)) => write!(f, "new, {}", Bytes(new)),
            (Some(old), None) => write!(f, "gone, was {}", Bytes(old)),
            (None, None) => f.write_str("-"),
        }
    }
}

impl Display for Difference {
    /// The form for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} -> {}",
            printable(&self.old_version),
            printable(&self.new_version)
        )?;
        let objects = [
            ("added", self.objects_added),
            ("removed", self.objects_removed),
            ("kept", self.objects_kept),
        ];
        for (name, sum) in objects {
            let (bytes, stored) = (Bytes(sum.bytes), Bytes(sum.stored_bytes));
            writeln!(
                f,
                "objects {name:<9}{:>7}  {bytes} ({stored} in the bundle)",
                sum.count
            )?;
        }
        let files = [
            ("added", &self.files_added),
            ("removed", &self.files_removed),
            ("changed", &self.files_changed),
            ("touched", &self.files_touched),
        ];
        for (name, list) in files {
            let sizes = list
                .iter()
                .filter_map(|file| file.new_bytes.or(file.old_bytes));
            let bytes = sizes.fold(0u64, u64::saturating_add);
            writeln!(f, "files   {name:<9}{:>7}  {}", list.len(), Bytes(bytes))?;
        }
        self.fmt_top_files(f)?;
        for section in &self.uki_sections {
            writeln!(
                f,
                "uki     {:<9}{}",
                section.name,
                Sizes(section.old_bytes, section.new_bytes)
            )?;
        }
        for image in &self.images {
            writeln!(
                f,
                "image   {} {}",
                image.slot,
                Sizes(image.old_bytes, image.new_bytes)
            )?;
        }
        let cost = &self.update;
        let (patches, wholes) = (Bytes(cost.patch_bytes), Bytes(cost.whole_bytes));
        let rest = Bytes(cost.index_bytes + cost.front_bytes);
        writeln!(
            f,
            "patches {} of {patches}, all applied; {} blobs whole, {wholes}; index and headers {rest}",
            cost.patched, cost.whole
        )?;
        let (update, whole) = (Bytes(self.update_bytes), Bytes(self.new_bundle_bytes));
        writeln!(
            f,
            "update  {update} of {whole} to fetch for a device that has the old bundle installed"
        )
    }
}

impl Difference {
    fn fmt_top_files(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ('+', &self.files_added),
            ('-', &self.files_removed),
            ('~', &self.files_changed),
        ];
        let mut all: Vec<(char, &FileChange)> = lists
            .into_iter()
            .flat_map(|(sign, list)| list.iter().map(move |file| (sign, file)))
            .collect();
        all.sort_by_key(|(_, file)| std::cmp::Reverse(file.new_bytes.max(file.old_bytes)));
        for (sign, file) in all.iter().take(TOP_FILES) {
            writeln!(
                f,
                "  {sign} {}  {}",
                printable(&file.path),
                Sizes(file.old_bytes, file.new_bytes)
            )?;
        }
        match all.len().saturating_sub(TOP_FILES) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} smaller ones; --json lists all"),
        }
    }
}
