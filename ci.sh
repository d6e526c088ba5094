#!/usr/bin/env bash
# Every check of the project, by name. People and CI call only this.
#
#   ./ci.sh            all checks
#   ./ci.sh NAME ...   the checks named
#   ./ci.sh --list     their names
#
# The last line is "N passed, N failed, N skipped": each check counts as one, and so does each test and each scenario that it runs.
# A test that `test` leaves out counts as skipped until another check runs it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/lib.sh
cache="${TWINSEAL_CACHE:-$PWD/.cache}"
export CARGO_TERM_COLOR=never
# Programs of others that are unpacked and not installed: scripts/appliance.sh.
export PATH="$cache/appliance/tools:$PATH"
logs="$cache/ci"
mkdir -p "$logs"
passed=0 failed=0 skipped=0 left_out=0

checks=(fmt clippy no-std build test devices docs deny fuzz-smoke demo aarch64 armv7 mcu board)
# Of these, what builds in folders of its own. All checks together run them beside the others: much of either waits, for a medium,
# a clock, or the one thread of a linker.
beside=(fuzz-smoke no-std aarch64 armv7)
# What keeps the whole machine busy, last and alone.
alone=board

check_fmt() { cargo fmt --all --check && (cd fuzz && cargo fmt --check) && (cd hil/firmware && cargo fmt --check); }

# All at once, so that every dependency is checked once. That no package leans on another's features is shown by the builds
# of single packages: core for a target without std, and each device program alone.
check_clippy() {
  cargo clippy --locked --quiet --workspace --all-targets -- -D warnings || return 1
  cargo clippy --locked --quiet -p twinseal-core --features defmt -- -D warnings || return 1
  cargo clippy --locked --quiet --profile minimal -p twinseal-minimal --features bare -- -D warnings
}

# A target that has neither std nor alloc: the only proof that core needs neither.
check_no_std() {
  scripts/nostd-toolchain.sh && scripts/nostd-build.sh core --locked && scripts/nostd-build.sh core --locked --features defmt &&
    scripts/mcu.sh
}

# Programs of the host, as tests are built: optimising them as whole programs takes longer than all that they do here.
programs=target/debug
host_programs() { cargo test --locked --quiet --workspace --no-run; }

# The programs that tests and the demo run: those of a device as they are shipped, side by side with all others, since the
# last step of each is one thread's.
check_build() {
  local device
  scripts/device-programs.sh &
  device=$!
  host_programs || { wait $device; return 1; }
  wait $device || return 1
  local program
  for program in twinseal-minimal twinseal-minimal-commands twinseal-minimal-fetch; do
    scripts/footprint.sh "target/device/bin/$program" || return 1
  done
}

check_test() {
  local log="$logs/test-results.log" status=0
  # It brings bootctl.
  scripts/appliance.sh || echo "without the appliance, a test that compares with bootctl fails"
  cargo test --locked --workspace --no-fail-fast >"$log" 2>&1 || status=1
  grep -E '^test result' "$log"
  count_tests "$log"
  skipped=$((skipped + tests_left_out)) left_out=$tests_left_out
  [ "$tests_passed" -gt 0 ] || { echo "no test ran"; status=1; }
  # Last, because the end of this is what a failed run prints: which tests failed, and what they said.
  [ "$status" = 0 ] || grep -E -A 4 '^test .* FAILED|panicked at|^error' "$log" | tail -n 40
  return "$status"
}

