"""Bytes of an update on the wire: ours, counted at the socket, beside what others need for the same pair of appliances.

Every contestant brings a device from the same old appliance to the same new one: root and UKI. The UKI and the composefs image are
those of our bundles, since a sealed device needs both. What counts is what crosses the link: of ours everything, requests, heads,
manifest and index included; of the others only their files, without any protocol. Whatever is not ours is checked by applying it.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import plot
import report
from appliance import Pair
from contestants import CONTESTANTS
from measure import Failed, child_of
from reference import Reference

TITLES = {"point": "point release", "months": "four months", "major": "major release"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=Path, required=True, help="the folder of the pairs' sides")
    parser.add_argument("--programs", type=Path, required=True, help="where the three programs are")
    parser.add_argument("--init", type=Path, required=True, help="the static twinseal-minimal")
    parser.add_argument("--nginx", type=Path, required=True, help="the web server")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--results", type=Path, required=True, help="the table to write, Markdown")
    parser.add_argument("--plot", type=Path, required=True, help="the plot to write, SVG")
    parser.add_argument("names", nargs="+", help="the pairs")
    options = parser.parse_args()

    results = report.Report(options.results)
    results.say("# Bytes of an update on the wire")
    columns, fine = {}, True
    for name in options.names:
        work = child_of(options.work, name)
        try:
            pair = Pair(name, options.pairs, work, options.programs, options.init)
            pair.make()
            results.say(f"## {TITLES[name]}\n\n{pair.describe()}")
            columns[name] = measure(pair, options.nginx, results)
        except (Failed, OSError) as failure:
            results.say(f"Not measured:\n\n```\n{failure}\n```")
            fine = False
        shutil.rmtree(work)
    if columns:
        table(columns, results)
        options.plot.write_text(plot.bars({TITLES[name]: column for name, column in columns.items()}))
        options.results.with_suffix(".json").write_text(json.dumps(columns, indent=1) + "\n")
    results.keep()
    print(f"Kept in {options.results} and {options.plot}.")
    return 0 if fine else 1


def measure(pair, nginx, results):
    """The bytes of every contestant, and the sum that they are held to."""
    reference = Reference(pair)
    column = {"reference": reference.total()}
    results.say(reference.describe())
    for name, contestant in CONTESTANTS.items():
        column[name] = contestant(pair, nginx)
        print(f"{pair.name}: {name}: {column[name]:,} ({column[name] / column['reference']:.2f})", flush=True)
    results.say(pair.ours)
    return column


def table(columns, results):
    """One table: bytes, and in brackets the multiple of the reference."""
    head = ["bytes (multiple of the reference)", *(TITLES[name] for name in columns)]
    rows = []
    for what in ["reference", *CONTESTANTS]:
        cells = [f"{column[what]:,} ({column[what] / column['reference']:.2f})" for column in columns.values()]
        rows.append([what, *cells])
    results.table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
