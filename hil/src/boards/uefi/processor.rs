//! The processors of the virtual UEFI board: what is another program, another file or another name for each.
//!
//! # Invariants
//! - What differs from one processor to the next is said here and nowhere else.

use super::Need;
use std::path::{Path, PathBuf};

/// The processor of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// x86-64: a PC.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Armv7,
}

/// Files of the firmware, among the inputs of a processor.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareFiles {
    /// Its code.
    pub code: &'static str,
    /// Its variables, without keys.
    pub variables: &'static str,
}

impl Processor {
    /// The name of a board with it.
    pub const fn board(self) -> &'static str {
        match self {
            Self::X86_64 => "uefi",
            Self::Aarch64 => "uefi-aarch64",
            Self::Armv7 => "uefi-armv7",
        }
    }

    /// What a board with it has, with a web server.
    pub const fn has(self) -> &'static [Need] {
        match self {
            Self::X86_64 | Self::Aarch64 => &[
                Need::Uefi,
                Need::SecureBoot,
                Need::Watchdog,
                Need::Network,
                Need::PowerCut,
                Need::Tampering,
            ],
            // Debian has no firmware with Secure Boot for it, and its kernel no driver for the watchdog that QEMU has.
            Self::Armv7 => &[Need::Uefi, Need::Network, Need::PowerCut, Need::Tampering],
        }
    }

    /// The QEMU that runs it, when nobody names one.
    pub const fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
            Self::Armv7 => "qemu-system-arm",
        }
    }

    /// QEMU's arguments for the processor and what it is soldered to.
    pub(super) const fn machine(self) -> &'static [&'static str] {
        match self {
            // QEMU's plainest one, and instructions for SHA-256, which the emulator does in one step. Secure Boot needs the firmware
            // that keeps its variables behind system management mode.
            Self::X86_64 => &[
                "-cpu",
                "qemu64,+ssse3,+sse4.1,+sse4.2,+sha-ni",
                "-M",
                "q35,smm=on",
                "-global",
                "driver=cfi.pflash01,property=secure,value=on",
                "-device",
                "i6300esb",
            ],
            Self::Aarch64 => &["-cpu", "cortex-a57", "-M", "virt", "-device", "i6300esb"],
            Self::Armv7 => &["-cpu", "cortex-a15", "-M", "virt"],
        }
    }

    /// Memory of a board for scenarios, in MiB: the UKI, its initramfs and busybox fit twice. On 64-bit ARM the kernel is not
    /// compressed.
    pub const fn memory_mib(self) -> u32 {
        match self {
            Self::X86_64 | Self::Armv7 => 512,
            Self::Aarch64 => 768,
        }
    }

    /// The kernel's command line in scenarios. What stands behind the limit of a panic saves half a second of each emulated boot;
    /// it is for tests, never for a product.
    pub const fn command_line(self) -> &'static str {
        match self {
            Self::X86_64 => {
                "console=ttyS0 quiet panic=1 mitigations=off nokaslr no_timer_check tsc=reliable audit=0 \
                 cryptomgr.notests=1 initcall_blacklist=jent_mod_init,bpf_dummy_struct_ops_init"
            }
            Self::Aarch64 | Self::Armv7 => {
                "console=ttyAMA0 quiet panic=1 mitigations=off nokaslr audit=0 cryptomgr.notests=1 initcall_blacklist=jent_mod_init"
            }
        }
    }

    /// The folder of its inputs, given that of the first processor's.
    pub fn inputs(self, folder: &Path) -> PathBuf {
        match self {
            Self::X86_64 => folder.to_owned(),
            Self::Aarch64 => beside(folder, "-aarch64"),
            Self::Armv7 => beside(folder, "-armv7"),
        }
    }

    /// What makes those inputs.
    pub const fn inputs_made_by(self) -> &'static str {
        match self {
            Self::X86_64 => "scripts/appliance.sh",
            Self::Aarch64 => "scripts/appliance.sh aarch64",
            Self::Armv7 => "scripts/appliance.sh armv7",
        }
    }

    /// The folder of its device programs, when nobody names one, and what makes them.
    pub const fn device_programs(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("target/device/bin", "scripts/device-programs.sh"),
            Self::Aarch64 => ("target/aarch64/bin", "scripts/cross.sh aarch64"),
            Self::Armv7 => ("target/armv7/bin", "scripts/cross.sh armv7"),
        }
    }

    /// The firmware, among the inputs.
    pub const fn firmware(self) -> FirmwareFiles {
        match self {
            Self::X86_64 => FirmwareFiles {
                code: "ovmf/OVMF_CODE_4M.secboot.fd",
                variables: "ovmf/OVMF_VARS_4M.fd",
            },
            Self::Aarch64 | Self::Armv7 => FirmwareFiles {
                code: "AAVMF_CODE.fd",
                variables: "AAVMF_VARS.fd",
            },
        }
    }

    /// Whether that firmware starts a shell of its own before it looks at a disk that it has no boot entry for. One with Secure Boot
    /// has none.
    pub const fn firmware_has_a_shell(self) -> bool {
        matches!(self, Self::Armv7)
    }

    /// systemd's boot stub, among the inputs.
    pub const fn stub(self) -> &'static str {
        match self {
            Self::X86_64 => "linuxx64.efi.stub",
            Self::Aarch64 => "linuxaa64.efi.stub",
            Self::Armv7 => "linuxarm.efi.stub",
        }
    }

    /// systemd-boot, among the inputs.
    pub const fn systemd_boot(self) -> &'static str {
        match self {
            Self::X86_64 => "systemd-bootx64.efi",
            Self::Aarch64 => "systemd-bootaa64.efi",
            Self::Armv7 => "systemd-bootarm.efi",
        }
    }

    /// Where firmware looks for a UKI on a disk without boot entries (UEFI specification, removable media).
    pub const fn removable_media(self) -> &'static str {
        match self {
            Self::X86_64 => "/EFI/BOOT/BOOTX64.EFI",
            Self::Aarch64 => "/EFI/BOOT/BOOTAA64.EFI",
            Self::Armv7 => "/EFI/BOOT/BOOTARM.EFI",
        }
    }
}

/// A folder whose name has this ending besides.
pub(crate) fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
