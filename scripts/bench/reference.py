"""The sum that an update is held to: for every changed object, the composefs image and the UKI the cheapest of three ways."""

import bz2
import struct
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance import LEVEL, size
from measure import Failed, call

WAYS = ("zstd", "patch-from", "bsdiff")
WORKERS = 2


class Reference:
    """The ways of every changed blob of a pair."""

    def __init__(self, pair):
        blobs = [(pair.new.objects / new, old and pair.old.objects / old) for new, old in pair.changed().items()]
        blobs += [(pair.new.blob(name), pair.old.blob(name)) for name in ("composefs", "uki")]
        with ThreadPoolExecutor(WORKERS) as workers:
            self.costs = list(workers.map(lambda blob: cheapest(*blob, pair.work), blobs))

    def total(self):
        """The sum of the cheapest."""
        return sum(min(costs.values()) for costs in self.costs)

    def describe(self):
        """How often each way is the cheapest, and what two blobs cost."""
        won = {way: 0 for way in WAYS}
        for costs in self.costs:
            won[min(costs, key=costs.get)] += 1
        image, uki = self.costs[-2:]
        return (f"Reference: the cheapest is whole zstd-{LEVEL} for {won['zstd']} blobs, zstd --patch-from for {won['patch-from']}, bsdiff + "
                f"zstd-{LEVEL} for {won['bsdiff']}. The composefs image takes {min(image.values()):,} bytes, the UKI {min(uki.values()):,}.")


def cheapest(new, old, work):
    """Bytes of each way to a blob. Each is undone and compared, so that none is cheap because it lacks something."""
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        scratch = Path(scratch)
        costs = {"zstd": size(zstd(new, scratch / "whole"))}
        if old is not None:
            costs["patch-from"] = size(zstd(new, scratch / "patched", old))
            costs["bsdiff"] = size(zstd(bsdiff(old, new, scratch), scratch / "diff"))
        return costs


def zstd(file, out, base=None):
    """A file compressed, against a base if there is one; the compressed file."""
    window = ["--long=31", f"--patch-from={base}"] if base else []
    command = ["zstd", "--quiet", "--force", "--no-check", f"-{LEVEL}", *window, file, "-o", out]
    call(command)
    undone = out.with_suffix(".undone")
    call(["zstd", "--quiet", "--force", "--decompress", *window, out, "-o", undone])
    same(file, undone)
    return out


def bsdiff(old, new, scratch):
    """What bsdiff says, without its own compression: its header, then control, difference and extra bytes."""
    patch, undone, plain = scratch / "bsdiff", scratch / "bspatched", scratch / "plain"
    call(["bsdiff", old, new, patch])
    call(["bspatch", old, undone, patch])
    same(new, undone)
    data = patch.read_bytes()
    # BSDIFF40: magic, length of the compressed control and difference blocks, size of the new file (bsdiff.c).
    magic, control, difference, _ = struct.unpack("<8sQQQ", data[:32])
    if magic != b"BSDIFF40":
        raise Failed(["bsdiff"], "wrote a patch of another kind", magic.hex())
    blocks = (data[32:32 + control], data[32 + control:32 + control + difference], data[32 + control + difference:])
    plain.write_bytes(data[:32] + b"".join(bz2.decompress(block) if block else b"" for block in blocks))
    return plain


def same(one, two):
    """Raises Failed for files that differ; the second is removed."""
    done = subprocess.run(["cmp", str(one), str(two)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(["cmp", one, two], f"ended with status {done.returncode}", done.stdout + done.stderr)
    Path(two).unlink()
