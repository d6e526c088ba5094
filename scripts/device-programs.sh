#!/usr/bin/env bash
# Builds the programs that run on a device, static, into target/device/bin: twinseal and twinseal-minimal. A sealed root
# then needs no library of the machine that built them, and the initramfs needs nothing but its /init.
#
# usage: scripts/device-programs.sh [twinseal | twinseal-minimal]   one of them
#
# Takes a minute and a half the first time. Needs the Rust toolchain and a C compiler.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
host=$(rustc -vV | sed -n 's/^host: //p')

# build NAME PROFILE FLAGS CARGO-ARGUMENT...
build() {
    local name=$1 profile=$2 flags=$3
    shift 3
    RUSTFLAGS=$flags cargo build --locked --quiet --profile "$profile" --target "$host" \
        --manifest-path "$workspace/Cargo.toml" --target-dir "$workspace/target/device" -p "$name" "$@"
    mkdir -p "$workspace/target/device/bin"
    local new=$workspace/target/device/$host/$profile/$name
    # An unchanged program keeps its time, so that nothing is made anew for it.
    cmp -s "$new" "$workspace/target/device/bin/$name" || cp "$new" "$workspace/target/device/bin/"
}

# One cargo run for each: together, the features that one asks of a library would be in the other too.
only=${1:-}
if [[ -z $only || $only == twinseal ]]; then
    step "twinseal, static" build twinseal release "-C target-feature=+crt-static"
fi
if [[ -z $only || $only == twinseal-minimal ]]; then
    # It stands at a fixed address, and nothing in it is ever unwound.
    step "twinseal-minimal, without a C library" build twinseal-minimal minimal \
        "-C relocation-model=static -C force-unwind-tables=no" --no-default-features --features bare,net
fi
