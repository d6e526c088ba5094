"""The results: Markdown that is readable in a terminal, printed as it comes and kept in one file."""

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path


class Report:
    """Prints paragraphs and tables and remembers them for the file."""

    def __init__(self, file):
        self.file = file
        self.parts = []

    def say(self, text):
        """Adds a paragraph or a heading."""
        print(text, end="\n\n", flush=True)
        self.parts.append(text)

    def table(self, head, rows):
        """Adds a table; the first column is text, the others are figures."""
        lines = [head, *rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

        def row(cells):
            padded = [cells[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
            return "| " + " | ".join(padded) + " |"

        rule = "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]) + "|"
        self.say("\n".join([row(head), rule, *map(row, rows)]))

    def keep(self):
        """Writes the file, whole or not at all."""
        new = self.file.with_suffix(".new")
        new.write_text("\n\n".join(self.parts) + "\n")
        new.replace(self.file)


def machine(folder):
    """What was measured on, as a list."""
    memory = int(field(Path("/proc/meminfo").read_text(), "MemTotal:")) // 1024
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    flags = Path("/proc/cpuinfo").read_text()
    sha = "with" if " sha_ni" in flags or " sha2" in flags else "without"
    where = first_line(["findmnt", "--noheadings", "--output=FSTYPE", "--target", str(folder)])
    return "\n".join([
        f"- when: {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC; load averages at the start: {load}",
        f"- processor: {os.cpu_count()} cores, {model(flags)}, {sha} SHA-256 instructions; {memory} MiB of memory",
        f"- kernel: {platform.release()} {platform.machine()}; file system: {where}",
    ])


def programs(folder):
    """Versions and sizes of the programs that are compared, as a list."""
    lines = [
        f"- {first_line(['dd', '--version'])}; {first_line(['openssl', 'version'])}",
        f"- rauc {package('rauc')}; swupdate {package('swupdate')}; squashfs-tools {package('squashfs-tools')}",
    ]
    for name in ("twinseal", "twinseal-bundle"):
        program = folder / name
        if program.exists():
            lines.append(f"- {first_line([str(program), '--version'])}: {program.stat().st_size:,} bytes")
    return "\n".join(lines)


def field(text, name):
    """The word after a name in a file of /proc."""
    words = text.split()
    return words[words.index(name) + 1]


def model(cpuinfo):
    """The processor's name."""
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith(("model name", "CPU part"))]
    return names[0] if names else "of an unknown model"


def package(name):
    """Version of a Debian package."""
    return first_line(["dpkg-query", "-W", "-f", "${Version}", name])


def first_line(command):
    """The first line that a command prints, or "not there"."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not there"
    return (done.stdout.splitlines() or [""])[0].strip()
