"""The ways to bring a device from one appliance to the other, and the bytes of each."""

import json
import subprocess

from appliance import LEVEL, events, size
from measure import MEBIBYTE, Failed, call, child_of
from reference import same, zstd
from store import SETS
from twinseal import Device

# casync's average chunk; it makes chunks of a quarter to four times of it.
CHUNK_BYTES = 64 << 10

# xdelta3 looks back so far in the old image: all of it.
SOURCE_WINDOW_BYTES = 1 << 30


class Link:
    """A web server behind a link that counts."""

    def __init__(self, programs, served, nginx):
        command = [programs / "twinseal-hil", "link", "--serve", served, "--nginx", nginx]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = self.said("listening")["port"]

    def said(self, event):
        line = self.process.stdout.readline()
        if not line:
            raise Failed(["twinseal-hil", "link"], f"ended before it said {event}", "")
        told = json.loads(line)
        if told["event"] != event:
            raise Failed(["twinseal-hil", "link"], f"did not say {event}", line)
        return told

    def end(self):
        """Closes the link; what went over it."""
        self.process.stdin.close()
        told = self.said("ended")
        self.process.wait()
        return told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def ours(pair, nginx):
    """The agent over HTTP: all bytes of the connection in both directions."""
    folder, served = child_of(pair.work, "device"), child_of(pair.work, "served")
    device = Device(pair.programs, folder)
    for slot in ("boot-a", "root-a", "boot-b", "root-b"):
        child_of(folder, slot)
    device.describe(pair.maker.public, SETS)
    device.provision(pair.old.bundle, "--both")
    (served / "new.tseal").symlink_to(pair.new.bundle)
    with Link(pair.programs, served, nginx) as link:
        url = f"http://127.0.0.1:{link.port}/new.tseal"
        # With a budget nothing is read in vain.
        said = events(call(device.command("--json", "install", "--budget", str(size(pair.new.bundle)), url)))
        told = link.end()
    installed = next(event for event in said if event["event"] == "installed")
    print(f"{pair.name}: over the link: {told}\n{pair.name}: the agent: {installed}", flush=True)
    pair.ours = (f"Ours: {told['requests']} requests on {told['connections']} connection(s), whose heads take "
                 f"{told['up_bytes'] + told['down_bytes'] - told['body_bytes']:,} bytes; {installed['framing_bytes']:,} bytes of framing, "
                 f"{installed['index_bytes']:,} of index, {installed['data_bytes']:,} of data, of which {installed['patch_bytes']:,} are patches for "
                 f"{installed['patched_blobs']:,} of {installed['blobs']:,} blobs. The agent's peak memory was "
                 f"{installed['peak_memory_bytes'] / MEBIBYTE:.1f} MiB.")
    call(["rm", "-r", folder])
    return told["up_bytes"] + told["down_bytes"]


def casync(pair, _):
    """The chunks of the new root and UKI that a store of the old ones has not, and the new indexes. The root is the tar archive that
    the appliance was made from, sorted: images of file systems take a third more, and five times as much with inline tails."""
    made, root, undone = {}, "rootfs.tar", pair.work / "undone"
    for name, side in (("old", pair.old), ("new", pair.new)):
        store = child_of(pair.work, f"{name}.castr")
        for file in (side.folder / root, side.blob("uki")):
            call(["casync", "make", f"--store={store}", f"--chunk-size={CHUNK_BYTES}", index(side, file), file])
        made[name] = {chunk.name: size(chunk) for chunk in store.rglob("*.cacnk")}
    files = (pair.new.folder / root, pair.new.blob("uki"))
    for file in files:
        call(["casync", "extract", f"--store={store}", index(pair.new, file), undone])
        same(file, undone)
    missing = made["new"].keys() - made["old"].keys()
    return sum(made["new"][chunk] for chunk in missing) + sum(size(index(pair.new, file)) for file in files)


def index(side, file):
    """casync's index of a file."""
    return side.work / f"{file.name}.caibx"


def changed_files(pair, _):
    """Whole objects that the old appliance has not, and the two other blobs, compressed each by itself."""
    files = [pair.new.objects / digest for digest in pair.changed()] + [pair.new.blob("composefs"), pair.new.blob("uki")]
    return sum(size(zstd(file, pair.work / "compressed")) for file in files)


def patch_from(pair, _):
    """One zstd patch of the whole image; its window holds both images."""
    return size(zstd(pair.new.image(), pair.work / "image-patch", pair.old.image()))


def xdelta3(pair, _):
    """One VCDIFF patch of the whole image, with the best compression that xdelta3 has."""
    patch, undone = pair.work / "image-vcdiff", pair.work / "undone"
    old, new, window = pair.old.image(), pair.new.image(), ["-B", str(SOURCE_WINDOW_BYTES)]
    call(["xdelta3", "-f", "-e", "-9", "-S", "lzma", *window, "-s", old, new, patch])
    call(["xdelta3", "-f", "-d", *window, "-s", old, patch, undone])
    same(new, undone)
    return size(patch)


def full(pair, _):
    """The whole bundle, as a device without anything would fetch it."""
    return size(pair.new.bundle)


CONTESTANTS = {
    "twinseal over nginx, all bytes both ways": ours,
    f"changed files, zstd-{LEVEL} each": changed_files,
    "casync, 64 KiB chunks, with its index": casync,
    "full bundle": full,
    "xdelta3 of the whole image": xdelta3,
    "zstd --patch-from of the whole image": patch_from,
}
