#!/usr/bin/env bash
# Makes a compiler that can build the standard library's `core` for a processor that has no operating system, and with it
# the proof that our core needs neither `std` nor `alloc`:
#
#   .cache/nostd/bin/rustc   .cache/nostd/env
#
# rustup's toolchain comes without the library's source, so this takes the compiler and the source from the machine's own
# Debian security archive, unpacked, not installed: they must be of exactly the same version. cargo remains rustup's.
# `. .cache/nostd/env` sets what cargo needs; scripts/nostd-build.sh does so.
# Needs: scripts/deps.sh nostd, a Debian 12 amd64 machine, rustup's cargo; no root; 1 GB in .cache. Takes a minute the first time.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

readonly SUITES="bookworm bookworm-updates bookworm-security"
readonly COMPILER=rustc-web
readonly SOURCE=rust-web-src
readonly LIBRARY=libstd-rust-web-dev

out=$cache/nostd
work=$cache/nostd.new

packages() {
    local apt=$cache/apt/nostd/apt.conf libraries
    apt_private nostd $SUITES
    # What the compiler loads beyond the C library: its driver and LLVM, whose package names carry their versions.
    libraries=$(apt-cache -c "$apt" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances $LIBRARY | grep -E '^[a-z]' | sort -u | grep -vxE 'libc6|gcc-[0-9]+-base')
    unpack nostd "$work/root" $COMPILER $SOURCE $libraries
}

# The wrapper gives only the compiler its unpacked libraries.
wrapper() {
    mkdir -p "$work/bin"
    cat >"$work/bin/rustc" <<'WRAPPER'
#!/bin/sh
root=$(dirname "$(dirname "$(readlink -f "$0")")")/root/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} exec "$root/bin/rustc" "$@"
WRAPPER
    chmod +x "$work/bin/rustc"
    "$work/bin/rustc" --version
    [[ -f $work/root/usr/lib/rustlib/src/rust/library/core/src/lib.rs ]]
}

# The target's programs are linked with rustup's rust-lld: Debian's compiler comes without one.
environment() {
    local lld
    lld=$(cd "$workspace" && rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
    [[ -x $lld ]] || { echo "The Rust toolchain here has no rust-lld; install the toolchain of rust-toolchain.toml with rustup."; return 1; }
    cat >"$work/env" <<ENV
export RUSTC='$out/bin/rustc'
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR='$out/target'
export CARGO_TARGET_THUMBV7EM_NONE_EABIHF_LINKER='$lld'
ENV
}

finish() {
    mark_made "$work" "$made"
    rm -rf "$out"
    mv "$work" "$out"
}

made=$(recipe)
is_made "$out" "$made" && exit 0
need dpkg-deb=dpkg cc=build-essential
command -v cargo rustc >/dev/null || fail "cargo is missing. Install rustup, then run this again."
one_at_a_time
is_made "$out" "$made" && exit 0
rm -rf "$work"
mkdir "$work"
step "compiler and library source" packages
step "the compiler runs" wrapper
step "environment for cargo" environment
finish
