#!/usr/bin/env bash
# Builds the firmware of the microcontroller (hil/firmware) into target/mcu/bin: boot, app, factory, and size, which is core's
# verify path and nothing else. Compares what that takes with its budget (size-budget.toml).
#
# usage: scripts/mcu.sh [memory]     memory: also runs size in QEMU, which says how much stack and RAM it took
#
# Needs: scripts/deps.sh nostd (for memory also: mcu). Takes two minutes the first time.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need size=binutils

readonly PROGRAMS="boot app factory size"
readonly BUDGET=core-verify-path
bin=$workspace/target/mcu/bin

build() {
    local name built
    # The level of the logs is compiled in.
    DEFMT_LOG=info "$scripts/nostd-build.sh" "$workspace/hil/firmware" --locked --release --bins
    built=$(. "$cache/nostd/env" && echo "$CARGO_TARGET_DIR/thumbv7em-none-eabihf/release")
    mkdir -p "$bin"
    for name in $PROGRAMS; do
        cmp -s "$built/$name" "$bin/$name" || cp "$built/$name" "$bin/"
    done
}

# Code and constants of the whole program, with its start-up; the bundle that it verifies lies in a section of its own.
code_bytes() { size -A "$bin/size" | awk '$1 == ".text" || $1 == ".rodata" || $1 == ".data" { bytes += $2 } END { print bytes + 0 }'; }

"$scripts/nostd-toolchain.sh"
step "firmware for a Cortex-M4" build
budget=$(sed -nE "s/^$BUDGET = ([0-9]+)$/\1/p" "$workspace/size-budget.toml")
[[ -n $budget ]] || fail "size-budget.toml has no line '$BUDGET = BYTES'."
bytes=$(code_bytes)
((bytes > 0)) || fail "size says nothing of $bin/size."
echo "$BUDGET: $bytes bytes of $budget on a Cortex-M4"
((bytes <= budget)) || fail "$BUDGET is larger than its budget; see size-budget.toml."
[[ ${1:-} == memory ]] || exit 0
need qemu-system-arm=qemu-system-arm
echo "$BUDGET: $(qemu-system-arm -M mps2-an386 -display none -monitor none -serial none -semihosting-config enable=on,target=native \
    -kernel "$bin/size" 2>&1)"
