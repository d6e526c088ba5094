#!/usr/bin/env bash
# Compares a small static agent with what it promises: its size (size-budget.toml, by the program's name), one file without an
# interpreter, and no symbol of a C library.
#
# usage: scripts/footprint.sh [PROGRAM [ENDING]]     default: target/device/bin/twinseal-minimal; also twinseal-minimal-commands and
#     -fetch there. ENDING is that of the budget's line: `-armv7` for the programs in target/armv7/bin
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need readelf=binutils
program=${1:-$workspace/target/device/bin/twinseal-minimal}
name=$(basename "$program")${2:-}
budget=$(sed -nE "s/^$name = ([0-9]+)$/\1/p" "$workspace/size-budget.toml")
[[ -n $budget ]] || fail "size-budget.toml has no line '$name = BYTES'."
bytes=$(stat -c %s "$program")
echo "$name: $bytes bytes of $budget"
((bytes <= budget)) || fail "$name is larger than its budget; see size-budget.toml."
if readelf --program-headers --wide "$program" | grep -qE 'INTERP|DYNAMIC'; then
    fail "$name is not static: it has an interpreter or a dynamic section."
fi
undefined=$(readelf --syms --wide "$program" | awk '$7 == "UND" && $8 != ""')
[[ -z $undefined ]] || fail "$name wants symbols of others: $undefined"
echo "$name: static, no interpreter, no symbol of a library"
