//! The demo's inputs: three releases of an appliance's root, and what its UKIs are made of.
//!
//! ```text
//! v1/ v2/ v3/   rootfs.tar  os-release  packages.txt
//! vmlinuz  linuxx64.efi.stub  kernel-version  modules/order  modules/NAME.ko
//! ```
//!
//! For the virtual board also `ovmf/OVMF_CODE_4M.secboot.fd` and `ovmf/OVMF_VARS_4M.fd`.
//!
//! The programs of the device, static: twinseal, twinseal-minimal (its initramfs' /init).
//!
//! v2 is an update of v1. v3 is an update of v2 whose health checks fail.

use super::error::DemoError;
use crate::programs::AGENT;
use std::fs;
use std::path::{Path, PathBuf};

/// The inputs, all there.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    /// The releases, in their order.
    pub releases: [Release; 3],
    /// The kernel.
    pub kernel: PathBuf,
    /// Its release (`uname -r`).
    pub kernel_version: String,
    /// The initramfs' modules.
    pub modules: PathBuf,
    /// The initramfs' `/init`.
    pub init: PathBuf,
    /// The agent in the root.
    pub agent: PathBuf,
    /// systemd's UEFI stub.
    pub stub: PathBuf,
}

/// One release.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// "v1", "v2" or "v3".
    pub name: &'static str,
    /// Its version for people.
    pub version: String,
    /// Its place in the order, from 1: the anti-rollback version.
    pub number: u64,
    /// The root.
    pub root: PathBuf,
    /// Bytes of the root.
    pub root_bytes: u64,
    /// The os-release file for the UKI.
    pub os_release: PathBuf,
    /// The list of its packages.
    pub packages: PathBuf,
}

impl Inputs {
    /// Finds the inputs in a folder.
    pub(super) fn find(folder: &Path, device_programs: &Path) -> Result<Self, DemoError> {
        let programs = fs::canonicalize(device_programs).map_err(|_| DemoError::DeviceProgram {
            file: device_programs.to_owned(),
        })?;
        let folder = fs::canonicalize(folder).map_err(|_| DemoError::InputMissing {
            file: folder.to_owned(),
        })?;
        let version = input(&folder, "kernel-version")?;
        let kernel_version = fs::read_to_string(&version)
            .map_err(DemoError::file(&version, "read"))?
            .trim()
            .to_owned();
        Ok(Self {
            releases: [
                release(&folder, "v1", 1)?,
                release(&folder, "v2", 2)?,
                release(&folder, "v3", 3)?,
            ],
            kernel: input(&folder, "vmlinuz")?,
            kernel_version,
            modules: input(&folder, "modules/order").map(|_| folder.join("modules"))?,
            init: program(&programs, "twinseal-minimal")?,
            agent: program(&programs, AGENT)?,
            stub: input(&folder, "linuxx64.efi.stub")?,
        })
    }
}

/// The firmware of the virtual board.
#[derive(Clone, Debug)]
pub(super) struct Firmware {
    /// Its code, with Secure Boot.
    pub code: PathBuf,
    /// Its variables, empty.
    pub variables: PathBuf,
}

impl Firmware {
    /// Finds the firmware among the inputs.
    pub(super) fn find(folder: &Path) -> Result<Self, DemoError> {
        let find = |name| {
            let file = input(folder, name)?;
            fs::canonicalize(&file).map_err(DemoError::file(&file, "found"))
        };
        Ok(Self {
            code: find("ovmf/OVMF_CODE_4M.secboot.fd")?,
            variables: find("ovmf/OVMF_VARS_4M.fd")?,
        })
    }
}

fn program(folder: &Path, name: &str) -> Result<PathBuf, DemoError> {
    input(folder, name).map_err(|_| DemoError::DeviceProgram {
        file: folder.join(name),
    })
}

