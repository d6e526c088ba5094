"""RAUC as a contestant: own keys, one bundle whose squashfs is not compressed, `rauc service` on a bus of its own.

Debian's RAUC installs only through its service, so a fresh service is started before each measurement and ended after it;
processor time and peak memory are those of the client and of the service together.
"""

import os
import subprocess
import time
from pathlib import Path

from measure import KIBIBYTE, Failed, call, child_of, run

UNCOMPRESSED = "-noI -noD -noF -noX -no-progress"
READY_SECONDS = 20
ENDED_SECONDS = 20

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""

SYSTEM = """[system]
compatible=bench
bootloader=noop
mountprefix={folder}/mount
statusfile={folder}/status

[keyring]
path={folder}/certificate.pem

[slot.system.0]
device={running}
type=raw
bootname=a

[slot.system.1]
device={target}
type=raw
bootname=b
"""

MANIFEST = """[update]
compatible=bench
version=1

[bundle]
format={format}

[image.system]
filename=system.img
"""


class Rauc:
    """`rauc install` of one bundle format."""

    def __init__(self, bundle_format, image, running, target, work):
        self.name = f"RAUC, {bundle_format}"
        self.bundle_format = bundle_format
        self.image = image
        self.folder = child_of(work, f"rauc-{bundle_format}")
        self.bundle = self.folder / "bundle.raucb"
        (self.folder / "mount").mkdir()
        (self.folder / "bus.conf").write_text(BUS.format(folder=self.folder))
        (self.folder / "system.conf").write_text(SYSTEM.format(folder=self.folder, running=running, target=target))
        self.environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.folder}/bus"}

    def prepare(self):
        """Makes keys and bundle."""
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        call(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench", "-days", "30",
              "-keyout", key, "-out", certificate])
        content = child_of(self.folder, "content")
        os.link(self.image, content / "system.img")
        (content / "manifest.raucm").write_text(MANIFEST.format(format=self.bundle_format))
        call(["rauc", "bundle", "--cert", certificate, "--key", key, "--keyring", certificate,
              f"--mksquashfs-args={UNCOMPRESSED}", content, self.bundle])

    def install(self, scratch):
        """One measured install."""
        (self.folder / "status").unlink(missing_ok=True)
        command = ["dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--nopidfile"]
        with Daemon(command, scratch / "bus.log") as bus:
            bus.wait_until((self.folder / "bus").exists)
            service = ["rauc", f"--conf={self.folder}/system.conf", "service", "--override-boot-slot=a"]
            with Daemon(service, scratch / "service.log", self.environment) as daemon:
                daemon.wait_until(self.service_answers)
                return self.measured(daemon, scratch)

    def measured(self, daemon, scratch):
        before = daemon.cpu_seconds()
        try:
            cost = run(["rauc", "install", self.bundle], scratch, self.environment)
        except Failed as failed:
            said = [line for line in failed.output.splitlines() if "LastError" in line]
            raise Failed(["rauc", "install", str(self.bundle)], failed.ending, "\n".join(said) or failed.output) from None
        cost.cpu_seconds += daemon.cpu_seconds() - before
        cost.peak_bytes += daemon.peak_bytes()
        return cost

    def service_answers(self):
        done = subprocess.run(["rauc", "status"], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.returncode == 0


class Daemon:
    """A program that runs until the end of a `with` block, and is ended there by its own number."""

    def __init__(self, command, log, environment=None):
        self.command, self.log, self.environment = command, log, environment

    def __enter__(self):
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(ENDED_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_until(self, ready):
        """Waits for a sign of readiness; raises Failed when the daemon ends or gives none in time."""
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(self.command, f"was not ready within {READY_SECONDS} s", self.log.read_text(errors="replace"))
            time.sleep(0.02)

    def cpu_seconds(self):
        """Processor time so far: the daemon's own by its clock, that of programs it ran in ticks (10 ms)."""
        own = time.clock_gettime(~self.process.pid << 3 | 2)
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return own + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self):
        """Largest resident set so far; the pages of a file that is mapped count."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * KIBIBYTE
