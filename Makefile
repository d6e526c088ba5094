# The two commands of the README, and the few others that people type. Everything else is in ci.sh and scripts/.
.PHONY: demo test mcu minimal aarch64 armv7 bench bench-bytes soak clean

# From nothing to "v2 committed, v3 rolled back". BOARD names the board; `files` needs no virtual machine, but root.
BOARD ?= uefi
demo:
	@scripts/deps.sh demo $(if $(filter uefi,$(BOARD)),board)
	@{ scripts/appliance.sh $(if $(filter uefi,$(BOARD)),&& scripts/appliance.sh general); } & appliance=$$!; scripts/device-programs.sh && \
	    cargo build --locked --release --quiet -p twinseal-bundle -p twinseal-hil; built=$$?; wait $$appliance && exit $$built
	@target/release/twinseal-hil demo --board $(BOARD)

# Every check, with what it needs installed first. The last line of ci.sh counts them. The appliance is made beside the first ones; a check
# that takes it waits for it.
test:
	@scripts/deps.sh test demo board mcu aarch64 armv7 reference
	@scripts/reference-composefs.sh
	@{ scripts/appliance.sh && scripts/appliance.sh general; } & ./ci.sh; status=$$?; wait; exit $$status

# The microcontroller: its firmware, what core's verify path takes there, and every scenario, with a power cut at every operation
# of the flash. CUTS=20 for so many of each kind only.
mcu:
	@scripts/deps.sh mcu
	@scripts/mcu.sh memory
	@cd hil/firmware && cargo test --locked --quiet --lib -- --nocapture
	@cargo build --locked --release --quiet -p twinseal-bundle -p twinseal-hil
	@target/release/twinseal-hil run scenarios/mcu --board mcu $(if $(filter command line,$(origin CUTS)),--cuts $(CUTS)) --jobs 2 --out .cache/mcu --html .cache/mcu.html

# The small static agent without a C library, in target/device/bin: the /init of an initramfs, and two with the commands of a
# running system (docs/minimal.md).
minimal:
	@scripts/device-programs.sh small
	@for program in twinseal-minimal twinseal-minimal-commands twinseal-minimal-fetch; do \
	    scripts/footprint.sh target/device/bin/$$program || exit 1; done

# Both agents for ARM devices of 64 bits or of 32: target/aarch64/bin, target/armv7/bin. They run here under emulation
# (target/aarch64/emulated), and as a device on a virtual board: twinseal-hil run scenarios --board uefi-aarch64.
aarch64 armv7:
	@scripts/deps.sh $@
	@scripts/cross.sh $@

# Speed, memory and bytes against others, as ratios in one run.
bench:
	@scripts/deps.sh bench demo
	@cargo build --locked --profile shipped --quiet -p twinseal -p twinseal-bundle
	@scripts/bench.sh

# Bytes of an update on the wire against others, on pairs of Debian appliances. The first run makes the pairs.
PAIRS ?= point months major
bench-bytes:
	@scripts/deps.sh bench demo
	@scripts/appliance.sh
	@scripts/device-programs.sh
	@cargo build --locked --profile shipped --quiet -p twinseal -p twinseal-bundle -p twinseal-hil
	@scripts/bench-bytes.sh $(PAIRS)

# Many power cuts on the virtual board, CUTS for each of six moments: within an install, at its end, at the flip, in the trial, at the
# commit, and in a recovery; from a printed seed.
CUTS ?= 40
soak:
	@scripts/deps.sh demo board
	@scripts/appliance.sh
	@scripts/device-programs.sh
	@cargo build --locked --release --quiet -p twinseal-bundle -p twinseal-hil
	@target/release/twinseal-hil run scenarios --board uefi --filter power-cuts --cuts $(CUTS) --jobs 2 --out .cache/soak --html .cache/soak.html

clean:
	@cargo clean
	@rm -rf demo
