#!/usr/bin/env bash
# Measures the bytes of an update on the wire, beside other ways to move the same appliance, on real pairs of Debian appliances.
#
#   scripts/bench-bytes.sh [--results FILE] [--plot FILE] [point] [months] [major]     (default: all three)
#
# A pair is two roots of the same packages, each with its kernel and all modules, made by apt from what the archive has today.
# The archive keeps no old states, so the older side of a pair is what it still has of an older day:
#   point    trixie as published, but each package that trixie-security has in an older version is in that version: what the
#            security archive last brought before the point release took it over. After: trixie with its security and stable updates.
#   months   bookworm as published, which is its last point release. After: bookworm with its security and stable updates of today.
#   major    bookworm with its updates. After: trixie with its updates.
# The versions and dates that this gave are in the results.
#
# Prints a table and keeps it in .cache/bench-bytes/results.md, beside a plot, results.svg, and results.json. The pairs are made
# once; `rm -r .cache/bench-bytes` makes them anew. Needs: scripts/deps.sh bench, what scripts/appliance.sh makes (nginx), the
# programs twinseal, twinseal-bundle and twinseal-hil in target/shipped (or $TWINSEAL_PROGRAMS), the static twinseal-minimal of
# scripts/device-programs.sh (or $TWINSEAL_DEVICE_PROGRAMS), root, and 4 GB in .cache for each pair.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# A gateway: the demo's packages, and what such a machine has besides.
readonly ROOT_PACKAGES=systemd-sysv,dbus,udev,kmod,iproute2,curl,openssl,ca-certificates,python3,openssh-server,nginx-light,chrony,nftables,git,jq
readonly KERNEL_PACKAGE=linux-image-cloud-amd64
# What the initramfs loads, as in scripts/appliance.sh, as far as a kernel has it.
readonly INITRD_MODULES="virtio_blk i6300esb efivarfs erofs overlay"
# No file in a root is younger than this (2026-06-01).
export SOURCE_DATE_EPOCH=1780272000

bench=$cache/bench-bytes
programs=${TWINSEAL_PROGRAMS:-$workspace/target/shipped}
device_programs=${TWINSEAL_DEVICE_PROGRAMS:-$workspace/target/device/bin}

# suites SIDE: the suites of a side, the ones that hold newer versions last.
suites() {
    case $1 in
        point-old) echo trixie trixie-security ;;
        point-new | major-new) echo trixie trixie-updates trixie-security ;;
        months-old) echo bookworm ;;
        months-new | major-old) echo bookworm bookworm-updates bookworm-security ;;
    esac
}

# older SIDE: the suite whose packages are taken although others are newer, or nothing.
older() { [[ $1 != point-old ]] || echo trixie-security; }

# pins SIDE: apt's preferences of a side.
pins() {
    local suite
    suite=$(older "$1")
    [[ -z $suite ]] || printf 'Package: *\nPin: release n=%s\nPin-Priority: 1001\n' "$suite"
}

