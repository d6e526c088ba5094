#!/usr/bin/env bash
# Makes the inputs of the demo appliance, from real Debian packages, in .cache/appliance/:
#
#   v1/ v2/ v3/      rootfs.tar, os-release, packages.txt
#     v1             the release as it was last published
#     v2             the same packages with the release's security and stable updates; upgraded.txt lists what changed
#     v3             v2 with a mistake that a maker can make: a pruning step that removed a library curl needs.
#                    It boots, and its health check fails.
#   light/rootfs.tar a root of busybox alone, for scenarios that boot often: the same sealed chain, up in a second
#   vmlinuz  linuxx64.efi.stub  systemd-bootx64.efi  kernel-version
#   modules/         the initramfs' kernel modules, uncompressed and signed; `order`, in which they are loaded at each start, and
#                    `recovery`, what a recovery loads besides
#   ovmf/            firmware with Secure Boot for the virtual board: OVMF_CODE_4M.secboot.fd, OVMF_VARS_4M.fd
#   tools/           virt-fw-vars, which puts keys into the firmware's variables, nginx, which serves bundles, and bootctl, for a test
#   SHA256SUMS
#
# With the argument `general` it makes, in .cache/appliance-general/, what a board with Debian's general kernel needs besides: its
# vmlinuz, kernel-version, modules/ and light/rootfs.tar. The kernel for clouds, which all others have, knows no USB.
#
# With `aarch64` or `armv7` it makes the same for a board with a 64-bit or a 32-bit ARM processor, in .cache/appliance-aarch64/ or
# .cache/appliance-armv7/, and with it that board's boot stub, systemd-boot and firmware (AAVMF_CODE.fd, AAVMF_VARS.fd): with Secure
# Boot on 64-bit ARM; Debian has none with it for 32 bits.
#
# The same packages give the same bytes. Needs: scripts/deps.sh demo, a Debian machine, 0.8 GB in .cache, and root, or
# the package uidmap and a range of user numbers in /etc/subuid.
# Takes a minute or two the first time; nothing when it is all made. `rm -r .cache/appliance` makes it anew.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# The release whose updates v2 brings. An older release has more of them: when a new point release comes out, the updates
# of the newest one are in it already, and v1 and v2 would be the same.
readonly ROOT_SUITE=bookworm
readonly ROOT_UPDATES="bookworm-updates bookworm-security"
# usr-is-merged, since its alternative would bring a whole perl.
readonly ROOT_PACKAGES=usr-is-merged,systemd-sysv,udev,kmod,iproute2,curl,openssl,ca-certificates
# Kernel, boot stub, systemd-boot and busybox: EROFS mounted from a file needs Linux 6.12.
readonly BOOT_SUITE=trixie
kernel_package=linux-image-cloud-amd64
# What the initramfs loads: SHA-256 in the processor's own instructions, disk, sealed root, firmware variables, watchdog. Each
# module is some 20 ms of every boot in the emulator, so what can wait (boot partitions, network) is loaded from the sealed root.
# SHA-256 is first: signatures of the other modules are checked with it, and fs-verity keeps the code that it finds first.
initrd_modules="sha256-ssse3 virtio_blk i6300esb efivarfs erofs overlay"
# Network card, boot slots and media, all of which a recovery needs too.
light_modules="vfat nls_ascii nls_cp437 virtio_net"
readonly ROOT_MODULES="$initrd_modules $light_modules loop autofs4 tun"
# Most of what the kernel for clouds has inside is a module of the general one. USB is what a recovery is to find a stick with.
readonly GENERAL_INITRD_MODULES="sha256-ssse3 virtio_pci virtio_blk crc32c-generic ext4 i6300esb efivarfs erofs overlay"
readonly GENERAL_RECOVERY_MODULES="xhci_pci usb_storage sd_mod"
# The same on ARM, where the bus is in the kernel. That of 32-bit ARM has no driver for the board's watchdog.
readonly AARCH64_INITRD_MODULES="sha2-ce virtio_blk crc32c-generic ext4 i6300esb efivarfs erofs overlay"
readonly ARMV7_INITRD_MODULES="sha256-arm virtio_blk crc32c-generic ext4 efivarfs erofs overlay"
# What v3 lacks. Only libcurl uses it.
readonly PRUNED='/usr/lib/x86_64-linux-gnu/libnghttp2.so.*'
# No file in the root is younger than this (2026-06-01).
export SOURCE_DATE_EPOCH=1780272000

