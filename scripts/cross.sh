#!/usr/bin/env bash
# Builds both agents for ARM devices, static, into target/ARCHITECTURE/bin: twinseal, and twinseal-minimal, twinseal-minimal-commands and
# twinseal-minimal-fetch, as scripts/device-programs.sh does for the machine's own processor. Beside them, in
# target/ARCHITECTURE/emulated, scripts of the same names run them on this machine under qemu-user.
#
#   scripts/cross.sh aarch64|armv7 [--quick]     --quick: twinseal hardly optimised, to be tried and not to be shipped
#
# aarch64 is 64-bit ARM; armv7 is 32-bit ARM with Thumb-2 and NEON, as in a Cortex-A7 or newer (and most Cortex-A8 and A9).
#
# rustup's toolchain comes without the library of that processor, so the compiler is that of scripts/nostd-toolchain.sh, which
# builds it from its source. Needs: scripts/deps.sh with the architecture. Takes six minutes the first time, with --quick two.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$scripts/small-options.sh"

readonly USAGE="Usage: scripts/cross.sh aarch64|armv7 [--quick]"
architecture=${1:-}
case $architecture in
    aarch64) target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu emulator=qemu-aarch64 packages=gcc-aarch64-linux-gnu ;;
    armv7) target=thumbv7neon-unknown-linux-gnueabihf tools=arm-linux-gnueabihf emulator=qemu-arm packages=gcc-arm-linux-gnueabihf ;;
    *) fail "'$architecture' is not an architecture that is known. $USAGE" ;;
esac
case ${2:-} in
    "") quick= ;;
    --quick) quick=yes ;;
    *) fail "'$2' is not known. $USAGE" ;;
esac
linker=$tools-gcc
need "$linker=$packages" $emulator=qemu-user
"$scripts/nostd-toolchain.sh"
# Of rustup's toolchain, before the other one takes its place.
lld=$(cd "$workspace" && rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld
. "$cache/nostd/env"
# The small ones are what is shipped in any case: they are built as fast.
if [[ $quick ]]; then
    export CARGO_PROFILE_SHIPPED_LTO=off CARGO_PROFILE_SHIPPED_OPT_LEVEL=1 CARGO_PROFILE_SHIPPED_CODEGEN_UNITS=16
    export CARGO_PROFILE_MINIMAL_LTO=fat CARGO_PROFILE_MINIMAL_CODEGEN_UNITS=1
fi
# With symbols, which say where in the code data stand; they are taken out below.
export CARGO_PROFILE_MINIMAL_STRIP=false
name=${target//-/_}
export "CARGO_TARGET_${name^^}_LINKER=$linker" "CC_$name=$linker"
out=$workspace/target/$architecture

# check_instructions FILE: fails where the compiler made what the architecture does not define: a load or store of several registers,
# in its long form, that names one (decision 0051). What a processor does then is anyone's guess.
check_instructions() {
    local found listing=$out/instructions
    $tools-objdump -d --no-show-raw-insn "$1" >"$listing"
    # Counting down there is a long form alone.
    found=$(grep -E -m 3 '\s(ldm|stm)(\S*\.w|db\S*)\s\S+, \{[^,-]+\}' "$listing" || true)
    [[ -z $found ]] || fail "the code for $architecture has an instruction that is not defined, as in '$found'. Compiler options: scripts/small-options.sh"
}

# build NAME PROGRAM PROFILE LIBRARIES FLAGS CARGO-ARGUMENT...
build() {
    local name=$1 program=$2 profile=$3 libraries=$4 flags=$5
    shift 5
    RUSTFLAGS=$flags cargo build --locked --quiet --profile "$profile" --target $target -Zbuild-std="$libraries" \
        --manifest-path "$workspace/Cargo.toml" --target-dir "$out" -p "$program" "$@"
    [[ $architecture-$profile != armv7-minimal ]] || check_instructions "$out/$target/$profile/$program"
    $tools-strip -o "$out/bin/$name" "$out/$target/$profile/$program"
    printf '#!/bin/sh\nexec %s %q "$@"\n' $emulator "$out/bin/$name" >"$out/emulated/$name"
    chmod +x "$out/emulated/$name"
}

mkdir -p "$out/bin" "$out/emulated"
step "twinseal, static" build twinseal twinseal shipped std,panic_abort "-C target-feature=+crt-static"
small="$(small_options "$architecture") -C link-arg=-B$lld -C link-arg=-fuse-ld=lld"
step "twinseal-minimal, without a C library" build twinseal-minimal twinseal-minimal minimal core "$small" \
    --no-default-features --features bare,net
step "twinseal-minimal, with its commands" build twinseal-minimal-commands twinseal-minimal minimal core "$small" \
    --no-default-features --features bare,commands
step "twinseal-minimal, with its commands and a network" build twinseal-minimal-fetch twinseal-minimal minimal core "$small" \
    --no-default-features --features bare,fetch
