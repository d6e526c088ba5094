#!/usr/bin/env bash
# Builds the programs that run on a device, static, into target/device/bin: twinseal and twinseal-minimal. A sealed root
# then needs no library of the machine that built them, and the initramfs needs nothing but its /init.
#
# Takes a minute and a half the first time. Needs the Rust toolchain and a C compiler.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
host=$(rustc -vV | sed -n 's/^host: //p')
build() {
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --quiet --target "$host" \
        --manifest-path "$workspace/Cargo.toml" --target-dir "$workspace/target/device" -p twinseal -p twinseal-minimal
    mkdir -p "$workspace/target/device/bin"
    local name new
    for name in twinseal twinseal-minimal; do
        new=$workspace/target/device/$host/release/$name
        # An unchanged program keeps its time, so that nothing is made anew for it.
        cmp -s "$new" "$workspace/target/device/bin/$name" || cp "$new" "$workspace/target/device/bin/"
    done
}
step "twinseal and twinseal-minimal, static" build
