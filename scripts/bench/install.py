"""One image of real bytes, from the page cache to a loop device, by each installer: what it costs, as ratios to `dd`.

In each round every contestant has its turn, and each time the slot is first filled with other bytes and synced, and the
bundle read into the page cache. What an installer leaves unsynced is synced after it and counts. The slot is then compared
with the image, outside the timing. The first round only warms up.
"""

import os
import shutil

from measure import MEBIBYTE, Failed, Spread, call, child_of, read_through, run, synced
from rauc import Rauc
from swupdate import Swupdate
from twinseal import Twinseal

# What stands in the slot before an install: not a hole, not zeros, and not in any image.
OTHER_BYTES = b"\xa5" * MEBIBYTE

# What shows how much of an installer's time does not depend on the image.
TINY_BYTES = MEBIBYTE
TINY_ROUNDS = 3

# What the loop device does with what is written to it: `losetup --direct-io`, and what that means.
MEDIA = [
    ("on", "The loop device writes to the disk at once, as a medium of its own does:"),
    ("off", "The loop device copies into the page cache of its file, and the disk has nothing to do until the sync at the end:"),
]


class Dd:
    """The floor for writing: no checks at all."""

    name = "floor: dd conv=fsync"

    def __init__(self, image, target):
        self.bundle, self.target = image, target

    def prepare(self):
        """Nothing to make."""

    def install(self, scratch):
        """One measured copy."""
        return run(["dd", f"if={self.bundle}", f"of={self.target}", "bs=1M", "conv=fsync", "status=none"], scratch)


class Openssl:
    """The floor for checking: one SHA-256 of the image, nothing written."""

    name = "floor: openssl dgst -sha256"
    writes_nothing = True

    def __init__(self, image):
        self.bundle = image

    def prepare(self):
        """Nothing to make."""

    def install(self, scratch):
        """One measured digest."""
        return run(["openssl", "dgst", "-sha256", self.bundle], scratch)


class Entry:
    """A contestant and what was measured of it."""

    def __init__(self, contestant):
        self.contestant = contestant
        self.failure = None
        self.begin()

    def begin(self):
        """Forgets what was measured."""
        self.costs, self.syncs = [], []

    def wall(self, digits):
        """Wall clock of the command, as text."""
        return Spread([cost.wall_seconds for cost in self.costs]).text(digits)

    def seconds(self):
        """Wall clock of each round until everything is on the medium."""
        return [cost.wall_seconds + sync for cost, sync in zip(self.costs, self.syncs)]


