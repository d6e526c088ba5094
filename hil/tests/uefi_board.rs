//! The virtual UEFI board with a stand-in for an appliance: busybox in a signed UKI, without a sealed root.
//!
//! Needs QEMU 10, virt-fw-vars, busybox-static and the inputs of scripts/appliance.sh, so a plain `cargo test` leaves it out.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use twinseal_hil::boards::uefi::variables::{self, Certificates};
use twinseal_hil::boards::uefi::{Parts, Processor, Uefi, UefiError, qemu};
use twinseal_hil::command::Runner;
use twinseal_hil::disk::DiskError;
use twinseal_hil::scenario::Loader;
use twinseal_hil::tamper::{Scene, Set, Tamper, apply};
use twinseal_hil::web::WebServer;

const LIMIT: Duration = Duration::from_secs(120);

const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev
for name in $(/bin/busybox --list); do [ $name = busybox ] || /bin/busybox ln -s busybox /bin/$name; done
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null
exec >/dev/console 2>&1
for folder in /modules /usr/lib/modules; do
  for module in $(cat $folder/order); do insmod $folder/${module%.ko}.ko; done
done
echo "twinseal: init: set a, stand-in"
ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0
stty -F /dev/ttyS1 115200 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo ready
while IFS= read -r command; do sh -c "$command" </dev/null; printf '\n:end %d\n' "$?"; done
"#;

struct StandIn {
    folder: tempfile::TempDir,
    runner: Runner,
    inputs: PathBuf,
}

impl StandIn {
    fn new() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let inputs = std::env::var_os("TWINSEAL_HIL_INPUTS")
            .map_or_else(|| workspace.join(".cache/appliance"), PathBuf::from);
        let new = Self {
            folder: tempfile::tempdir().unwrap(),
            runner: Runner::default(),
            inputs,
        };
        qemu::check("qemu-system-x86_64".as_ref()).unwrap();
        new.keys();
        new.uki();
        new.disk();
        new
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shell(&self, script: &str) {
        let status = Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }

    fn keys(&self) {
        for name in ["pk", "kek", "db", "stranger"] {
            self.shell(&format!(
                "openssl req -new -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN={name} -keyout {name}.key -out {name}.crt 2>/dev/null"
            ));
        }
        let keys = Certificates {
            platform: self.at("pk.crt"),
            exchange: self.at("kek.crt"),
            signer: self.at("db.crt"),
        };
        let program = variables::find_program(&self.inputs.join("tools")).unwrap();
        variables::make(
            &self.runner,
            &program,
            &self.inputs.join("ovmf/OVMF_VARS_4M.fd"),
            &keys,
            &self.at("new.fd"),
        )
        .unwrap();
        fs::copy(self.at("new.fd"), self.at("vars.fd")).unwrap();
    }

    fn uki(&self) {
        let (inputs, busybox) = (
            fs::canonicalize(&self.inputs).unwrap(),
            support::require_root_and_busybox(),
        );
        fs::create_dir_all(self.at("initramfs/bin")).unwrap();
        fs::write(self.at("initramfs/init"), INIT).unwrap();
        self.shell(&format!(
            "chmod 755 initramfs/init; cp {busybox} initramfs/bin/busybox; cp -rL {inputs}/modules initramfs/modules; mkdir initramfs/dev
             tar -x -f {inputs}/light/rootfs.tar -C initramfs ./usr/lib/modules
             mknod initramfs/dev/console c 5 1; cd initramfs && find . | cpio -o -H newc --quiet > ../initramfs.cpio
             cd .. && mkdir root && echo ID=stand-in > os-release && echo root > root/file",
            busybox = busybox.display(), inputs = inputs.display()
        ));
        let recipe = format!(
            "compatible='x'\nversion='1'\nanti-rollback=1\nkernel='{0}/vmlinuz'\nstub='{0}/linuxx64.efi.stub'\ninitramfs='initramfs.cpio'\n\
             cmdline='console=ttyS0 quiet panic=-1'\nos-release='os-release'\ncompression='none'\n[root]\ndirectory='root'\n\
             [secure-boot]\nkey='db.key'\ncertificate='db.crt'\n",
            inputs.display()
        );
        fs::write(self.at("recipe.toml"), recipe).unwrap();
        let bundler = support::programs().join("twinseal-bundle");
        self.shell(&format!(
            "{0} build recipe.toml --out x.tseal >/dev/null; {0} extract x.tseal --blob uki --out uki.efi >/dev/null",
            bundler.display()
        ));
    }

    fn disk(&self) {
        self.shell(
            "truncate -s 96M disk.img; printf 'label: gpt\\nstart=2048,size=64MiB,name=boot-a,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\\nname=data\\n' | sfdisk -q disk.img
             truncate -s 64M fat; mkfs.vfat -F 32 fat >/dev/null; mmd -i fat ::/EFI ::/EFI/BOOT; mcopy -i fat uki.efi ::/EFI/BOOT/BOOTX64.EFI
             dd if=fat of=disk.img bs=1M seek=1 conv=notrunc,sparse status=none",
        );
    }

