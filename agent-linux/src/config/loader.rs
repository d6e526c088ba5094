//! `[boot]` of the device description: who chooses the set at boot.
//!
//! # Invariants
//! - A loader that the firmware's variables tell needs boot slots; one that they do not tell has no folder of them.

use super::EFI_VARIABLES;
use crate::error::DescriptionProblem;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use twinseal_core::boot::Set;
use twinseal_platform_linux::BootLayout;

/// Who chooses the set at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loader {
    /// `twinseal select`, from the boot record.
    Record,
    /// The UEFI firmware, by variables that follow the boot record.
    Uefi {
        /// Folder of the variables (efivarfs).
        variables: PathBuf,
    },
    /// systemd-boot in the boot slot of set A, by variables that follow the boot record.
    SystemdBoot {
        /// Folder of the variables (efivarfs).
        variables: PathBuf,
    },
}

impl Loader {
    /// Folder of the variables that the boot record is told to; `None` when nobody reads them.
    pub fn variables(&self) -> Option<&Path> {
        match self {
            Self::Record => None,
            Self::Uefi { variables } | Self::SystemdBoot { variables } => Some(variables),
        }
    }

    /// Where the UKI of a set stands in its boot slot.
    pub const fn layout(&self, set: Set) -> BootLayout {
        match self {
            Self::Record | Self::Uefi { .. } => BootLayout::RemovableMedia,
            Self::SystemdBoot { .. } => BootLayout::EntryFolder(set),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Boot {
    #[serde(default)]
    loader: LoaderName,
    pub(super) record: Option<PathBuf>,
    variables: Option<PathBuf>,
}

#[derive(Clone, Copy, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
enum LoaderName {
    #[default]
    Record,
    Uefi,
    SystemdBoot,
}

impl Boot {
    /// The loader; `image_only`: the device has no boot slots.
    pub(super) fn loader(
        &self,
        image_only: bool,
        folder: &Path,
    ) -> Result<Loader, DescriptionProblem> {
        let named = self.variables.as_deref();
        let variables = || folder.join(named.unwrap_or(Path::new(EFI_VARIABLES)));
        let (name, loader) = match (self.loader, named) {
            (LoaderName::Record, Some(_)) => {
                return Err(DescriptionProblem::VariablesWithoutLoader);
            }
            (LoaderName::Record, None) => return Ok(Loader::Record),
            (LoaderName::Uefi, _) => {
                let variables = variables();
                ("uefi", Loader::Uefi { variables })
            }
            (LoaderName::SystemdBoot, _) => {
                let variables = variables();
                ("systemd-boot", Loader::SystemdBoot { variables })
            }
        };
        if image_only {
            Err(DescriptionProblem::LoaderWithoutBootSlots { loader: name })
        } else {
            Ok(loader)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Description;
    use super::*;

    fn parse(text: &str) -> Result<Description, String> {
        Description::parse(text, Path::new("/etc/twinseal")).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_variables_are_where_linux_shows_them_unless_a_folder_is_named() {
        assert_eq!(parse("compatible = \"x\"").unwrap().loader, Loader::Record);
        let loader = |name: &str, more: &str| {
            let text = format!("compatible = \"x\"\n[boot]\nloader = \"{name}\"\n{more}");
            parse(&text).unwrap().loader
        };
        for (named, path) in [
            ("", "/sys/firmware/efi/efivars"),
            ("variables = \"efi\"", "/etc/twinseal/efi"),
        ] {
            let variables = PathBuf::from(path);
            let uefi = Loader::Uefi {
                variables: variables.clone(),
            };
            assert_eq!(loader("uefi", named), uefi);
            assert_eq!(uefi.variables(), Some(Path::new(path)));
            let systemd_boot = Loader::SystemdBoot { variables };
            assert_eq!(loader("systemd-boot", named), systemd_boot);
            assert_eq!(systemd_boot.variables(), Some(Path::new(path)));
        }
        assert_eq!(Loader::Record.variables(), None);
    }

    #[test]
    fn a_loader_of_its_own_has_the_uki_among_its_entries() {
        let variables = PathBuf::new();
        let systemd_boot = Loader::SystemdBoot { variables };
        for set in Set::BOTH {
            assert_eq!(systemd_boot.layout(set), BootLayout::EntryFolder(set));
            assert_eq!(Loader::Record.layout(set), BootLayout::RemovableMedia);
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let wrong = |text: &str| parse(&format!("compatible = \"x\"\n{text}\n")).unwrap_err();
        assert!(wrong("[boot]\nvariables = \"v\"").contains("loader = \"uefi\""));
        for name in ["uefi", "systemd-boot"] {
            let text = format!(
                "image-only = true\n[boot]\nloader = \"{name}\"\n[slots.app]\na = \"f\"\nb = \"g\""
            );
            let said = wrong(&text);
            assert!(said.contains("boots a UKI from each set"), "{said}");
            assert!(said.contains(&format!("loader = \"{name}\"")), "{said}");
        }
        assert!(wrong("[boot]\nloader = \"grub\"").contains("line "));
    }
}
