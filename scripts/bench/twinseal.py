"""Our own two programs: keys, recipes, bundles and devices for the measurements."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from measure import call, child_of, run

RECIPE = """compatible = "bench"
version = "{version}"
anti-rollback = {number}
source = "bench"
builder = "bench"
compression = "{compression}"
bases = [{bases}]
sign = ["{key}"]
{content}
"""

DEVICE = """compatible = "bench"
state = "state"
trusted-keys = ["{public}"]
verity = "absent"
running = "running"
{content}
"""


@dataclass
class Maker:
    """A key pair, and the bundles that it signs."""

    programs: Path
    folder: Path

    def __post_init__(self):
        call([self.programs / "twinseal-bundle", "keygen", "--out", self.folder, "--name", "release"])

    @property
    def key(self):
        return self.folder / "release.key"

    @property
    def public(self):
        return self.folder / "release.pub"

    def bundle(self, number, content, compression="none", bases=()):
        """Builds version NUMBER with the given rest of a recipe, and routes from the BASES; the bundle's file."""
        recipe, bundle = self.folder / f"release-{number}.toml", self.folder / f"release-{number}.tseal"
        recipe.write_text(RECIPE.format(
            version=f"{number}.0.0", number=number, compression=compression, key=self.key, content=content,
            bases=", ".join(f'"{base}"' for base in bases)))
        call([self.programs / "twinseal-bundle", "build", recipe, "--out", bundle])
        return bundle


@dataclass
class Device:
    """A device in a folder, set A running."""

    programs: Path
    folder: Path

    def describe(self, public, content):
        """Writes its description."""
        (self.folder / "running").write_text("a\n")
        (self.folder / "device.toml").write_text(DEVICE.format(public=public, content=content))

    def command(self, *words):
        """The agent's command line on this device."""
        return [self.programs / "twinseal", "--device", self.folder / "device.toml", *words]

    def provision(self, bundle, *options):
        """Fills it for the first time."""
        call(self.command("device", "init", bundle, *options))

    def install(self, bundle, options, scratch):
        """One measured install; what it cost and what it says of itself."""
        cost = run(self.command("--json", "install", bundle, *options), scratch)
        events = [json.loads(line) for line in cost.output.splitlines() if line.startswith("{")]
        return cost, next(event for event in events if event["event"] == "installed")


class Twinseal:
    """`twinseal install` into an image slot, as a contestant."""

    def __init__(self, name, options, image, running, target, work, programs):
        self.name, self.options = name, options
        self.image = image
        self.slots = f'image-only = true\n\n[slots.system]\na = "{running}"\nb = "{target}"'
        self.folder = child_of(work, name.replace(" ", "-"))
        self.programs = programs
        self.device = Device(programs, self.folder)
        self.said = []

    def prepare(self):
        """Makes key, bundles and a device that was provisioned with a small image."""
        maker = Maker(self.programs, self.folder)
        small = self.folder / "small.img"
        small.write_bytes(b"\x5a" * 4096)
        image = '\n[[image]]\nslot = "system"\nfile = "{}"'
        first = maker.bundle(1, image.format(small))
        self.bundle = maker.bundle(2, image.format(self.image))
        self.device.describe(maker.public, self.slots)
        self.device.provision(first)
        shutil.copytree(self.folder / "state", self.folder / "provisioned")

    def install(self, scratch):
        """One measured install, on a device that was just provisioned."""
        shutil.rmtree(self.folder / "state")
        shutil.copytree(self.folder / "provisioned", self.folder / "state")
        cost, said = self.device.install(self.bundle, self.options, scratch)
        self.said.append(said)
        return cost
