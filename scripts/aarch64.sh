#!/usr/bin/env bash
# Builds both agents for 64-bit ARM devices, static, into target/aarch64/bin: twinseal, twinseal-minimal and
# twinseal-minimal-commands, as scripts/device-programs.sh does for the machine's own processor. Beside them, in
# target/aarch64/emulated, scripts of the same names run them on this machine under qemu-user.
#
#   scripts/aarch64.sh [--quick]     --quick: hardly optimised, to be tried and not to be shipped
#
# rustup's toolchain comes without the library of that processor, so the compiler is that of scripts/nostd-toolchain.sh, which
# builds it from its source. Needs: scripts/deps.sh aarch64. Takes six minutes the first time, with --quick two.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

readonly TARGET=aarch64-unknown-linux-gnu
readonly LINKER=aarch64-linux-gnu-gcc
readonly EMULATOR=qemu-aarch64
out=$workspace/target/aarch64

case ${1:-} in
    "") ;;
    --quick) export CARGO_PROFILE_SHIPPED_LTO=off CARGO_PROFILE_SHIPPED_OPT_LEVEL=1 CARGO_PROFILE_SHIPPED_CODEGEN_UNITS=16 ;;
    *) fail "'$1' is not known. Usage: scripts/aarch64.sh [--quick]" ;;
esac
need $LINKER=gcc-aarch64-linux-gnu $EMULATOR=qemu-user
"$scripts/nostd-toolchain.sh"
. "$cache/nostd/env"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$LINKER CC_aarch64_unknown_linux_gnu=$LINKER

# build NAME PROGRAM PROFILE LIBRARIES FLAGS CARGO-ARGUMENT...
build() {
    local name=$1 program=$2 profile=$3 libraries=$4 flags=$5
    shift 5
    RUSTFLAGS=$flags cargo build --locked --quiet --profile "$profile" --target $TARGET -Zbuild-std="$libraries" \
        --manifest-path "$workspace/Cargo.toml" --target-dir "$out" -p "$program" "$@"
    cp "$out/$TARGET/$profile/$program" "$out/bin/$name"
    printf '#!/bin/sh\nexec %s %q "$@"\n' $EMULATOR "$out/bin/$name" >"$out/emulated/$name"
    chmod +x "$out/emulated/$name"
}

mkdir -p "$out/bin" "$out/emulated"
bare="-C relocation-model=static -C force-unwind-tables=no"
step "twinseal, static" build twinseal twinseal shipped std,panic_abort "-C target-feature=+crt-static"
step "twinseal-minimal, without a C library" build twinseal-minimal twinseal-minimal minimal core "$bare" \
    --no-default-features --features bare,net
step "twinseal-minimal, with its commands" build twinseal-minimal-commands twinseal-minimal minimal core "$bare" \
    --no-default-features --features bare,commands
