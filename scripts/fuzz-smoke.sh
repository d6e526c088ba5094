#!/usr/bin/env bash
# A short run of every fuzz target: finds what a change has just broken, not what takes days.
#
#   scripts/fuzz-smoke.sh [SECONDS_PER_TARGET]      20 when not given
#
# Makes: .cache/fuzz (target folder and corpora); The fuzzer is libFuzzer, on the stable compiler:
# core has no unsafe code, so coverage is needed and a sanitizer is not.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

seconds=${1:-20}
target=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="$cache/fuzz/target"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"

cd "$workspace/fuzz"
cargo build --locked --release --quiet --target "$target"
smoke() {
    local name=$1 corpus log runs
    corpus="$cache/fuzz/corpus/$name"
    mkdir -p "$corpus" "$cache/fuzz/found"
    log="$cache/fuzz/$name.log"
    if ! "$CARGO_TARGET_DIR/$target/release/$name" -max_total_time="$seconds" -artifact_prefix="$cache/fuzz/found/$name-" \
        -print_final_stats=1 "$corpus" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        fail "the fuzz target $name found a failure; the input is in $cache/fuzz/found and the log in $log."
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    ((runs > 1000)) || fail "the fuzz target $name made only $runs runs in $seconds s; something is wrong with it."
    echo "fuzz $name: $runs runs, nothing found"
}

# Side by side: each target runs on one core.
(smoke parsers && smoke decoders) &
smoke install
wait $!