# other: what else than the appliance itself is made. boot_parts: the files of systemd's boot programs, where they are wanted.
other=${1:-} emulator= apt=appliance-boot boot_parts="linuxx64.efi.stub systemd-bootx64.efi"
case $other in
    "") ;;
    general)
        kernel_package=linux-image-amd64 boot_parts=
        initrd_modules=$GENERAL_INITRD_MODULES ;;
    aarch64)
        kernel_package=linux-image-arm64 boot_parts="linuxaa64.efi.stub systemd-bootaa64.efi"
        initrd_modules=$AARCH64_INITRD_MODULES
        apt_architecture=arm64 emulator=qemu-aarch64 firmware_package=qemu-efi-aarch64 firmware_code=AAVMF_CODE.secboot.fd ;;
    armv7)
        kernel_package=linux-image-armmp-lpae boot_parts="linuxarm.efi.stub systemd-bootarm.efi"
        initrd_modules=$ARMV7_INITRD_MODULES
        apt_architecture=armhf emulator=qemu-arm firmware_package=qemu-efi-arm firmware_code=AAVMF32_CODE.fd ;;
    *) fail "'$other' is not known. Usage: $0 [general|aarch64|armv7]" ;;
esac
apt+=${apt_architecture:+-$apt_architecture}
recovery_modules="$light_modules ${other:+$GENERAL_RECOVERY_MODULES}"
out=$cache/appliance${other:+-$other}
work=$out.new

