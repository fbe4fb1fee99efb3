"""The page with the results, docs/benchmarks.md: sections that programs write, between marks."""

import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"


def write(section, text):
    """Puts a text into a section of the page; the rest stays as it is."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- begin {section} -->\n", f"<!-- end {section} -->"
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE} has no section {section}")
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    PAGE.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def output(*command):
    """What a command prints, or nothing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def machine():
    """What the measurement ran on, in words."""
    info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.*)$", info, re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    system = re.search(r'^PRETTY_NAME="?(.*?)"?$', pathlib.Path("/etc/os-release").read_text(), re.MULTILINE)
    return (f"{os.cpu_count()} processors ({model.group(1) if model else platform.machine()}), "
            f"{memory:.0f} GiB of memory, {system.group(1) if system else 'Linux'}, "
            f"kernel {platform.release()}")


def load():
    """The load of the last minute."""
    return os.getloadavg()[0]