# kernel SIDE FOLDER: kernel, boot stub and modules, the modules laid out as in a root.
kernel() {
    local side=$1 folder=$2 unpacked=$2/kernel version package path name
    apt_private "bytes-$side" $(suites "$side")
    package=$(apt-cache -c "$cache/apt/bytes-$side/apt.conf" depends $KERNEL_PACKAGE | awk '$1 == "Depends:" { print $2; exit }')
    unpack "bytes-$side" "$unpacked" "$package"
    # Not the release's own: bookworm's stub cannot be made a UKI of ours (its sections do not keep to their alignment).
    apt_private bytes-stub trixie trixie-security
    unpack bytes-stub "$unpacked" systemd-boot-efi
    version=$(basename "$unpacked"/boot/vmlinuz-*)
    version=${version#vmlinuz-}
    echo "$version" >"$folder/kernel-version"
    cp "$unpacked/boot/vmlinuz-$version" "$folder/vmlinuz"
    cp "$unpacked/usr/lib/systemd/boot/efi/linuxx64.efi.stub" "$folder/"
    mkdir -p "$folder/root-modules/usr/lib" "$folder/modules"
    for path in "$unpacked/usr/lib/modules" "$unpacked/lib/modules"; do
        [[ ! -d $path ]] || mv "$path" "$folder/root-modules/usr/lib/"
    done
    # As the demo's appliance has them: decompressed, signatures kept, so that compression is the transport's business alone.
    find "$folder/root-modules" -name '*.ko.xz' -exec xz -d {} +
    ln -s usr/lib "$folder/root-modules/lib"
    depmod -b "$folder/root-modules" "$version"
    for name in $INITRD_MODULES; do
        # Bookworm's has no i6300esb.
        [[ -z $(find "$folder/root-modules" -name "$name.ko") ]] || modprobe -d "$folder/root-modules" -S "$version" --show-depends "$name"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
        name=$(basename "$path" .ko)
        cp "$path" "$folder/modules/$name.ko"
        echo "$name" >>"$folder/modules/order"
    done
    rm -r "$unpacked" "$folder/root-modules/lib"
}

# root SIDE FOLDER RELEASE: the root as a tar, and what is in it.
root() {
    local side=$1 folder=$2 release=$3 first
    first=$(suites "$side")
    apt_sources $(suites "$side") >"$folder/sources.list"
    pins "$side" >"$folder/pins"
    # The way of this machine's apt to its archive (a proxy, for one) is also mmdebstrap's.
    apt-config dump | grep -E '^Acquire::(http|https|ftp|Check|Retries|ForceIPv)' >"$folder/apt-options" || true
    mmdebstrap --quiet --variant=minbase --include="$ROOT_PACKAGES" --skip=cleanup/apt \
        --aptopt="$folder/apt-options" --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --setup-hook='mkdir -p "$1/etc/apt/preferences.d"' --setup-hook="cp '$folder/pins' \"\$1/etc/apt/preferences.d/pins\"" \
        --customize-hook='rm "$1/etc/apt/preferences.d/pins"' \
        --customize-hook="'$scripts/appliance/customize' \"\$1\" $release '$folder/root-modules' '$scripts/appliance'" \
        "${first%% *}" "$folder/whole.tar" "$folder/sources.list"
    # Device nodes are the kernel's business; the folder stays.
    without "$folder/whole.tar" "$folder/rootfs.tar" '/dev/*'
    rm "$folder/whole.tar"
    mkdir "$folder/dpkg"
    tar -xOf "$folder/rootfs.tar" ./var/lib/dpkg/status >"$folder/dpkg/status"
    tar -xOf "$folder/rootfs.tar" ./usr/lib/os-release >"$folder/os-release"
    dpkg-query --admindir="$folder/dpkg" -W -f '${Package} ${Version}\n' | sort >"$folder/packages.txt"
    for first in "$cache/apt/bytes-$side/lists/"*InRelease; do
        awk '/^(Suite|Version|Codename|Date):/ { sub(/^[^:]*: /, ""); printf "%s%s", sep, $0; sep = "; " } END { print "" }' "$first"
    done >"$folder/suites.txt"
    rm -r "$folder"/{dpkg,sources.list,pins,apt-options,root-modules}
}

# side NAME: makes one side, once.
side() {
    local name=$1 release=1.0.0 new=$bench/$1.new made
    [[ $name == *-old ]] || release=2.0.0
    made=$({ declare -f suites older pins kernel root; declare -p ROOT_PACKAGES KERNEL_PACKAGE INITRD_MODULES SOURCE_DATE_EPOCH
        cat "$scripts/lib.sh" "$scripts/appliance/customize"; } | sha256sum | cut -d' ' -f1)
    is_made "$bench/$name" "$made" && return
    rm -rf "$new"
    mkdir -p "$new"
    step "$name: kernel and modules" kernel "$name" "$new"
    step "$name: the root" root "$name" "$new" "$release"
    mark_made "$new" "$made"
    rm -rf "${bench:?}/$name"
    mv "$new" "$bench/$name"
}

usage() { fail "$1 Usage: scripts/bench-bytes.sh [--results FILE] [--plot FILE] [point] [months] [major]"; }

results=$bench/results.md
plot=$bench/results.svg
pairs=()
while (($#)); do
    case $1 in
        --results) results=${2:?} && shift ;;
        --plot) plot=${2:?} && shift ;;
        point | months | major) pairs+=("$1") ;;
        *) usage "'$1' is not known." ;;
    esac
    shift
done
((${#pairs[@]})) || pairs=(point months major)

need mmdebstrap=mmdebstrap xz=xz-utils depmod=kmod modprobe=kmod python3=python3 zstd=zstd xdelta3=xdelta3 bsdiff=bsdiff \
    casync=casync mkfs.erofs=erofs-utils openssl=openssl
((EUID == 0)) || fail "roots keep their owners, which needs root: sudo scripts/bench-bytes.sh"
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$bench"
exec 8>"$bench/lock"
flock -n 8 || fail "another measurement is running in $bench. Wait for it."
for pair in "${pairs[@]}"; do
    side "$pair-old"
    side "$pair-new"
done
for program in twinseal twinseal-bundle twinseal-hil; do
    [[ -x $programs/$program ]] ||
        fail "$programs/$program is missing. Build it with: cargo build --locked --profile shipped -p twinseal -p twinseal-bundle -p twinseal-hil"
done
init=$device_programs/twinseal-minimal nginx=$cache/appliance/tools/nginx
[[ -x $init ]] || fail "$init is missing. Build it with: scripts/device-programs.sh"
[[ -x $nginx ]] || fail "$nginx is missing. Make it with: scripts/appliance.sh"
work=$bench/work
trap 'rm -rf --one-file-system "$work"' EXIT
rm -rf "$work"
mkdir "$work"
python3 -B "$scripts/bench/bytes.py" --pairs "$bench" --programs "$programs" --init "$(realpath "$init")" --nginx "$nginx" \
    --work "$work" --results "$results" --plot "$plot" "${pairs[@]}"