kernel() {
    local package part unpacked=$work/kernel version
    apt_private $apt $BOOT_SUITE
    package=$(apt-cache -c "$cache/apt/$apt/apt.conf" depends $kernel_package | awk '$1 == "Depends:" { print $2; exit }')
    unpack $apt "$unpacked" "$package" busybox-static
    [[ -z $boot_parts ]] || unpack $apt "$unpacked" systemd-boot-efi
    version=$(basename "$unpacked"/boot/vmlinuz-*)
    version=${version#vmlinuz-}
    echo "$version" >"$work/kernel-version"
    cp "$unpacked/boot/vmlinuz-$version" "$work/vmlinuz"
    for part in $boot_parts; do cp "$unpacked/usr/lib/systemd/boot/efi/$part" "$work/"; done
    [[ -d $unpacked/usr/lib/modules ]] || { mkdir -p "$unpacked/usr/lib"; mv "$unpacked/lib/modules" "$unpacked/usr/lib/"; }
    rm -rf "${unpacked:?}/lib"
    ln -s usr/lib "$unpacked/lib"
    depmod -b "$unpacked" "$version"
    # Wishes, not needs: they ask for accelerators that only some processors have.
    rm "$unpacked/usr/lib/modules/$version/modules.softdep"
}

# modules_of NAME...: the files of the modules and of those they need, in the order in which they can be loaded.
modules_of() {
    modprobe -d "$work/kernel" -S "$(<"$work/kernel-version")" --show-depends -a "$@" | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# The modules are only decompressed: stripping one would take off its signature, and a kernel under Secure Boot refuses it then.
modules() {
    local path name version root=$work/root-modules
    version=$(<"$work/kernel-version")
    mkdir -p "$work/modules"
    modules_of $initrd_modules >"$work/initrd-modules"
    while read -r path; do
        name=$(basename "$path" .ko.xz)
        xz -dc "$path" >"$work/modules/$name.ko"
        echo "$name" >>"$work/modules/order"
    done <"$work/initrd-modules"

    modules_to light-modules $light_modules
    modules_to recovery-modules $recovery_modules
    cp "$work"/recovery-modules/*.ko "$work/modules/"
    grep -vxF -f "$work/modules/order" "$work/recovery-modules/order" >"$work/modules/recovery"
    [[ -z $other ]] || return 0

    modules_of $ROOT_MODULES >"$work/root-modules-list"
    while read -r path; do
        name=usr/lib/modules/${path#*/lib/modules/}
        mkdir -p "$root/$(dirname "$name")"
        xz -dc "$path" >"$root/${name%.xz}"
    done <"$work/root-modules-list"
    cp "$work/kernel/usr/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/usr/lib/modules/$version/"
    ln -s usr/lib "$root/lib"
    depmod -b "$root" "$version"
}

# modules_to FOLDER NAME...: the modules and those they need, decompressed, and `order`.
modules_to() {
    local folder=$work/$1 path name
    shift
    mkdir -p "$folder"
    modules_of "$@" | while read -r path; do
        name=$(basename "$path" .ko.xz)
        xz -dc "$path" >"$folder/$name.ko"
        echo "$name" >>"$folder/order"
    done
}

# A root with busybox for everything: what boots it, seals it and updates it is as in the large one.
light() {
    local tree=$work/light/tree busybox name
    mkdir -p "$tree"/{dev,proc,sys,run,tmp,root,etc/twinseal,usr/bin,usr/sbin,usr/lib/twinseal/health.d,var/lib,var/log}
    cp -r "$work/light-modules" "$tree/usr/lib/modules"
    busybox=$(find "$work/kernel" -path '*bin/busybox' -type f)
    install -m 755 "$busybox" "$tree/usr/bin/busybox"
    for name in $($emulator "$busybox" --list); do
        [[ $name == busybox || $name == init ]] || ln -s busybox "$tree/usr/bin/$name"
    done
    ln -s usr/bin "$tree/bin"
    ln -s usr/sbin "$tree/sbin"
    install -m 755 "$scripts/appliance/light-init" "$tree/usr/sbin/init"
    install -m 755 "$scripts/appliance/control" "$tree/usr/lib/twinseal/control"
    install -m 755 "$scripts/appliance/light-health" "$tree/usr/lib/twinseal/health.d/10-light"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
    echo 'root:x:0:' >"$tree/etc/group"
    echo light >"$tree/etc/hostname"
    printf 'NAME="Twinseal light appliance"\nID=twinseal-light\nVERSION_ID=1\nPRETTY_NAME="Twinseal light appliance, for scenarios"\n' >"$tree/usr/lib/os-release"
    ln -s ../usr/lib/os-release "$tree/etc/os-release"
    tar --create --format=pax --pax-option=delete=atime,delete=ctime --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@$SOURCE_DATE_EPOCH" -C "$tree" -f "$work/light/rootfs.tar" .
    rm -r "$tree"
}

firmware() {
    local unpacked=$work/firmware
    apt_private appliance-boot $BOOT_SUITE
    unpack appliance-boot "$unpacked" ovmf python3-virt-firmware
    mkdir -p "$work/ovmf" "$work/tools/python"
    cp -L "$unpacked"/usr/share/OVMF/OVMF_{CODE_4M.secboot,VARS_4M}.fd "$work/ovmf/"
    cp -r "$unpacked/usr/lib/python3/dist-packages/virt" "$work/tools/python/"
    install -m 755 "$scripts/appliance/virt-fw-vars" "$work/tools/"
}

# The firmware of an ARM board. Its two flashes are as large as QEMU's, and nearly all zeros.
arm_firmware() {
    local unpacked=$work/firmware folder
    unpack $apt "$unpacked" $firmware_package
    folder=$unpacked/usr/share/AAVMF
    cp --sparse=always "$folder/$firmware_code" "$work/AAVMF_CODE.fd"
    cp --sparse=always "$folder/${firmware_code%%_*}_VARS.fd" "$work/AAVMF_VARS.fd"
    rm -r "$unpacked"
}

# Unpacked, not installed: installing would start a server on this machine, or write a boot loader to its disk.
own_tools() {
    local own unpacked=$work/web
    own=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt_private appliance-web "$own"
    unpack appliance-web "$unpacked" nginx
    cp "$unpacked/usr/sbin/nginx" "$work/tools/"
    own_bootctl "$unpacked" || echo "bootctl could not be had; only a test wants it."
}

# Since Debian 13 bootctl is in a package of its own. Nothing but a test needs it, so nothing fails without: scripts/deps.sh test
# says that it is missing.
own_bootctl() {
    local package=systemd-boot
    [[ -z $(apt-cache -c "$cache/apt/appliance-web/apt.conf" show systemd-boot-tools 2>/dev/null) ]] || package=systemd-boot-tools
    unpack appliance-web "$1" "$package" && cp "$1/usr/bin/bootctl" "$work/tools/"
}

# rootfs VERSION RELEASE SUITE...: one root, as a tar.
rootfs() {
    local version=$1 release=$2
    shift 2
    mkdir -p "$work/$version"
    apt_sources "$@" >"$work/$version.list"
    # The way of this machine's apt to its archive (a proxy, for one) is also mmdebstrap's.
    apt-config dump | grep -E '^Acquire::(http|https|ftp|Check|Retries|ForceIPv)' >"$work/$version.apt-options" || true
    mmdebstrap --quiet --variant=minbase --include="$ROOT_PACKAGES" --skip=cleanup/apt --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --aptopt="$work/$version.apt-options" --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="'$scripts/appliance/customize' \"\$1\" $release '$work/root-modules' '$scripts/appliance'" \
        --customize-hook="'$scripts/appliance/lean' \"\$1\"" \
        $ROOT_SUITE "$work/$version/whole.tar" "$work/$version.list"
    # Device nodes are the kernel's business; the folder stays.
    without "$work/$version/whole.tar" "$work/$version/rootfs.tar" '/dev/*'
    rm "$work/$version/whole.tar"
    describe "$version"
}

# broken_rootfs: v3, from v2's tar.
broken_rootfs() {
    local tar=$work/v3/rootfs.tar tree=$work/v3-changes names=(./usr/lib/os-release ./usr/lib/twinseal/release)
    mkdir -p "$work/v3" "$tree"
    tar -xf "$work/v2/rootfs.tar" -C "$tree" "${names[@]}"
    sed -i 's/2\.0\.0/3.0.0/' "${names[@]/#/$tree/}"
    without "$work/v2/rootfs.tar" "$tar" "$PRUNED" "${names[@]#.}"
    tar --append --format=pax --pax-option=delete=atime,delete=ctime --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$tree" -f "$tar" "${names[@]}"
    describe v3
}

# describe VERSION: os-release for the UKI, and the packages in the root.
describe() {
    local admin=$work/$1.dpkg
    mkdir -p "$admin"
    tar -xOf "$work/$1/rootfs.tar" ./usr/lib/os-release >"$work/$1/os-release"
    tar -xOf "$work/$1/rootfs.tar" ./var/lib/dpkg/status >"$admin/status"
    dpkg-query --admindir="$admin" -W -f '${Package} ${Version}\n' | sort >"$work/$1/packages.txt"
}

# v2 must be an update of v1: packages upgraded, none lost.
upgrades() {
    join "$work/v1/packages.txt" "$work/v2/packages.txt" | awk '$2 != $3 { print $1, $2, "->", $3 }' >"$work/upgraded.txt"
    cmp <(cut -d' ' -f1 "$work/v1/packages.txt") <(cut -d' ' -f1 "$work/v2/packages.txt")
    (($(wc -l <"$work/upgraded.txt") >= 3)) && return
    echo "Only these packages of $ROOT_SUITE have updates now, too few to show an update with:"
    cat "$work/upgraded.txt"
    echo "Set ROOT_SUITE and ROOT_UPDATES at the top of $0 to a release that has more."
    return 1
}

finish_other() {
    rm -rf "$work"/{kernel,light-modules,recovery-modules,initrd-modules}
    finished
}

finish() {
    cp "$work/upgraded.txt" "$work/v2/upgraded.txt"
    (cd "$work" && sha256sum vmlinuz linuxx64.efi.stub systemd-bootx64.efi ovmf/* light/rootfs.tar v?/rootfs.tar >SHA256SUMS)
    rm -rf "$work"/{kernel,firmware,web,light-modules,recovery-modules,root-modules,root-modules-list,initrd-modules,v3-changes,v?.apt-options,v?.list,v?.dpkg,upgraded.txt}
    finished
}

finished() {
    mark_made "$work" "$made"
    rm -rf "$out"
    mv "$work" "$out"
}

made=$(recipe $(find "$scripts/appliance" -type f | sort))
is_made "$out" "$made" && exit 0
need ${emulator:+$emulator=qemu-user} mmdebstrap=mmdebstrap mmtarfilter=mmdebstrap xz=xz-utils depmod=kmod modprobe=kmod sha256sum=coreutils
if ((EUID != 0)); then
    need newuidmap=uidmap
    grep -q "^$(id -un):" /etc/subuid || fail "without root, user $(id -un) needs a range in /etc/subuid and /etc/subgid: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
fi
export PATH=$PATH:/usr/sbin:/sbin
one_at_a_time
is_made "$out" "$made" && exit 0
rm -rf "$work"
mkdir "$work"
if [[ $other ]]; then
    step "the $other kernel of $BOOT_SUITE" kernel
    step "its modules" modules
    step "the light root with them" light
    [[ -z ${firmware_package:-} ]] || step "firmware" arm_firmware
    step "taking away what is not needed" finish_other
    exit 0
fi
step "kernel, boot stub, systemd-boot and busybox of $BOOT_SUITE" kernel
step "kernel modules" modules
step "the light root" light
step "firmware and its variables" firmware
step "web server, and bootctl where it can be had" own_tools
# Side by side: each is one program that waits for another.
step "v1: $ROOT_SUITE as published" rootfs v1 1.0.0 $ROOT_SUITE &
step "v2: $ROOT_SUITE with its updates" rootfs v2 2.0.0 $ROOT_SUITE $ROOT_UPDATES
wait $!
step "v3: v2 with a library pruned away" broken_rootfs
step "the upgraded packages" upgrades
step "checksums" finish
