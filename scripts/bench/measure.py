"""What a command costs: wall clock, processor time and peak memory.

A command is started through /usr/bin/time. The kernel lets a program inherit the peak memory of the process that started
it, and that of an interpreter is larger than that of what is measured here; that of /usr/bin/time is 2 MiB.
"""

import os
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MEBIBYTE = 1 << 20
KIBIBYTE = 1 << 10
TIME = "/usr/bin/time"
LOG_TAIL_LINES = 12


class Failed(Exception):
    """A command that did not do what it must: the command, how it ended and what it printed."""

    def __init__(self, command, ending, output):
        self.command = shlex.join(str(word) for word in command)
        self.ending = ending
        self.output = "\n".join(output.strip().splitlines()[-LOG_TAIL_LINES:])
        super().__init__(f"{self.command}: {ending}\n{self.output}")


@dataclass
class Cost:
    """What one run of a command took."""

    wall_seconds: float
    cpu_seconds: float  # user and system, of the command and the processes it waited for
    peak_bytes: int  # the largest resident set of any one process among them
    output: str = ""


def run(command, scratch, environment=None):
    """Runs a command and measures it. Raises Failed when it ends with another status than 0."""
    peak, log = scratch / "peak", scratch / "output"
    timed = [TIME, "--quiet", "--format=%M", f"--output={peak}", *map(str, command)]
    with open(log, "wb") as out:
        begin = time.monotonic()
        process = subprocess.Popen(
            timed, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, process_group=0)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            # We are being ended: so are the command and what it started.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        wall = time.monotonic() - begin
    process.returncode = code = os.waitstatus_to_exitcode(status)
    output = log.read_text(errors="replace")
    if code != 0:
        raise Failed(command, f"ended with status {code}", output)
    return Cost(wall, usage.ru_utime + usage.ru_stime, int(peak.read_text()) * KIBIBYTE, output)


def call(command, **options):
    """Runs a command that is not measured; its standard output. Raises Failed when it ends with another status than 0."""
    command = [str(word) for word in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", **options)
    if done.returncode != 0:
        raise Failed(command, f"ended with status {done.returncode}", done.stdout + done.stderr)
    return done.stdout


def read_through(path):
    """Brings a file into the page cache, as far as it is not there."""
    buffer = bytearray(MEBIBYTE)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def synced(path):
    """Seconds that it takes to bring to the medium what a device or a file still has in memory."""
    begin = time.monotonic()
    file = os.open(path, os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)
    return time.monotonic() - begin


@dataclass
class Spread:
    """Several measurements of one thing."""

    values: list

    def text(self, digits):
        """The median, and the smallest and largest in brackets."""
        if not self.values:
            return "–"
        middle = f"{median(self.values):.{digits}f}"
        if len(self.values) == 1:
            return middle
        return f"{middle} ({min(self.values):.{digits}f}–{max(self.values):.{digits}f})"


def child_of(path, name):
    """A new folder."""
    folder = Path(path) / name
    folder.mkdir(parents=True)
    return folder
