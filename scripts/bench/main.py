"""The measurements: reads the command line of scripts/bench.sh, which made the folders, the payload and the loop devices."""

import argparse
import signal
import sys
from pathlib import Path

import install
import patch
import report
import store


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", type=Path, help="what is installed")
    parser.add_argument("--running", help="the loop device of the running set")
    parser.add_argument("--target", help="the loop device of the target set")
    parser.add_argument("--appliance", type=Path, required=True, help="kernel and stub")
    parser.add_argument("--programs", type=Path, required=True, help="where twinseal and twinseal-bundle are")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--results", type=Path, required=True, help="the file to write")
    parser.add_argument("--rounds", type=int, required=True, help="measured rounds")
    parser.add_argument("--store-megabytes", type=int, nargs=2, help="sizes of the two stores")
    parser.add_argument("--patch", action="store_true", help="measure patches")
    options = parser.parse_args()
    # An exception, so that every `with` block ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    results = report.Report(options.results)
    results.say("# Measurements")
    results.say(report.machine(options.work) + "\n" + report.programs(options.programs))
    fine = True
    if options.image:
        fine &= install.main(options.image, options.running, options.target, options.work / "install", options.programs,
                             options.rounds, results)
    if options.store_megabytes:
        fine &= store.main(options.store_megabytes, options.appliance, options.work / "store", options.programs,
                           options.rounds, results)
    if options.patch:
        fine &= patch.main(options.appliance, options.work / "patch", options.programs, options.rounds, results)
    results.keep()
    print(f"Kept in {options.results}.")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
