"""One large file of real bytes, from its old version and from its compressed whole: our installer beside `zstd -d` and `bspatch`.

The file is all that upgraded Debian packages changed in the demo's root, one file behind the other; as one file, so that nobody is
measured by how quickly a process starts. Everything that is read is in the page cache. What the others leave unsynced is synced
after them and counts, as our own syncs do. An install also verifies the bundle, writes and checks a UKI that differs by its seal, and
proves the composefs image: its rate is that of all bytes that it writes.
"""

import tarfile

from measure import MEBIBYTE, Failed, Spread, call, child_of, read_through, run, synced
from reference import same
from store import Store
from appliance import LEVEL, size
from twinseal import Device, Maker

MODES = {"read back": [], "--no-read-back": ["--no-read-back"]}


def contents(archive):
    """The regular files of a tar, by name."""
    with tarfile.open(archive) as members:
        return {member.name: members.extractfile(member).read() for member in members if member.isreg()}


def make_pair(appliance, folder):
    """The two files."""
    old, new = (contents(appliance / side / "rootfs.tar") for side in ("v1", "v2"))
    names = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    paths = [child_of(folder, side) / "content" for side in ("old", "new")]
    for path, side in zip(paths, (old, new)):
        path.write_bytes(b"".join(side[name] for name in names))
    return paths


class Tool:
    """A program that makes the new file; `command` gives its command line for the file to make."""

    def __init__(self, name, command, inputs, new):
        self.name, self.command, self.inputs, self.new = name, command, inputs, new
        self.stored_bytes = size(inputs[-1])
        self.seconds, self.costs = [], []

    def measure(self, scratch, counts):
        out = scratch / "made"
        for file in self.inputs:
            read_through(file)
        cost = run(self.command(out), scratch)
        seconds = cost.wall_seconds + synced(out)
        same(self.new, out)
        if counts:
            self.seconds.append(seconds)
            self.costs.append(cost)

    @property
    def made_bytes(self):
        return size(self.new)


class OneFile(Store):
    """A device whose root has this one file; the two bundles are made with or without a base."""

    def __init__(self, name, options, is_patched, appliance, work, programs):
        self.name, self.options, self.is_patched = name, options, is_patched
        self.appliance, self.programs = appliance, programs
        self.folder = child_of(work, name.replace(" ", "-"))
        self.device = Device(programs, self.folder)
        self.seconds, self.costs, self.said = [], [], []

    def make(self, old, new):
        """Bundles and device."""
        maker = Maker(self.programs, self.folder)
        first = maker.bundle(1, self.system(old.parent, 1), "zstd")
        self.bundle = maker.bundle(2, self.system(new.parent, LEVEL), "zstd", bases=[first] if self.is_patched else ())
        self.provision(maker, first)

    def measure(self, scratch, counts):
        self.put_back()
        read_through(self.bundle)
        cost, said = self.device.install(self.bundle, ["--no-audit", *self.options], scratch)
        if counts:
            self.seconds.append(cost.wall_seconds)
            self.costs.append(cost)
            self.said.append(said)

    @property
    def stored_bytes(self):
        return self.said[-1]["source_bytes"]

    @property
    def made_bytes(self):
        return self.said[-1]["written_bytes"]


def contestants(appliance, work, programs):
    """Everybody, with what they need made."""
    old, new = make_pair(appliance, work)
    whole, patched, diff = (work / name for name in ("whole.zst", "patched.zst", "bsdiff"))
    call(["zstd", "--quiet", f"-{LEVEL}", new, "-o", whole])
    call(["zstd", "--quiet", f"-{LEVEL}", "--long=31", f"--patch-from={old}", new, "-o", patched])
    call(["bsdiff", old, new, diff])
    unpack = ["zstd", "--quiet", "--force", "--decompress"]
    tools = [
        Tool("zstd -d", lambda out: [*unpack, whole, "-o", out], [whole], new),
        Tool("zstd -d --patch-from", lambda out: [*unpack, "--long=31", f"--patch-from={old}", patched, "-o", out], [old, patched], new),
        Tool("bspatch", lambda out: ["bspatch", old, out, diff], [old, diff], new),
    ]
    ours = []
    for mode, options in MODES.items():
        for kind in ("whole", "patch"):
            ours.append(OneFile(f"twinseal {kind}, {mode}", options, kind == "patch", appliance, work, programs))
            ours[-1].make(old, new)
    return tools + ours


def row(contestant, floor):
    """A line of the table."""
    rates = [contestant.made_bytes / seconds / 1e6 for seconds in contestant.seconds]
    floors = [floor.made_bytes / seconds / 1e6 for seconds in floor.seconds]
    return [
        contestant.name,
        f"{contestant.stored_bytes:,}",
        f"{contestant.made_bytes:,}",
        Spread(contestant.seconds).text(3),
        Spread([cost.cpu_seconds for cost in contestant.costs]).text(3),
        Spread(rates).text(0),
        Spread([mine / other for mine, other in zip(rates, floors)]).text(2),
        Spread([cost.peak_bytes / MEBIBYTE for cost in contestant.costs]).text(1),
    ]


def main(appliance, work, programs, rounds, report):
    """Measures and reports; whether all went well."""
    report.say("## Patch: one large file from its old version, and whole")
    work.mkdir()
    scratch = child_of(work, "scratch")
    try:
        everybody = contestants(appliance, work, programs)
        for number in range(rounds + (rounds > 1)):
            for contestant in everybody if number % 2 else everybody[::-1]:
                contestant.measure(scratch, counts=rounds == 1 or number > 0)
    except (Failed, OSError) as failure:
        report.say(f"Not measured:\n\n```\n{failure}\n```")
        return False
    report.table(
        ["", "bytes read", "bytes made", "wall s", "CPU s", "MB/s", "rate to zstd -d", "peak MiB"],
        [row(contestant, everybody[0]) for contestant in everybody])
    return True