# count_tests LOG: adds what cargo said of its tests to the totals.
count_tests() {
  local counted tests_failed
  counted=$(awk '/^test result/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$1")
  read -r tests_passed tests_failed tests_left_out <<<"$counted"
  passed=$((passed + tests_passed)) failed=$((failed + tests_failed))
}

# left_out_tests FILE...: runs the tests in these files that `test` leaves out; they do not count as skipped any more. In the
# whole workspace, as `test` does: for a single package, its dependencies would be built again with fewer features.
left_out_tests() {
  local log="$logs/left-out.log" status=0 ran file names=()
  for file in "$@"; do names+=(--test "$(basename "$file" .rs)"); done
  cargo test --locked --workspace "${names[@]}" -- --ignored ${not_here:+--skip "$not_here"} >"$log" 2>&1 || status=1
  cat "$log"
  count_tests "$log"
  ran=$((tests_passed < left_out ? tests_passed : left_out))
  skipped=$((skipped - ran)) left_out=$((left_out - ran))
  return "$status"
}

# Slots on loop devices, fs-verity and what of the agent needs root: a plain `cargo test` leaves these out.
check_devices() {
  [ "$EUID" = 0 ] || { echo "loop devices need root: sudo ./ci.sh devices"; return 77; }
  # One after the other: the search for media looks at every device, those of other tests too, which are busy meanwhile.
  RUST_TEST_THREADS=1 left_out_tests platform-linux/tests/devices.rs || return 1
  [ "$tests_passed" -gt 0 ] || { echo "no test of loop devices ran"; return 1; }
  local agent
  mapfile -t agent < <(grep -l '#\[ignore' agent-linux/tests/*.rs)
  if [ -e /sys/fs/ext4/features/verity ]; then
    left_out_tests "${agent[@]}" && verity_test
  else
    not_here=refused_by_the_kernel left_out_tests "${agent[@]}" || return 1
    echo "this kernel has no fs-verity, so its test does not run here; the virtual board's kernel has it: ./ci.sh board"
  fi
}

verity_test() {
  local image="$logs/verity.img" folder="$logs/verity" status=0
  mkdir -p "$folder"
  truncate -s 64M "$image" && mkfs.ext4 -q -F -b 4096 -O verity "$image" && mount -o loop "$image" "$folder" || return 1
  TWINSEAL_VERITY_DIRECTORY="$folder" left_out_tests platform-linux/tests/verity.rs || status=1
  umount "$folder" && rm "$image"
  [ "$tests_passed" -gt 0 ] || { echo "no test of fs-verity ran"; status=1; }
  return "$status"
}

check_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps; }

check_deny() {
  command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: cargo install --locked cargo-deny"; return 77; }
  cargo deny --locked check licenses bans sources
}

check_fuzz_smoke() { scripts/fuzz-smoke.sh; }

check_demo() { scripts/deps.sh demo && scripts/appliance.sh && host_programs && scripts/device-programs.sh && $programs/twinseal-hil demo --board files --out "$cache/ci/demo"; }

# Both agents for a 64-bit ARM device, under emulation: the whole life of an appliance, and each fifth bundle of the conformance kit.
check_aarch64() {
  local status=0
  scripts/deps.sh demo board aarch64 && on_arm aarch64 || status=1
  $programs/twinseal-hil demo --board files --device-programs target/aarch64/emulated --out "$cache/ci/demo-aarch64" && return "$status"
}

check_armv7() {
  local program
  scripts/deps.sh demo board armv7 && on_arm armv7 || return 1
  for program in twinseal-minimal twinseal-minimal-commands twinseal-minimal-fetch; do
    scripts/footprint.sh "target/armv7/bin/$program" -armv7 || return 1
  done
}

# What is shown of the virtual board on ARM: that it boots sealed, updates, goes back, refuses what was changed, and recovers.
readonly ARM_SCENARIOS=(good-update trial-sick attack-flip-object recover-over-network)

# on_arm ARCHITECTURE: both agents under emulation on bundles of the kit, and as the appliance of a virtual board.
on_arm() {
  local architecture=$1 status=0 scenarios log="$logs/$1-tests.log" board_log="$logs/$1-board.log"
  scripts/appliance.sh && scripts/appliance.sh "$architecture" && scripts/cross.sh "$architecture" --quick && host_programs || return 1
  TWINSEAL_AGENTS="$PWD/target/$architecture/emulated" cargo test --locked --workspace --test agents_agree both_agents >"$log" 2>&1 || status=1
  cat "$log"
  count_tests "$log"
  [ "$tests_passed" -gt 0 ] || { echo "no test of the agents ran"; return 1; }
  mapfile -t scenarios < <(printf 'scenarios/%s.toml\n' "${ARM_SCENARIOS[@]}")
  $programs/twinseal-hil run "${scenarios[@]}" --board "uefi-$architecture" --jobs 1 --patience 3 --out "$cache/ci/board-$architecture" \
      >"$board_log" 2>&1 || status=1
  cat "$board_log"
  count_scenarios "$board_log" && return "$status"
}

# The virtual board: its own tests, every scenario, and a slice of the power cuts that `make soak` makes more of.
check_board() {
  local log="$logs/board-run.log" status=0
  scripts/deps.sh board && scripts/appliance.sh && scripts/appliance.sh general && check_build || return 1
  left_out_tests hil/tests/uefi_board.rs || return 1
  [ "$tests_passed" -gt 0 ] || { echo "no test of the board ran"; return 1; }
  $programs/twinseal-hil run scenarios --board uefi --jobs 2 --cuts 4 --out "$cache/ci/board" \
      --junit "$cache/ci/board.xml" --html "$cache/ci/board.html" >"$log" 2>&1 || status=1
  cat "$log"
  count_scenarios "$log" && return "$status"
}

# The microcontroller: its storage on the host, with every power cut of a small update; what core takes of it; every scenario,
# with a power cut at every operation of the flash.
check_mcu() {
  local log="$logs/mcu-run.log" status=0
  (cd hil/firmware && cargo test --locked --lib -- --nocapture) >"$logs/mcu-tests.log" 2>&1 || status=1
  cat "$logs/mcu-tests.log"
  count_tests "$logs/mcu-tests.log"
  [ "$tests_passed" -gt 0 ] || { echo "no test of the firmware ran"; return 1; }
  scripts/deps.sh mcu && scripts/mcu.sh memory || return 1
  host_programs || return 1
  $programs/twinseal-hil run scenarios/mcu --board mcu --jobs 2 --out "$cache/ci/mcu" \
      --junit "$cache/ci/mcu.xml" --html "$cache/ci/mcu.html" >"$log" 2>&1 || status=1
  cat "$log"
  count_scenarios "$log" && return "$status"
}

# count_scenarios LOG: adds the last line, "N passed, N failed, N skipped", to the totals. On a board of its own every scenario has to run.
count_scenarios() {
  local numbers scenarios_passed scenarios_failed scenarios_skipped
  numbers=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$1" | tail -n 1)
  [ -n "$numbers" ] || { echo "the board did not say what passed"; return 1; }
  read -r scenarios_passed scenarios_failed scenarios_skipped <<<"$numbers"
  passed=$((passed + scenarios_passed)) failed=$((failed + scenarios_failed)) skipped=$((skipped + scenarios_skipped))
  [ "$scenarios_passed" -gt 0 ] || { echo "no scenario passed"; return 1; }
  [ "$scenarios_skipped" = 0 ] || { echo "$scenarios_skipped scenarios were skipped; on this board every one has to run"; return 1; }
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

# What all checks write on a clean clone, at least, and what they need in any case, in MiB.
readonly WRITTEN_MIB=10000 SPARE_MIB=2000

# room: ends here, with what to do, when the disk is too small: a full one ends in a compiler's crash instead.
room() {
  local free made needed
  free=$(df --output=avail -BM . | tail -n 1 | tr -dc 0-9)
  made=$(du -scm target "$cache" hil/firmware/target 2>/dev/null | tail -n 1 | cut -f 1)
  needed=$((WRITTEN_MIB - made > SPARE_MIB ? WRITTEN_MIB - made : SPARE_MIB))
  [ "$free" -ge "$needed" ] && return
  echo "ci.sh: all checks need $needed MiB more on this disk, which has $free. Free some, target/debug of earlier builds for example, or run single checks: ./ci.sh --list" >&2
  exit 2
}

# others: the checks that are in neither list.
others() { printf '%s\n' "${checks[@]}" | grep -vxF -f <(printf '%s\n' "${beside[@]}" "$alone"); }

# run_all: all checks. Those beside the others count in a process of their own.
run_all() {
  local counts="$logs/beside.counts" name others beside_passed=0 beside_failed=0 beside_skipped=0 other_lane
  rm -f "$counts"
  (
    for name in "${beside[@]}"; do run "$name"; done
    echo "$passed $failed $skipped" >"$counts"
  ) &
  other_lane=$!
  mapfile -t others < <(others)
  for name in "${others[@]}"; do run "$name"; done
  wait "$other_lane"
  read -r beside_passed beside_failed beside_skipped <"$counts" || { echo "the checks beside the others did not end"; failed=$((failed + 1)); }
  passed=$((passed + beside_passed)) failed=$((failed + beside_failed)) skipped=$((skipped + beside_skipped))
  run "$alone"
}

for name in "$@"; do
  printf '%s\n' "${checks[@]}" | grep -qx -- "$name" || { echo "ci.sh: there is no check named $name; ./ci.sh --list names them" >&2; exit 2; }
done
if [ $# = 0 ]; then room; run_all; fi
for name in "$@"; do run "$name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
