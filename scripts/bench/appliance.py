"""A pair of appliances: their bundles, their blobs, and the same content as files and as whole images for the others."""

import hashlib
import json
import os
import re
import tarfile
from pathlib import Path

from measure import call, child_of
from twinseal import Maker

# zstd's level for all who compress.
LEVEL = 19

# Content up to here is in the composefs image and not an object (composefs, LCFS_INLINE_CONTENT_MAX).
INLINE_MAX_BYTES = 64

CONTENT = """level = {level}
cmdline = "console=ttyS0 quiet"
os-release = "{side}/os-release"
uname = "{uname}"
kernel = "{side}/vmlinuz"
stub = "{side}/linuxx64.efi.stub"

[root]
tar = "{side}/rootfs.tar"
epoch = 0

[early]
init = "{init}"
modules = "{side}/modules"

[secure-boot]
key = "{keys}/db.key"
certificate = "{keys}/db.crt"
"""


class Side:
    """One appliance of a pair."""

    def __init__(self, folder, work):
        self.folder, self.work = folder, work
        self.uname = (folder / "kernel-version").read_text().strip()
        self.bundle = None

    def blob(self, name):
        """A file with a blob of the bundle: `uki` or `composefs`."""
        return self.work / name

    def extract(self, programs):
        for name in ("uki", "composefs"):
            call([programs / "twinseal-bundle", "extract", self.bundle, "--blob", name, "--out", self.blob(name)])

    def unpack(self):
        """The objects, as files named by their content, and their names in the root."""
        objects, self.names = child_of(self.work, "objects"), {}
        with tarfile.open(self.folder / "rootfs.tar") as archive:
            for member in archive:
                if not member.isreg() or member.size <= INLINE_MAX_BYTES:
                    continue
                content = archive.extractfile(member).read()
                digest = hashlib.sha256(content).hexdigest()
                # Modules lie below the kernel's version: the same file has another name in another release.
                name = re.sub(re.escape(self.uname), "KERNEL", member.name)
                self.names[name] = digest
                if not (objects / digest).exists():
                    (objects / digest).write_bytes(content)
        self.objects = objects

    def tree(self):
        """The root as a folder."""
        tree = self.work / "tree"
        if not tree.exists():
            tree.mkdir()
            call(["tar", "-xpf", self.folder / "rootfs.tar", "-C", tree])
        return tree

    def image(self):
        """The whole appliance as one file: the root as an EROFS image without compression, every file in blocks of its own, and the
        UKI behind it."""
        image = self.work / "image"
        if not image.exists():
            call(["mkfs.erofs", "--quiet", "-Enoinline_data", "-T1780272000", "-U7c0f2f3e-5d2b-4f0e-9a51-0a1b2c3d4e5f", image, self.tree()])
            with open(image, "ab") as out:
                out.write(self.blob("uki").read_bytes())
        return image


class Pair:
    """The older and the newer appliance, built by our own builder with a route from one to the other."""

    def __init__(self, name, folder, work, programs, init):
        self.name, self.work, self.programs, self.init = name, work, programs, init
        self.old = Side(folder / f"{name}-old", child_of(work, "old"))
        self.new = Side(folder / f"{name}-new", child_of(work, "new"))

    def make(self):
        """Keys and bundles, and what is in them."""
        self.maker = Maker(self.programs, child_of(self.work, "maker"))
        call(["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=bench",
              "-keyout", self.maker.folder / "db.key", "-out", self.maker.folder / "db.crt"])
        # The old bundle never crosses the link, so its compression only has to be quick.
        for number, side, level, bases in ((1, self.old, 1, ()), (2, self.new, LEVEL, (self.maker.folder / "release-1.tseal",))):
            content = CONTENT.format(level=level, side=side.folder, uname=side.uname, init=self.init, keys=self.maker.folder)
            side.bundle = self.maker.bundle(number, content, "zstd", bases)
            side.extract(self.programs)
            side.unpack()

    def changed(self):
        """The new objects: digest, and the digest of the old content under the same name, if there was one."""
        held, old = set(self.old.names.values()), self.old.names
        changed = {}
        for name, digest in sorted(self.new.names.items()):
            if digest not in held and changed.get(digest) is None:
                changed[digest] = old.get(name)
        return changed

    def describe(self):
        """What the pair is: suites, dates, packages, objects."""
        lines = []
        for title, side in (("before", self.old), ("after", self.new)):
            suites = " · ".join((side.folder / "suites.txt").read_text().splitlines())
            size = sum(os.stat(side.objects / digest).st_size for digest in set(side.names.values()))
            lines.append(f"- {title}: {suites}; Linux {side.uname}; {len(set(side.names.values())):,} objects, {size:,} bytes; "
                         f"UKI {os.stat(side.blob('uki')).st_size:,}, composefs image {os.stat(side.blob('composefs')).st_size:,}")
        packages = [dict(line.split() for line in (side.folder / "packages.txt").read_text().splitlines())
                    for side in (self.old, self.new)]
        newer = [name for name in packages[1] if packages[0].get(name) not in (None, packages[1][name])]
        other = len(packages[0].keys() ^ packages[1].keys())
        changed = self.changed()
        size = sum(os.stat(self.new.objects / digest).st_size for digest in changed)
        lines.append(f"- {len(newer)} of {len(packages[1])} packages in another version, {other} added or gone; {len(changed):,} objects "
                     f"that the old appliance has not, {size:,} bytes")
        if len(newer) <= 30:
            lines.append("- " + ", ".join(f"{name} {packages[0][name]} → {packages[1][name]}" for name in newer))
        return "\n".join(lines)


def events(text):
    """The JSON objects that one of our programs printed, one a line."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def size(path):
    """Length of a file."""
    return os.stat(Path(path)).st_size
