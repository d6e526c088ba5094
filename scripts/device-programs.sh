#!/usr/bin/env bash
# Builds the programs that run on a device, static, into target/device/bin: twinseal and twinseal-minimal. A sealed root
# then needs no library of the machine that built them, and the initramfs needs nothing but its /init.
#
# usage: scripts/device-programs.sh [PROGRAM]   one of twinseal, twinseal-minimal, twinseal-minimal-commands, twinseal-minimal-fetch; or "small": the last three
#
# twinseal-minimal-commands is twinseal-minimal with the commands of a running system, and without the network of a recovery;
# twinseal-minimal-fetch is the same with the kernel's network: it installs from an address too.
#
# Takes a minute and a half the first time. Needs the Rust toolchain and a C compiler.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/small-options.sh"
host=$(rustc -vV | sed -n 's/^host: //p')

# build NAME PROGRAM PROFILE FLAGS CARGO-ARGUMENT...
build() {
    local name=$1 program=$2 profile=$3 flags=$4
    shift 4
    mkdir -p "$workspace/target/device"
    # Several programs come out under one name, and tests build side by side.
    exec 9>"$workspace/target/device/lock"
    flock 9
    RUSTFLAGS=$flags cargo build --locked --quiet --profile "$profile" --target "$host" \
        --manifest-path "$workspace/Cargo.toml" --target-dir "$workspace/target/device" -p "$program" "$@"
    mkdir -p "$workspace/target/device/bin"
    local new=$workspace/target/device/$host/$profile/$program
    # An unchanged program keeps its time, so that nothing is made anew for it.
    cmp -s "$new" "$workspace/target/device/bin/$name" || cp "$new" "$workspace/target/device/bin/$name"
    exec 9>&-
}

# One cargo run for each: together, the features that one asks of a library would be in the other too.
only=${1:-}
if [[ -z $only || $only == twinseal ]]; then
    step "twinseal, static" build twinseal twinseal shipped "-C target-feature=+crt-static"
fi
bare=$(small_options x86_64)
export RUSTC_BOOTSTRAP=1
if [[ -z $only || $only == small || $only == twinseal-minimal ]]; then
    step "twinseal-minimal, without a C library" build twinseal-minimal twinseal-minimal minimal "$bare" \
        --no-default-features --features bare,net
fi
if [[ -z $only || $only == small || $only == twinseal-minimal-commands ]]; then
    step "twinseal-minimal, with its commands" build twinseal-minimal-commands twinseal-minimal minimal "$bare" \
        --no-default-features --features bare,commands
fi
if [[ -z $only || $only == small || $only == twinseal-minimal-fetch ]]; then
    step "twinseal-minimal, with its commands and a network" build twinseal-minimal-fetch twinseal-minimal minimal "$bare" \
        --no-default-features --features bare,fetch
fi