class Bench:
    """The measurement with one image."""

    def __init__(self, image, running, target, work, programs, rounds):
        self.image, self.target, self.rounds = image, target, rounds
        work.mkdir()
        self.scratch = child_of(work, "scratch")
        both = (running, target, work)
        self.entries = [Entry(contestant) for contestant in (
            Dd(image, target),
            Openssl(image),
            Rauc("plain", image, *both),
            Rauc("verity", image, *both),
            Swupdate(image, target, work),
            Twinseal("twinseal", [], image, *both, programs),
            Twinseal("twinseal --no-read-back", ["--no-read-back"], image, *both, programs),
        )]
        for entry in self.entries:
            self.guarded(entry, entry.contestant.prepare)

    def measure(self):
        """All rounds. A contestant that fails is out, and the report says why."""
        for entry in self.entries:
            entry.begin()
        warm_ups = 1 if self.rounds > 1 else 0
        for number in range(warm_ups + self.rounds):
            # Another one begins each round, so that nobody always comes after the same neighbour.
            start = number % len(self.entries)
            for entry in self.entries[start:] + self.entries[:start]:
                self.guarded(entry, lambda entry=entry: self.turn(entry, counts=number >= warm_ups))

    def guarded(self, entry, work):
        """Does some work of a contestant that has not failed before."""
        if entry.failure is not None:
            return
        try:
            work()
        except (Failed, OSError) as failure:
            entry.failure = failure
            entry.begin()

    def turn(self, entry, counts):
        """One install: before, measured, after."""
        writes = not hasattr(entry.contestant, "writes_nothing")
        if writes:
            self.fill()
        read_through(entry.contestant.bundle)
        cost = entry.contestant.install(self.scratch)
        sync = synced(self.target) if writes else 0.0
        if writes:
            call(["cmp", f"--bytes={os.stat(self.image).st_size}", self.image, self.target])
        if counts:
            entry.costs.append(cost)
            entry.syncs.append(sync)

    def fill(self):
        """Puts other bytes where the image goes."""
        with open(self.target, "r+b", buffering=0) as slot:
            for _ in range(-(-os.stat(self.image).st_size // MEBIBYTE)):
                slot.write(OTHER_BYTES)
            os.fsync(slot.fileno())

    def fine(self):
        """Those that could be measured."""
        return [entry for entry in self.entries if entry.failure is None]

    def report(self, report, fixed):
        """The tables. `fixed` has the wall clock of an image of 1 MiB by name."""
        report.table(
            ["installer", "bundle MiB", "wall s", "then sync s", "CPU s", "peak MiB", "ratio to dd", "fixed s"],
            [self.row(entry) + [fixed.get(entry.contestant.name, "–")] for entry in self.fine()])
        own = [entry for entry in self.fine() if isinstance(entry.contestant, Twinseal)]
        if own:
            report.say("What twinseal says of itself; syncing and reading back are parts of the whole:")
            report.table(
                ["", "whole s", "syncing s", "reading back s", "bytes read of the bundle", "bytes written", "bytes read back"],
                [own_row(entry) for entry in own])

    def row(self, entry):
        """A contestant's line."""
        ratios = [own / floor for own, floor in zip(entry.seconds(), self.entries[0].seconds())]
        return [
            entry.contestant.name,
            f"{os.stat(entry.contestant.bundle).st_size / MEBIBYTE:.1f}",
            entry.wall(3),
            Spread(entry.syncs).text(3),
            Spread([cost.cpu_seconds for cost in entry.costs]).text(2),
            Spread([cost.peak_bytes / MEBIBYTE for cost in entry.costs]).text(1),
            Spread(ratios).text(2),
        ]

    def report_failures(self, report):
        """Who could not be measured, and why."""
        for entry in self.entries:
            if entry.failure is not None:
                report.say(f"{entry.contestant.name} was not measured:\n\n```\n{entry.failure}\n```")

    def failed(self):
        """Whether our own agent, or what it is compared with, could not be measured."""
        return any(entry.failure is not None and isinstance(entry.contestant, (Dd, Twinseal)) for entry in self.entries)


def own_row(entry):
    """Where our agent's time goes, by its own account."""
    said = entry.contestant.said[-len(entry.costs):]
    times = [Spread([event[name] for event in said]).text(3) for name in ("total_seconds", "settle_seconds", "read_back_seconds")]
    sizes = [f"{said[-1][name]:,}" for name in ("source_bytes", "written_bytes", "read_back_bytes")]
    return [entry.contestant.name, *times, *sizes]


def main(image, running, target, work, programs, rounds, report):
    """Measures and reports; whether all of our own went well."""
    work.mkdir()
    small = work / "tiny.img"
    with open(image, "rb") as whole:
        small.write_bytes(whole.read(TINY_BYTES))
    size = os.stat(image).st_size // MEBIBYTE
    counted = f"{rounds} rounds after one to warm up" if rounds > 1 else "one round"
    report.say(f"## Install: an image of {size} MiB from the page cache to a loop device")
    report.say(f"Median (smallest–largest) of {counted}, in turns. The ratio is that of wall clock and sync to dd's in the same "
               "round. Fixed is the wall clock with an image of 1 MiB. Peak memory counts mapped files; RAUC's is that of client "
               "and service together.")
    tiny = Bench(small, running, target, work / "tiny", programs, min(rounds, TINY_ROUNDS))
    tiny.measure()
    fixed = {entry.contestant.name: entry.wall(3) for entry in tiny.fine()}
    bench = Bench(image, running, target, work / "whole", programs, rounds)
    for option, text in MEDIA:
        try:
            call(["losetup", f"--direct-io={option}", target])
        except Failed as failure:
            report.say(f"Not measured: {text}\n\n```\n{failure}\n```")
            continue
        report.say(text)
        bench.measure()
        bench.report(report, fixed)
    bench.report_failures(report)
    shutil.rmtree(work)
    return not bench.failed()
