#!/usr/bin/env bash
# Every check of the project, by name. People and CI call only this.
#
#   ./ci.sh            all checks, in the order of the list below
#   ./ci.sh NAME ...   the checks named
#   ./ci.sh --list     their names
#
# The last line is "N passed, N failed, N skipped": each check counts as one, and so does each test that `test` runs.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/lib.sh
cache="${TWINSEAL_CACHE:-$PWD/.cache}"
export CARGO_TERM_COLOR=never
# Programs of others that are unpacked and not installed: scripts/appliance.sh.
export PATH="$cache/appliance/tools:$PATH"
logs="$cache/ci"
mkdir -p "$logs"
passed=0 failed=0 skipped=0

checks=(fmt clippy no-std build test devices docs deny fuzz-smoke demo board)

check_fmt() { cargo fmt --all --check && (cd fuzz && cargo fmt --check); }

# Per package, so that one package's features cannot hide another's missing ones.
check_clippy() {
  local package
  for package in twinseal-core twinseal-platform-linux twinseal twinseal-minimal twinseal-bundle twinseal-hil; do
    cargo clippy --locked --quiet -p "$package" --all-targets -- -D warnings || return 1
  done
  cargo clippy --locked --quiet -p twinseal-core --features defmt -- -D warnings
}

# A target that has neither std nor alloc: the only proof that core needs neither.
check_no_std() {
  scripts/nostd-toolchain.sh && scripts/nostd-build.sh core --locked && scripts/nostd-build.sh core --locked --features defmt
}

# The programs that tests and the demo run.
check_build() { cargo build --locked --release --quiet -p twinseal -p twinseal-bundle -p twinseal-hil -p twinseal-minimal; }

check_test() {
  local log="$logs/test-results.log" status=0
  cargo test --locked --workspace --no-fail-fast >"$log" 2>&1 || status=1
  grep -E '^test result|^test .* FAILED|panicked at|^error' "$log"
  local counted
  counted=$(awk '/^test result/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log")
  local tests_passed tests_failed tests_skipped
  read -r tests_passed tests_failed tests_skipped <<<"$counted"
  passed=$((passed + tests_passed)) failed=$((failed + tests_failed)) skipped=$((skipped + tests_skipped))
  [ "$tests_passed" -gt 0 ] || { echo "no test ran"; status=1; }
  [ "$status" = 0 ] || tail -n 60 "$log"
  return "$status"
}

# Slots on loop devices: needs root, so a plain `cargo test` leaves these out.
check_devices() {
  [ "$EUID" = 0 ] || { echo "loop devices need root: sudo ./ci.sh devices"; return 77; }
  cargo test --locked --quiet -p twinseal-platform-linux --test devices -- --include-ignored
}

check_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps; }

check_deny() {
  command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny"; return 77; }
  cargo deny --locked check licenses bans sources
}

check_fuzz_smoke() { scripts/fuzz-smoke.sh; }

check_demo() { scripts/deps.sh demo && scripts/appliance.sh && scripts/device-programs.sh && target/release/twinseal-hil demo --board files --out "$cache/ci/demo"; }

# The virtual board: every scenario, and a slice of the power cuts that `make soak` makes more of.
check_board() {
  scripts/deps.sh board && scripts/appliance.sh && scripts/device-programs.sh &&
    target/release/twinseal-hil run scenarios --board uefi --jobs 2 --cuts 5 --out "$cache/ci/board" \
      --junit "$cache/ci/board.xml" --html "$cache/ci/board.html"
}

run() {
  local name="$1" start end status log
  log="$logs/$name.log"
  start=$(date +%s)
  "check_${name//-/_}" >"$log" 2>&1
  status=$?
  end=$(date +%s)
  case "$status" in
    0) passed=$((passed + 1)); printf 'ok      %-12s %4d s\n' "$name" $((end - start)) ;;
    77) skipped=$((skipped + 1)); printf 'skipped %-12s        %s\n' "$name" "$(tail -n 1 "$log")" ;;
    *) failed=$((failed + 1)); printf 'FAILED  %-12s %4d s   %s\n' "$name" $((end - start)) "$log"; tail -n 40 "$log" | sed 's/^/    /' ;;
  esac
}

if [ "${1:-}" = --list ]; then printf '%s\n' "${checks[@]}"; exit 0; fi
names=("$@")
[ ${#names[@]} -gt 0 ] || names=("${checks[@]}")
for name in "${names[@]}"; do
  printf '%s\n' "${checks[@]}" | grep -qx -- "$name" || { echo "ci.sh: there is no check named $name; ./ci.sh --list names them" >&2; exit 2; }
  run "$name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
