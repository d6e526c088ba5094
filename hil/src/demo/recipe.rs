//! The recipe of a release: what `twinseal-bundle build` makes a bundle from.

use super::error::DemoError;
use super::inputs::{Inputs, Release};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The device type of the demo.
pub(super) const COMPATIBLE: &str = "demo-appliance";

/// The kernel's command line; the builder adds the seal.
const COMMAND_LINE: &str = "quiet console=ttyS0 panic=10 cryptomgr.notests twinseal.starts=5";

/// Compression of the demo's bundles: a level that costs seconds. A maker with more time than bandwidth takes a higher one.
const COMPRESSION_LEVEL: i32 = 3;

/// The maker's keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'k> {
    /// Private key that signs releases.
    pub release: &'k Path,
    /// Private key for Secure Boot.
    pub secure_boot: &'k Path,
    /// Its certificate.
    pub certificate: &'k Path,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Recipe<'r> {
    compatible: &'r str,
    version: &'r str,
    anti_rollback: u64,
    source: &'r str,
    builder: &'r str,
    kernel: &'r Path,
    cmdline: &'r str,
    os_release: &'r Path,
    uname: &'r str,
    stub: &'r Path,
    sbom: &'r Path,
    sign: [&'r Path; 1],
    compression: &'r str,
    level: i32,
    // Tables stand behind all values in TOML.
    root: Root<'r>,
    early: BTreeMap<&'static str, &'r Path>,
    secure_boot: BTreeMap<&'static str, &'r Path>,
}

/// The device description in the sealed root.
pub(super) fn device_description() -> String {
    format!(
        "# The demo's appliance: slots by partition label, the firmware chooses the set.\n\
         compatible = \"{COMPATIBLE}\"\n\n[boot]\nloader = \"uefi\"\n"
    )
}

#[derive(Serialize)]
struct Root<'r> {
    tar: &'r Path,
    overlays: [&'r Path; 1],
}

/// Writes the recipe of a release; `overlay` has the maker's own files.
///
/// # Errors
/// [`DemoError::Recipe`] for a path that is not UTF-8.
pub(super) fn recipe(
    release: &Release,
    inputs: &Inputs,
    keys: Keys<'_>,
    overlay: &Path,
) -> Result<String, DemoError> {
    let recipe = Recipe {
        compatible: COMPATIBLE,
        version: &release.version,
        anti_rollback: release.number,
        source: &format!("demo {}", release.name),
        builder: "twinseal-hil demo",
        kernel: &inputs.kernel,
        cmdline: COMMAND_LINE,
        os_release: &release.os_release,
        uname: &inputs.kernel_version,
        stub: &inputs.stub,
        sbom: &release.packages,
        sign: [keys.release],
        compression: "zstd",
        level: COMPRESSION_LEVEL,
        root: Root {
            tar: &release.root,
            overlays: [overlay],
        },
        early: BTreeMap::from([
            ("init", inputs.init.as_path()),
            ("modules", inputs.modules.as_path()),
        ]),
        secure_boot: BTreeMap::from([("key", keys.secure_boot), ("certificate", keys.certificate)]),
    };
    let name = release.name;
    let text = toml::to_string(&recipe).map_err(|source| DemoError::Recipe { name, source })?;
    Ok(format!("# Release {name} of the demo's appliance.\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn write(root: &Path) -> Result<String, DemoError> {
        let file = Path::new("/in/file").to_owned();
        let release = || Release {
            name: "v1",
            version: "1.0 \"one\"".to_owned(),
            number: 1,
            root: root.to_owned(),
            root_bytes: 0,
            os_release: file.clone(),
            packages: file.clone(),
        };
        let inputs = Inputs {
            releases: [release(), release(), release()],
            kernel: file.clone(),
            kernel_version: "6.12".to_owned(),
            modules: file.clone(),
            init: file.clone(),
            agent: file.clone(),
            stub: file.clone(),
        };
        let keys = Keys {
            release: &file,
            secure_boot: &file,
            certificate: &file,
        };
        recipe(&release(), &inputs, keys, &file)
    }

    #[test]
    fn a_recipe_is_toml_with_every_value_in_its_table() {
        let table: toml::Table = write(Path::new("/in/root.tar")).unwrap().parse().unwrap();
        assert_eq!(table["version"].as_str(), Some("1.0 \"one\""));
        assert_eq!(table["anti-rollback"].as_integer(), Some(1));
        assert_eq!(table["root"]["tar"].as_str(), Some("/in/root.tar"));
        assert_eq!(
            table["secure-boot"]["certificate"].as_str(),
            Some("/in/file")
        );
        assert_eq!(table["sign"][0].as_str(), Some("/in/file"));
    }

    #[test]
    fn a_path_that_is_no_text_is_an_error() {
        let error = write(Path::new(OsStr::from_bytes(b"/in/\xff"))).unwrap_err();
        assert!(
            matches!(error, DemoError::Recipe { name: "v1", .. }),
            "{error}"
        );
    }
}
