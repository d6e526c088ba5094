# The two commands of the README, and the few others that people type. Everything else is in ci.sh and scripts/.
.PHONY: demo test bench clean

# From nothing to "v2 committed, v3 rolled back". BOARD names the board; `files` needs no virtual machine.
BOARD ?= files
demo:
	@scripts/deps.sh demo
	@scripts/appliance.sh
	@scripts/device-programs.sh
	@cargo build --locked --release --quiet -p twinseal -p twinseal-bundle -p twinseal-hil
	@target/release/twinseal-hil demo --board $(BOARD)

# Every check, with what it needs installed first. The last line counts them.
test:
	@scripts/deps.sh test demo reference nostd
	@scripts/reference-composefs.sh
	@./ci.sh

# Speed, memory and bytes against others, as ratios in one run.
bench:
	@scripts/deps.sh bench demo
	@cargo build --locked --release --quiet -p twinseal -p twinseal-bundle
	@scripts/bench.sh

clean:
	@cargo clean
	@rm -rf demo
