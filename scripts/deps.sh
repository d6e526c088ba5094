#!/usr/bin/env bash
# Installs, with apt, the programs that a purpose needs; does nothing when they are all there.
#
#   scripts/deps.sh [demo|test|bench|nostd|reference]...     (default: demo)
#
# Needs: a Debian machine and, only when something is missing, root. Without root it prints what is missing and the
# command to type, and ends with status 2. Takes 0.1 s when all is present, otherwise up to a minute. The Rust toolchain is
# not installed here: rust-toolchain.toml names it and rustup fetches it by itself.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Reads archives, makes and signs the appliance: scripts/appliance.sh and twinseal-bundle.
readonly DEMO="build-essential ca-certificates cpio debian-archive-keyring dosfstools e2fsprogs fdisk fsverity kmod libssl-dev
    mmdebstrap mtools openssl pkg-config sbsigntool tar xz-utils zstd"
# Tests compare our formats with the programs that own them.
readonly TEST="$DEMO busybox-static efibootmgr erofs-utils grub-common libubootenv-tool squashfs-tools"
# Measurements against other update programs.
readonly BENCH="$DEMO casync hyperfine rauc squashfs-tools swupdate time"
readonly NOSTD="build-essential debian-archive-keyring"
readonly REFERENCE="debian-archive-keyring"

wanted=()
for purpose in "${@:-demo}"; do
    case $purpose in
        demo) wanted+=($DEMO) ;;
        test) wanted+=($TEST) ;;
        bench) wanted+=($BENCH) ;;
        nostd) wanted+=($NOSTD) ;;
        reference) wanted+=($REFERENCE) ;;
        *) fail "'$purpose' is not a purpose; the purposes are demo, test, bench, nostd and reference." ;;
    esac
done

# dpkg-query ends with status 1 when it knows none of a name; the list it prints is what counts.
missing=($(comm -23 <(printf '%s\n' "${wanted[@]}" | sort -u) \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null | awk '$1 == "installed" { print $2 }' | sort -u)))
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
