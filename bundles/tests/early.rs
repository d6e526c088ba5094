//! Promise: a recipe is enough for a whole appliance: the initramfs is one that GNU cpio reads, overlays are in the root, and
//! the same input makes the same bytes.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;
use std::process::Command;

use support::{Workshop, tool, try_tool, words};
use twinseal_bundle::extract::extract_blob;
use twinseal_bundle::read::BlobName;

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.put("agent", &b"a static program ".repeat(1001));
    workshop.put("modules/order", b"virtio_blk\nerofs\n");
    workshop.put("modules/virtio_blk.ko", b"\x7fELF virtio");
    workshop.put("modules/erofs.ko", b"\x7fELF erofs!");
    workshop
}

fn archive(workshop: &Workshop, name: &str) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_twinseal-bundle"))
        .args(["initramfs", "--init"])
        .arg(workshop.at("agent"))
        .arg("--modules")
        .arg(workshop.at("modules"))
        .arg("--out")
        .arg(workshop.at(name))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::read(workshop.at(name)).unwrap()
}

#[test]
fn gnu_cpio_lists_the_initramfs() {
    let workshop = workshop();
    let first = archive(&workshop, "first.cpio");
    let path = workshop.at("first.cpio");
    let mut arguments = words("-itv --numeric-uid-gid --quiet -F");
    arguments.push(&path);
    let output = try_tool("cpio", &arguments);
    assert!(output.status.success() && output.stderr.is_empty());
    let listing = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = listing
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
        "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
        "-rwxr-xr-x 1 0 0 17017 Jan 1 1970 init",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 modules",
        "-rw-r--r-- 1 0 0 11 Jan 1 1970 modules/erofs.ko",
        "-rw-r--r-- 1 0 0 17 Jan 1 1970 modules/order",
        "-rw-r--r-- 1 0 0 11 Jan 1 1970 modules/virtio_blk.ko",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 proc",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 run",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 sys",
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 sysroot",
    ];
    assert_eq!(lines, expected);
    assert!(
        first == archive(&workshop, "second.cpio"),
        "twice the same bytes"
    );

    let command = format!(
        "mkdir {0} && cd {0} && cpio -id --quiet init modules/order < {1} && cmp init {2}",
        workshop.at("out").display(),
        path.display(),
        workshop.at("agent").display()
    );
    tool("sh", &["-c".as_ref(), command.as_ref()]);
    assert_eq!(
        fs::read(workshop.at("out/modules/order")).unwrap(),
        b"virtio_blk\nerofs\n"
    );
}

#[test]
fn a_recipe_makes_initramfs_and_overlays_by_itself() {
    let workshop = workshop();
    workshop.put("over/etc/hostname", b"laid over\n");
    workshop.put("over/usr/lib/added", &b"added ".repeat(50));
    let recipe = Workshop::system_recipe()
        .replace(
            "initramfs = 'initrd.cpio'",
            "early = { init = 'agent', modules = 'modules' }",
        )
        .replace(
            "tar = 'root.tar',",
            "tar = 'root.tar', overlays = ['over'],",
        );
    let first = workshop.build(&recipe, "1.tseal").unwrap();
    let second = workshop.build(&recipe, "2.tseal").unwrap();
    assert!(fs::read(&first).unwrap() == fs::read(second).unwrap());
    extract_blob(&first, &BlobName::Uki, &workshop.at("uki.efi")).unwrap();
    let uki = fs::read(workshop.at("uki.efi")).unwrap();
    let cpio = archive(&workshop, "alone.cpio");
    assert!(
        uki.windows(cpio.len()).any(|part| part == cpio),
        "the UKI carries the very archive that `initramfs` makes"
    );
    let report = twinseal_bundle::inspect::inspect(&first, true).unwrap();
    let files = report.file_lines();
    assert!(files.contains("/usr/lib/added"), "{files}");
}
