//! A stick that somebody plugged in: a disk with one FAT file system and a release in its root folder, and perhaps a UKI that starts a
//! recovery.

use super::SuiteError;
use super::bench::Bench;
use crate::command::Invocation;
use crate::maker::Made;
use crate::scenario::{Bundle, Scenario};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Room beside the bundle, for the file system itself.
const MORE_BYTES: u64 = 16 << 20;

/// Bytes of a sector, in which `mformat` counts.
const SECTOR_BYTES: u64 = 512;

/// The stick of a scenario that has one.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make(
    bench: &Bench<'_>,
    made: &Made,
    scenario: &Scenario,
    folder: &Path,
) -> Result<Option<PathBuf>, SuiteError> {
    let Some(bundle) = scenario.stick else {
        return Ok(None);
    };
    let bundle = made.bundle_file(bundle);
    let uki = scenario.stick_starts.then(|| rescue(bench, made, folder));
    let uki = uki.transpose()?;
    let mut bytes = MORE_BYTES;
    for file in [Some(&bundle), uki.as_ref()].into_iter().flatten() {
        bytes += fs::metadata(file)
            .map_err(SuiteError::file(file, "read"))?
            .len();
    }
    let sectors = bytes.div_ceil(SECTOR_BYTES);
    let stick = folder.join("stick.img");
    let file = File::create(&stick).map_err(SuiteError::file(&stick, "made"))?;
    file.set_len(sectors * SECTOR_BYTES)
        .map_err(SuiteError::file(&stick, "made"))?;
    let format = Invocation::new("mformat")
        .arguments(["-T", &sectors.to_string(), "-h", "64", "-s", "32", "-i"])
        .argument(&stick)
        .argument("::");
    let copy = Invocation::new("mcopy")
        .argument("-i")
        .argument(&stick)
        .argument(&bundle)
        .argument(OsString::from("::"));
    for made in [format, copy] {
        bench.runner.run(&made)?.expect_success()?;
    }
    if let Some(uki) = uki {
        let folders = Invocation::new("mmd").argument("-i").argument(&stick);
        let folders = folders.arguments(["::EFI", "::EFI/BOOT"]);
        let copy = Invocation::new("mcopy")
            .argument("-i")
            .argument(&stick)
            .argument(&uki)
            .argument(format!("::{}", bench.parts.processor.removable_media()));
        for made in [folders, copy] {
            bench.runner.run(&made)?.expect_success()?;
        }
        if bench.parts.processor.firmware_has_a_shell() {
            start_from_shell(bench, &stick, folder)?;
        }
    }
    Ok(Some(stick))
}

/// Firmware with a shell starts that before a disk that it has not seen; the shell runs this.
fn start_from_shell(bench: &Bench<'_>, stick: &Path, folder: &Path) -> Result<(), SuiteError> {
    let script = folder.join("startup.nsh");
    let uki = bench.parts.processor.removable_media().replace('/', "\\");
    fs::write(&script, format!("FS0:{uki}\r\n")).map_err(SuiteError::file(&script, "written"))?;
    let copy = Invocation::new("mcopy")
        .argument("-i")
        .argument(stick)
        .argument(&script)
        .argument(OsString::from("::"));
    bench.runner.run(&copy)?.expect_success()?;
    Ok(())
}

/// The UKI that starts a recovery, out of its bundle.
fn rescue(bench: &Bench<'_>, made: &Made, folder: &Path) -> Result<PathBuf, SuiteError> {
    let uki = folder.join("rescue.efi");
    let extract = Invocation::new(&bench.bundler)
        .argument("extract")
        .argument(made.bundle_file(Bundle::Rescue))
        .arguments(["--blob", "uki", "--out"])
        .argument(&uki);
    bench.runner.run(&extract)?.expect_success()?;
    Ok(uki)
}
