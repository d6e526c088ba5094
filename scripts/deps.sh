#!/usr/bin/env bash
# Installs, with apt, the programs that a purpose needs; does nothing when they are all there.
#
#   scripts/deps.sh [demo|board|mcu|test|bench|nostd|aarch64|armv7|reference]...     (default: demo)
#
# Needs: a Debian machine and, only when something is missing, root. Without root it prints what is missing and the
# command to type, and ends with status 2. Takes 0.1 s when all is present, otherwise up to a minute. The Rust toolchain is
# not installed here: rust-toolchain.toml names it and rustup fetches it by itself.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Reads archives, makes and signs the appliance: scripts/appliance.sh and twinseal-bundle.
readonly DEMO="build-essential ca-certificates cpio debian-archive-keyring dosfstools e2fsprogs fdisk fsverity kmod libssl-dev
    mmdebstrap mtools openssl pkg-config sbsigntool tar xz-utils zstd"
# The virtual board: what its disk, its firmware's variables and its attacks need. QEMU itself is below: it must be 10.0 or newer.
readonly BOARD="$DEMO python3-cryptography python3-importlib-resources python3-pefile"
# Tests compare our formats with the programs that own them, and our network with servers of others.
readonly TEST="$DEMO busybox-static dnsmasq-base efibootmgr erofs-utils gdisk grub-common iproute2 libubootenv-tool squashfs-tools systemd tinyproxy-bin"
# Measurements against other update programs.
readonly BENCH="$DEMO bsdiff casync erofs-utils hyperfine rauc squashfs-tools swupdate time xdelta3"
readonly NOSTD="build-essential debian-archive-keyring"
# The microcontroller: what builds its firmware, its keys, and its web server where there is no nginx. QEMU is below.
readonly MCU="$NOSTD binutils busybox-static openssl util-linux"
# Programs for ARM devices, of 64 bits and of 32, and what runs them here. QEMU for their boards is below.
readonly AARCH64="$NOSTD gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
readonly ARMV7="$NOSTD gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user"
readonly REFERENCE="debian-archive-keyring"

wanted=() qemu=
for purpose in "${@:-demo}"; do
    case $purpose in
        demo) wanted+=($DEMO) ;;
        board) wanted+=($BOARD) ; qemu=yes ;;
        mcu) wanted+=($MCU) ; qemu=yes ;;
        test) wanted+=($TEST) ;;
        bench) wanted+=($BENCH) ;;
        nostd) wanted+=($NOSTD) ;;
        aarch64) wanted+=($AARCH64) ;;
        armv7) wanted+=($ARMV7) ;;
        reference) wanted+=($REFERENCE) ;;
        *) fail "'$purpose' is not a purpose; the purposes are demo, board, mcu, test, bench, nostd, aarch64, armv7 and reference." ;;
    esac
done

# dpkg-query ends with status 1 when it knows none of a name; the list it prints is what counts.
missing=($(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | awk '$1 == "installed" { print $2 }' | sort -u)))
# Older ones crash guests now and then when they emulate (two in twenty boots with 7.2, none in more than sixty with 10.0).
qemu_is_good() { qemu-system-x86_64 --version 2>/dev/null | grep -Eq 'version (1[0-9]|[2-9][0-9])\.' && command -v qemu-img >/dev/null && command -v qemu-system-arm >/dev/null; }

# QEMU of this release's backports where the release itself has an older one. The machine's own apt sources stay as they are.
install_qemu() {
    local own config=$cache/apt/board/apt.conf
    own=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [[ $own != bookworm ]] || own="bookworm-backports bookworm bookworm-updates bookworm-security"
    apt_private board $own
    # The machine's own lists of what is installed, and of what was so only because something needs it.
    DEBIAN_FRONTEND=noninteractive apt-get -q -c "$config" -o Dir::State::status=/var/lib/dpkg/status \
        -o Dir::State::extended_states=/var/lib/apt/extended_states \
        install -y --no-install-recommends -t "${own%% *}" qemu-system-arm qemu-system-x86 qemu-utils
    qemu_is_good || { echo "QEMU 10 could not be had from ${own%% *}; this machine has: $(qemu-system-x86_64 --version | head -n 1)"; return 1; }
}

if [[ -n $qemu ]] && ! qemu_is_good; then
    ((EUID == 0)) || fail "the virtual boards need QEMU 10.0 or newer (qemu-system-x86, qemu-system-arm, qemu-utils); on Debian 12 they are in bookworm-backports. Run this script as root, or install them."
    step "install QEMU 10" install_qemu
fi
# scripts/appliance.sh unpacks it, when it can; a test compares our files with what it says of them.
if [[ " $* " == *" test "* && -f $cache/appliance/.made && ! -x $cache/appliance/tools/bootctl ]] && ! command -v bootctl >/dev/null; then
    echo "deps.sh: bootctl is missing, and one test will fail without it. It is in the package systemd-boot-tools (Debian 12: systemd-boot): apt-get download it and put its usr/bin/bootctl into $cache/appliance/tools." >&2
fi
((${#missing[@]} == 0)) && exit 0

((EUID == 0)) || fail "missing: ${missing[*]}
    Install them with: sudo apt-get install --no-install-recommends ${missing[*]}"

install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q install -y --no-install-recommends "${missing[@]}" && return
    # The package lists may be absent or too old to download from.
    apt-get -q update
    apt-get -q install -y --no-install-recommends "${missing[@]}"
}
step "install ${missing[*]}" install
