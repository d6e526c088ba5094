//! The recipe of a release: what `twinseal-bundle build` makes a bundle from.

use super::{Inputs, MakerError, overlay};
use crate::boards::uefi::qemu::SERVER_ADDRESS;
use crate::scenario::{Appliance, Bundle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The device type of scenarios.
pub(super) const COMPATIBLE: &str = "scenario-appliance";

/// The release that a recovery fetches. Only scenarios that hold it have it served.
const RECOVERED: &str = "v2";

/// Seconds after which the watchdog resets a release: long enough for a slow machine to boot, and short for the one that hangs.
const WATCHDOG_SECONDS: u64 = 60;
const WATCHDOG_SECONDS_HANGS: u64 = 20;

/// Starts of a committed release that may go without a word that it is well; fewer for the one that is to use them up.
const STARTS: u8 = 5;
const STARTS_FRAIL: u8 = 3;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Recipe {
    compatible: &'static str,
    version: &'static str,
    anti_rollback: u64,
    source: String,
    builder: &'static str,
    kernel: PathBuf,
    stub: PathBuf,
    cmdline: String,
    os_release: PathBuf,
    uname: String,
    sign: [PathBuf; 1],
    compression: &'static str,
    level: i32,
    // Tables stand behind all values in TOML.
    root: Root,
    early: Early,
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_boot: Option<BTreeMap<&'static str, PathBuf>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    image: Vec<Image>,
}

#[derive(Serialize)]
struct Image {
    slot: &'static str,
    file: PathBuf,
}

#[derive(Serialize)]
struct Root {
    tar: PathBuf,
    overlays: [PathBuf; 1],
    epoch: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Early {
    init: PathBuf,
    modules: PathBuf,
    trusted_keys: [PathBuf; 1],
}

/// The recipe of a release, as TOML.
pub(super) fn recipe(
    folder: &Path,
    inputs: &Inputs,
    appliance: Appliance,
    bundle: Bundle,
) -> Result<String, MakerError> {
    let name = bundle.name();
    let version = inputs.of_kernel(appliance.kernel, "kernel-version")?;
    let uname = fs::read_to_string(&version).map_err(MakerError::file(&version, "read"))?;
    let overlay = overlay::folder(folder, bundle);
    let recipe = Recipe {
        compatible: COMPATIBLE,
        version: name,
        anti_rollback: anti_rollback(bundle),
        source: format!("scenario {name}"),
        builder: "twinseal-hil run",
        kernel: absolute(&inputs.of_kernel(appliance.kernel, "vmlinuz")?)?,
        stub: absolute(&inputs.appliance(inputs.processor.stub())?)?,
        cmdline: format!(
            "{} twinseal.recover.url=http://{SERVER_ADDRESS}/{}{RECOVERED}.tseal twinseal.watchdog={} twinseal.starts={}{}",
            inputs.processor.command_line(),
            appliance.folder(),
            watchdog_seconds(bundle),
            starts(bundle),
            if bundle == Bundle::Rescue {
                " twinseal.recover"
            } else {
                ""
            }
        ),
        os_release: overlay.join("usr/lib/os-release"),
        uname: uname.trim().to_owned(),
        sign: [folder.join(release_key(bundle))],
        compression: "zstd",
        level: 3,
        root: Root {
            tar: absolute(&inputs.of_kernel(appliance.kernel, "light/rootfs.tar")?)?,
            overlays: [overlay],
            epoch: 0,
        },
        early: Early {
            init: absolute(&inputs.program("twinseal-minimal")?)?,
            modules: absolute(&inputs.of_kernel(appliance.kernel, "modules")?)?,
            trusted_keys: [folder.join("keys/release.pub")],
        },
        secure_boot: secure_boot(folder, bundle),
        image: overlay::image(appliance)
            .map(|slot| Image {
                slot,
                file: overlay::image_file(folder, bundle),
            })
            .into_iter()
            .collect(),
    };
    toml::to_string(&recipe).map_err(|source| MakerError::Recipe { name, source })
}

/// A recipe's paths start at its own folder.
fn absolute(path: &Path) -> Result<PathBuf, MakerError> {
    fs::canonicalize(path).map_err(MakerError::file(path, "found"))
}

const fn release_key(bundle: Bundle) -> &'static str {
    match bundle {
        Bundle::Foreign => "keys/foreign.key",
        _ => "keys/release.key",
    }
}

const fn starts(bundle: Bundle) -> u8 {
    match bundle {
        Bundle::Frail => STARTS_FRAIL,
        _ => STARTS,
    }
}

/// Only V3 closes the way back.
const fn anti_rollback(bundle: Bundle) -> u64 {
    match bundle {
        Bundle::V3 => 2,
        _ => 1,
    }
}

const fn watchdog_seconds(bundle: Bundle) -> u64 {
    match bundle {
        Bundle::Hangs => WATCHDOG_SECONDS_HANGS,
        _ => WATCHDOG_SECONDS,
    }
}

fn secure_boot(folder: &Path, bundle: Bundle) -> Option<BTreeMap<&'static str, PathBuf>> {
    let signer = match bundle {
        Bundle::Unsigned => return None,
        Bundle::Stranger => "stranger",
        _ => "signer",
    };
    let key = |ending: &str| folder.join(format!("keys/{signer}.{ending}"));
    Some(BTreeMap::from([
        ("key", key("key")),
        ("certificate", key("crt")),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::uefi::Processor;

    fn table(bundle: Bundle) -> toml::Table {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs {
            processor: Processor::X86_64,
            tools: folder.path().to_owned(),
            folder: folder.path().to_owned(),
            general_folder: folder.path().to_owned(),
            device_programs: folder.path().to_owned(),
        };
        fs::create_dir(folder.path().join("light")).unwrap();
        for name in [
            "vmlinuz",
            "linuxx64.efi.stub",
            "kernel-version",
            "light/rootfs.tar",
            "twinseal-minimal",
            "modules",
        ] {
            fs::write(folder.path().join(name), "6.12\n").unwrap();
        }
        recipe(folder.path(), &inputs, Appliance::default(), bundle)
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn releases_differ_in_what_makes_them_bad() {
        let (v1, v3, hangs) = (table(Bundle::V1), table(Bundle::V3), table(Bundle::Hangs));
        assert_eq!(
            (
                v1["anti-rollback"].as_integer(),
                v3["anti-rollback"].as_integer()
            ),
            (Some(1), Some(2))
        );
        assert!(
            v1["cmdline"]
                .as_str()
                .unwrap()
                .ends_with("twinseal.watchdog=60 twinseal.starts=5")
        );
        assert!(
            hangs["cmdline"]
                .as_str()
                .unwrap()
                .ends_with("twinseal.watchdog=20 twinseal.starts=5")
        );
        assert!(table(Bundle::Unsigned).get("secure-boot").is_none());
        let key = |bundle| {
            table(bundle)["secure-boot"]["key"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert!(
            key(Bundle::Stranger).ends_with("stranger.key")
                && key(Bundle::V2).ends_with("signer.key")
        );
    }
}