fn release(folder: &Path, name: &'static str, number: u64) -> Result<Release, DemoError> {
    let folder = &folder.join(name);
    let root = input(folder, "rootfs.tar")?;
    let os_release = input(folder, "os-release")?;
    Ok(Release {
        name,
        version: version(&os_release)?,
        number,
        root_bytes: fs::metadata(&root)
            .map_err(DemoError::file(&root, "read"))?
            .len(),
        root,
        os_release,
        packages: input(folder, "packages.txt")?,
    })
}

fn input(folder: &Path, name: &str) -> Result<PathBuf, DemoError> {
    let file = folder.join(name);
    if file.is_file() {
        Ok(file)
    } else {
        Err(DemoError::InputMissing { file })
    }
}

/// The value of `IMAGE_VERSION` (os-release(5)), with or without quotes.
fn version(os_release: &Path) -> Result<String, DemoError> {
    let text = fs::read_to_string(os_release).map_err(DemoError::file(os_release, "read"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("IMAGE_VERSION="));
    let value = value
        .map(|value| value.trim().trim_matches('"'))
        .filter(|value| !value.is_empty());
    value
        .map(str::to_owned)
        .ok_or_else(|| DemoError::NoVersion {
            file: os_release.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(folder: &Path) {
        for (name, number) in ["v1", "v2", "v3"].into_iter().zip(1..) {
            let release = folder.join(name);
            fs::create_dir(&release).unwrap();
            fs::write(release.join("rootfs.tar"), "root").unwrap();
            fs::write(release.join("packages.txt"), "").unwrap();
            fs::write(
                release.join("os-release"),
                format!("ID=x\nIMAGE_VERSION=\"{number}.0\"\n"),
            )
            .unwrap();
        }
        fs::create_dir(folder.join("modules")).unwrap();
        for name in [
            "vmlinuz",
            "modules/order",
            "linuxx64.efi.stub",
            "kernel-version",
            "twinseal",
            "twinseal-minimal",
        ] {
            fs::write(folder.join(name), "6.12\n").unwrap();
        }
    }

    #[test]
    fn all_is_found() {
        let folder = tempfile::tempdir().unwrap();
        complete(folder.path());
        let inputs = Inputs::find(folder.path(), folder.path()).unwrap();
        assert_eq!(inputs.kernel_version, "6.12");
        let found: Vec<_> = inputs
            .releases
            .iter()
            .map(|release| (release.name, release.version.as_str(), release.number))
            .collect();
        assert_eq!(
            found,
            [("v1", "1.0", 1), ("v2", "2.0", 2), ("v3", "3.0", 3)]
        );
        assert_eq!(inputs.releases[0].root_bytes, 4);
    }

    #[test]
    fn each_missing_input_is_named() {
        for name in [
            "v1/rootfs.tar",
            "v2/os-release",
            "v3/packages.txt",
            "vmlinuz",
            "modules/order",
            "linuxx64.efi.stub",
            "kernel-version",
        ] {
            let folder = tempfile::tempdir().unwrap();
            complete(folder.path());
            fs::remove_file(folder.path().join(name)).unwrap();
            let error = Inputs::find(folder.path(), folder.path()).unwrap_err();
            assert!(
                matches!(&error, DemoError::InputMissing { file } if file.ends_with(name)),
                "{name}: {error}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        complete(folder.path());
        fs::remove_file(folder.path().join("twinseal-minimal")).unwrap();
        assert!(matches!(
            Inputs::find(folder.path(), folder.path()),
            Err(DemoError::DeviceProgram { .. })
        ));
        assert!(matches!(
            Inputs::find(Path::new("/no/such/folder"), Path::new("/")),
            Err(DemoError::InputMissing { .. })
        ));
    }

    #[test]
    fn a_release_without_a_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        complete(folder.path());
        fs::write(
            folder.path().join("v2/os-release"),
            "ID=x\nIMAGE_VERSION=\n",
        )
        .unwrap();
        let error = Inputs::find(folder.path(), folder.path()).unwrap_err();
        assert!(
            matches!(&error, DemoError::NoVersion { file } if file.ends_with("v2/os-release")),
            "{error}"
        );
    }
}