    fn board(&self, server_port: Option<u16>) -> Uefi {
        let parts = Parts {
            processor: Processor::X86_64,
            qemu: "qemu-system-x86_64".into(),
            firmware: self.inputs.join("ovmf/OVMF_CODE_4M.secboot.fd"),
            own: env!("CARGO_BIN_EXE_twinseal-hil").into(),
            server_port,
            memory_mib: 512,
            patience: 1,
        };
        Uefi::new(parts, self.at("disk.img"), self.at("vars.fd"))
    }

    fn tamper(&self, tamper: &Tamper) {
        let (disk, variables, new) = (self.at("disk.img"), self.at("vars.fd"), self.at("new.fd"));
        let (key, certificate) = (self.at("stranger.key"), self.at("stranger.crt"));
        let scene = Scene {
            processor: Processor::X86_64,
            runner: &self.runner,
            disk: &disk,
            variables: &variables,
            new_variables: &new,
            stranger_key: &key,
            stranger_certificate: &certificate,
            scratch: self.folder.path(),
            loader: Loader::Uefi,
        };
        apply(&scene, tamper, |_, _| -> Result<String, DiskError> {
            unreachable!("only UKIs are changed here")
        })
        .unwrap();
    }
}

#[test]
#[ignore = "needs QEMU 10, virt-fw-vars and the inputs of scripts/appliance.sh"]
fn a_guest_boots_answers_downloads_restarts_hangs_and_loses_power() {
    let stand_in = StandIn::new();
    let served = stand_in.at("served");
    fs::create_dir(&served).unwrap();
    fs::write(served.join("bundle"), vec![7; 3 << 20]).unwrap();
    let server = WebServer::start(&served, &stand_in.at("scratch"), None).unwrap();
    let mut board = stand_in.board(Some(server.port));
    assert!(matches!(board.run("true", LIMIT), Err(UefiError::Off)));
    board.power_on().unwrap();
    assert!(matches!(board.power_on(), Err(UefiError::On)));
    board.wait_for("twinseal: init: set a", 1, LIMIT).unwrap();
    board.wait_ready(LIMIT).unwrap();

    let answer = board.run("echo one; echo two >&2; exit 7", LIMIT).unwrap();
    assert_eq!((answer.code, answer.text.as_str()), (7, "one\ntwo"));
    let fetched = board
        .run("wget -q -O - http://10.0.2.100/bundle | wc -c", LIMIT)
        .unwrap();
    assert_eq!(fetched.text.trim(), (3 << 20).to_string());
    let outside = board
        .run("wget -T 3 -q -O - http://10.0.2.2/", LIMIT)
        .unwrap();
    assert_ne!(outside.code, 0, "nothing but the web server is in reach");
    let secure = board.run("mount -t efivarfs e /sys/firmware/efi/efivars; od -An -tu1 /sys/firmware/efi/efivars/SecureBoot-*", LIMIT);
    assert!(
        secure.unwrap().text.trim().ends_with('1'),
        "Secure Boot is on"
    );

    board.begin("reboot -f").unwrap();
    board.wait_for("twinseal: init: set a", 1, LIMIT).unwrap();
    board.wait_ready(LIMIT).unwrap();
    // The QEMU of a later start can be set aside like that of the first.
    let aside = stand_in.at("aside");
    board.set_aside(&aside).unwrap();
    board.take_up(&aside).unwrap();
    assert_eq!(board.run("echo here", LIMIT).unwrap().text, "here");
    // Opened and left open without a word: the watchdog of the board resets it after its 30 s.
    board.begin("exec 3>/dev/watchdog; sleep 1000").unwrap();
    board.wait_for("twinseal: init: set a", 1, LIMIT).unwrap();
    board.wait_ready(LIMIT).unwrap();
    board.power_cut().unwrap();
    assert!(!board.is_on());
}

#[test]
#[ignore = "needs QEMU 10, virt-fw-vars and the inputs of scripts/appliance.sh"]
fn the_firmware_refuses_each_changed_uki() {
    let stand_in = StandIn::new();
    let set = Set::A;
    for tamper in [
        Tamper::FlipUki { set },
        Tamper::ResignUki { set },
        Tamper::UnsignUki { set },
    ] {
        stand_in.disk();
        stand_in.tamper(&tamper);
        let mut board = stand_in.board(None);
        board.power_on().unwrap();
        board
            .wait_for("Access Denied", 1, LIMIT)
            .unwrap_or_else(|error| panic!("{tamper:?}: {error}"));
        assert!(board.console().last("twinseal: init").is_none());
    }
    stand_in.disk();
    stand_in.tamper(&Tamper::WipeVariables {});
    let mut board = stand_in.board(None);
    board.power_on().unwrap();
    board.wait_ready(LIMIT).unwrap();
    board.begin("poweroff -f").unwrap();
    board.wait_off(LIMIT).unwrap();
}

#[test]
#[ignore = "needs QEMU 10, virt-fw-vars and the inputs of scripts/appliance.sh"]
fn a_machine_that_cannot_start_says_why() {
    let stand_in = StandIn::new();
    fs::remove_file(stand_in.at("disk.img")).unwrap();
    let mut board = stand_in.board(None);
    let ended = board
        .power_on()
        .and_then(|()| board.wait_for("twinseal", 1, LIMIT).map(drop));
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("disk.img"), "{error}");
}
