#!/usr/bin/env bash
# Proves that a crate needs no operating system, no libc and no heap: builds it for a microcontroller, with a library that
# has `core` and nothing else, so that any use of `std` or `alloc`, its own or a dependency's, fails to compile.
#
#   scripts/nostd-build.sh CRATE_FOLDER [CARGO_ARGUMENT]...      e.g. core --release --features defmt
#
# Makes: .cache/nostd/target. Needs: what scripts/nostd-toolchain.sh needs, which is run if its result is not there.
# Takes half a minute the first time (it compiles `core`), seconds after.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

readonly TARGET=thumbv7em-none-eabihf

(($# > 0)) || fail "name the folder of the crate to build, for example: scripts/nostd-build.sh core"
[[ -f $1/Cargo.toml ]] || fail "'$1' is not the folder of a crate: it has no Cargo.toml."
crate=$(cd "$1" && pwd)
shift

"$scripts/nostd-toolchain.sh"
. "$cache/nostd/env"
cd "$crate"
exec cargo build -Zbuild-std=core --target "$TARGET" "$@"
