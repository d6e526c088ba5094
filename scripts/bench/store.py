"""The same change to a small object store and to two that hold ten times as much: the cost must not grow with the store.

Both sets of a device are filled with version 1, so that version 2 differs from what the target set holds by the change
alone, as on a device that has been updated before, and has a route from it. One of the large stores has ten times as many
objects, the other one objects that are ten times as large: what grows with the number of objects grows in the first alone.
The changed objects have one size everywhere. All others begin with their number and are zeros after it, so that bundles and
source trees stay small.
"""

import os
import random
import shutil
import time

from measure import MEBIBYTE, Failed, Spread, call, child_of, read_through
from twinseal import Device, Maker

OBJECT_BYTES = 500_000
CHANGED_OBJECTS = 20
FOLDER_OBJECTS = 1000
INITRAMFS_BYTES = 500_000
# An install wants room for every byte of its objects, though zeros stay holes; the rest is what is really taken.
FREE_FACTOR = 1.5

SYSTEM = """level = {level}
cmdline = "quiet"
os-release = "{folder}/v1/os-release"
uname = "{uname}"
kernel = "{folder}/vmlinuz"
initramfs = "{initramfs}"
stub = "{folder}/linuxx64.efi.stub"

[root]
directory = "{root}"
"""

SETS = """
[sets.a]
boot = "boot-a"
root = "root-a"

[sets.b]
boot = "boot-b"
root = "root-b"
"""

# What an install into set B changes, and what is put back before the next one.
CHANGED = ("state", "boot-b", "root-b")
MODES = {"install": [], "install --no-audit": ["--no-audit"]}


