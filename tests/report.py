"""What measurements in Python share: where and when they were taken, and a section of a report in docs/ that a script rewrites."""
import os
import pathlib
import platform
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def provenance():
    """Commit, date and machine of a measurement, to go into a sentence."""
    def git(*arguments):
        return subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    machine = cpu.group(1).replace(" Processor", "") if cpu else platform.machine()
    return f"at commit {git('describe', '--always', '--dirty')}, {time.strftime('%F')}, on {os.environ.get('THREADS', os.cpu_count())} cores of {machine}"


def write_section(path, name, text):
    """Puts the text between the report's marks of that name, at its end where it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    report = path.read_text() if path.exists() else ""
    if begin in report:
        report = report[:report.index(begin)] + section + report[report.index(end) + len(end):]
    else:
        report = report.rstrip("\n") + "\n\n" + section + "\n"
    path.write_text(report)
