//! What a release has beyond the appliance's root: the agent, its description, the maker's key, files to look at, and what makes
//! a bad release bad.

use super::recipe::COMPATIBLE;
use super::{Inputs, MakerError};
use crate::scenario::{Appliance, Bundle, Kernel};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Attempts of a trial: enough to show that each one is counted.
const TRIAL_ATTEMPTS: u8 = 2;

/// Lines of the files to look at: some hundred kilobytes, so that they are objects of many blocks.
const LINES: usize = 9000;

/// A release that ends its kernel, before anything feeds the watchdog.
const PANICS: &str = "#!/bin/sh\necho 'this release panics'\necho 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger\n";

/// A release that stops, before anything feeds the watchdog.
const HANGS: &str = "#!/bin/sh\necho 'this release hangs'\nwhile :; do sleep 3600; done\n";

/// A release that comes up until a setting ends its kernel, as early.
const FRAIL: &str = "#!/bin/sh\n[ -e /etc/frail ] || exit 0\necho 'this release does not take its settings'\n\
                     echo 1 >/proc/sys/kernel/sysrq\necho c >/proc/sysrq-trigger\n";

/// A release whose health check fails.
const SICK: &str = "#!/bin/sh\necho 'FAILED: this release is sick'\nexit 1\n";

/// The folder of a release's own files.
pub(super) fn folder(maker: &Path, bundle: Bundle) -> PathBuf {
    // What is damaged is the bundle, not the release in it.
    let bundle = if bundle == Bundle::Damaged {
        Bundle::V2
    } else {
        bundle
    };
    maker.join("overlays").join(bundle.name())
}

/// Makes that folder.
pub(super) fn make(
    maker: &Path,
    inputs: &Inputs,
    appliance: Appliance,
    bundle: Bundle,
) -> Result<(), MakerError> {
    let (folder, name) = (folder(maker, bundle), bundle.name());
    let text = |file: &str, text: &str, mode: u32| write(&folder.join(file), text.as_bytes(), mode);
    text(
        "usr/lib/os-release",
        &format!("ID=scenario\nIMAGE_VERSION={name}\nPRETTY_NAME=\"Scenario appliance {name}\"\n"),
        0o644,
    )?;
    text("usr/lib/twinseal/release", &format!("{name}\n"), 0o644)?;
    text(
        "usr/lib/twinseal/device.toml",
        &description(appliance),
        0o644,
    )?;
    text(
        "usr/share/scenario/stays",
        &"the same in every release\n".repeat(LINES),
        0o644,
    )?;
    text(
        "usr/share/scenario/changes",
        &format!("release {name}\n").repeat(LINES),
        0o644,
    )?;
    let image = format!("image of release {name}\n").repeat(LINES);
    write(&image_file(maker, bundle), image.as_bytes(), 0o644)?;
    text("etc/scenario", &format!("release {name}\n"), 0o644)?;
    for (from, to, mode) in [
        (inputs.program("twinseal")?, "usr/bin/twinseal", 0o755),
        (
            maker.join("keys/release.pub"),
            "usr/lib/twinseal/keys/release.pub",
            0o644,
        ),
    ] {
        let bytes = fs::read(&from).map_err(MakerError::file(&from, "read"))?;
        write(&folder.join(to), &bytes, mode)?;
    }
    match bundle {
        Bundle::Panics => text("usr/lib/twinseal/early", PANICS, 0o755),
        Bundle::Hangs => text("usr/lib/twinseal/early", HANGS, 0o755),
        Bundle::Frail => text("usr/lib/twinseal/early", FRAIL, 0o755),
        Bundle::Sick => text("usr/lib/twinseal/health.d/20-sick", SICK, 0o755),
        Bundle::V1
        | Bundle::V2
        | Bundle::V3
        | Bundle::Stranger
        | Bundle::Unsigned
        | Bundle::Foreign
        | Bundle::Damaged
        | Bundle::Rescue => Ok(()),
    }
}

fn description(appliance: Appliance) -> String {
    let slots = match image(appliance) {
        Some(slot) => format!(
            "\n[slots.{slot}]\na = \"/dev/disk/by-partlabel/{slot}-a\"\nb = \"/dev/disk/by-partlabel/{slot}-b\"\n"
        ),
        None => String::new(),
    };
    format!(
        "compatible = \"{COMPATIBLE}\"\ntrial-attempts = {TRIAL_ATTEMPTS}\n\n[boot]\nloader = \"{}\"\n{slots}",
        appliance.loader.name()
    )
}

/// The slot of a raw image that the releases have.
pub(super) fn image(appliance: Appliance) -> Option<&'static str> {
    (appliance.kernel == Kernel::General).then_some("fpga")
}

/// The raw image of a release.
pub(super) fn image_file(maker: &Path, bundle: Bundle) -> PathBuf {
    folder(maker, bundle).with_extension("img")
}

fn write(file: &Path, bytes: &[u8], mode: u32) -> Result<(), MakerError> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(MakerError::file(folder, "made"))?;
    }
    fs::write(file, bytes).map_err(MakerError::file(file, "written"))?;
    fs::set_permissions(file, fs::Permissions::from_mode(mode))
        .map_err(MakerError::file(file, "written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::uefi::Processor;

    #[test]
    fn a_bad_release_has_what_makes_it_bad_and_a_good_one_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let inputs = Inputs {
            processor: Processor::X86_64,
            tools: folder.path().to_owned(),
            folder: folder.path().to_owned(),
            general_folder: folder.path().to_owned(),
            device_programs: folder.path().to_owned(),
        };
        fs::create_dir(folder.path().join("keys")).unwrap();
        fs::write(folder.path().join("keys/release.pub"), "key").unwrap();
        fs::write(folder.path().join("twinseal"), "program").unwrap();
        for bundle in Bundle::ALL
            .into_iter()
            .filter(|bundle| *bundle != Bundle::Damaged)
        {
            make(folder.path(), &inputs, Appliance::default(), bundle).unwrap();
            let own = super::folder(folder.path(), bundle);
            let early = own.join("usr/lib/twinseal/early").is_file();
            let sick = own.join("usr/lib/twinseal/health.d/20-sick").is_file();
            let expected = (
                matches!(bundle, Bundle::Panics | Bundle::Hangs | Bundle::Frail),
                bundle == Bundle::Sick,
            );
            assert_eq!((early, sick), expected, "{bundle:?}");
            assert!(own.join("usr/bin/twinseal").is_file());
        }
    }
}