class Store:
    """A device with an object store of one size, and the two bundles."""

    def __init__(self, megabytes, objects, appliance, work, programs):
        self.megabytes, self.objects = megabytes, objects
        step = max(1, objects // CHANGED_OBJECTS)
        self.changed = range(0, step * CHANGED_OBJECTS, step)
        self.appliance, self.programs = appliance, programs
        self.folder = child_of(work, f"store-{megabytes}-{objects}")
        self.device = Device(programs, self.folder)
        self.costs = {mode: [] for mode in MODES}
        self.said = {mode: [] for mode in MODES}

    def make(self):
        """Trees, bundles and the provisioned device; the trees are removed again."""
        root, maker = child_of(self.folder, "tree"), Maker(self.programs, self.folder)
        self.plant(root, range(self.objects), lambda number: number.to_bytes(8, "little"))
        content = self.system(root, 1)
        first = maker.bundle(1, content, "zstd")
        noise = random.Random(1)
        self.plant(root, self.changed, lambda _: noise.randbytes(OBJECT_BYTES))
        self.bundle = maker.bundle(2, content, "zstd", bases=[first])
        shutil.rmtree(root)
        self.provision(maker, first)

    def system(self, root, level):
        """The recipe of an appliance with this root."""
        uname = (self.appliance / "kernel-version").read_text().strip()
        # Any bytes will do: nothing of this is ever booted.
        initramfs = self.folder / "initramfs"
        initramfs.write_bytes(random.Random(0).randbytes(INITRAMFS_BYTES))
        return SYSTEM.format(folder=self.appliance, initramfs=initramfs, uname=uname, root=root, level=level)

    def plant(self, root, numbers, content):
        """Writes files of the objects' sizes that begin with some content."""
        others_bytes = self.megabytes * 1_000_000 // self.objects
        for number in numbers:
            file = root / str(number // FOLDER_OBJECTS) / str(number)
            file.parent.mkdir(exist_ok=True)
            with open(file, "wb") as out:
                out.write(content(number))
                out.truncate(OBJECT_BYTES if number in self.changed else others_bytes)

    def provision(self, maker, bundle):
        """Fills both sets and keeps what an install changes."""
        for name in ("boot-a", "root-a", "boot-b", "root-b"):
            child_of(self.folder, name)
        self.device.describe(maker.public, SETS)
        begin = time.monotonic()
        self.device.provision(bundle, "--both")
        self.provisioned_seconds = time.monotonic() - begin
        kept = child_of(self.folder, "kept")
        for name in CHANGED:
            (self.folder / name).rename(kept / name)

    def put_back(self):
        """The device as it was provisioned. Objects never change once they have their name, so links to them will do."""
        for name in CHANGED:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            link = ["--link"] if name.startswith("root") else []
            call(["cp", "--archive", *link, self.folder / "kept" / name, self.folder])
        call(["sync", "--file-system", self.folder])

    def install(self, mode, scratch, counts):
        """One install of version 2."""
        self.put_back()
        read_through(self.bundle)
        cost, said = self.device.install(self.bundle, MODES[mode], scratch)
        if counts:
            self.costs[mode].append(cost)
            self.said[mode].append(said)

    def row(self, mode):
        """Its line of the table."""
        costs, said = self.costs[mode], self.said[mode][-1]
        return [
            f"{self.megabytes:,} MB, {self.objects:,} objects: {mode}",
            f"{os.stat(self.bundle).st_size / MEBIBYTE:.1f}",
            Spread([cost.wall_seconds for cost in costs]).text(3),
            Spread([cost.cpu_seconds for cost in costs]).text(3),
            Spread([cost.peak_bytes / MEBIBYTE for cost in costs]).text(1),
            *(f"{said[name]:,}" for name in ("framing_bytes", "index_bytes", "data_bytes", "audit_bytes", "written_bytes")),
        ]


def ratio_rows(small, large):
    """The larger store's figures as multiples of the smaller one's, round by round."""
    rows = []
    for mode in MODES:
        pairs = list(zip(small.costs[mode], large.costs[mode]))
        said = (small.said[mode][-1]["source_bytes"], large.said[mode][-1]["source_bytes"])
        rows.append([
            mode,
            Spread([b.wall_seconds / a.wall_seconds for a, b in pairs]).text(2),
            Spread([b.cpu_seconds / a.cpu_seconds for a, b in pairs]).text(2),
            Spread([b.peak_bytes / a.peak_bytes for a, b in pairs]).text(2),
            f"{said[1] / said[0]:.2f}",
        ])
    return rows


def main(megabytes, appliance, work, programs, rounds, report):
    """Measures and reports; whether all went well."""
    report.say("## Store: the same change of 10 MB to a store and to two that hold ten times as much")
    work.mkdir()
    free, needed = shutil.disk_usage(work).free, max(megabytes) * 1_000_000 * FREE_FACTOR
    if free < needed:
        report.say(f"Not measured: this needs {needed / 1e9:.0f} GB of free space in {work}, and there are {free / 1e9:.0f} GB.")
        return True
    scratch = child_of(work, "scratch")
    small, large = megabytes
    counts = [size * 1_000_000 // OBJECT_BYTES for size in megabytes]
    sizes = [(small, counts[0]), (large, counts[1]), (large, counts[0])]
    stores = [Store(*size, appliance, work, programs) for size in sizes]
    try:
        for store in stores:
            store.make()
        for number in range(rounds + (rounds > 1)):
            for mode in MODES:
                for store in stores if number % 2 else stores[::-1]:
                    store.install(mode, scratch, counts=rounds == 1 or number > 0)
    except (Failed, OSError) as failure:
        report.say(f"Not measured:\n\n```\n{failure}\n```")
        return False
    report_all(stores, rounds, report)
    shutil.rmtree(work)
    return True


def report_all(stores, rounds, report):
    """The tables."""
    small, more, larger = stores
    counted = f"{rounds} rounds after one to warm up" if rounds > 1 else "one round"
    report.say(f"Median (smallest–largest) of {counted}, in turns, with everything read back. Both sets held version 1; filling "
               f"both took {', '.join(f'{store.provisioned_seconds:.0f}' for store in stores)} s.")
    report.table(
        ["store", "bundle MiB", "wall s", "CPU s", "peak MiB", "framing", "index", "data", "only checked", "written bytes"],
        [store.row(mode) for mode in MODES for store in stores])
    head = ["", "wall", "CPU", "peak", "bytes read of the bundle"]
    report.say("Ten times as many objects, as a multiple of the small store:")
    report.table(head, ratio_rows(small, more))
    report.say("As many objects, but for the changed ones ten times as large:")
    report.table(head, ratio_rows(small, larger))
