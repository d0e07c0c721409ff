#!/usr/bin/env python3
"""What measurements share: where and when they were taken, and a section of a report that a script rewrites.

    report.py provenance            prints commit, date and machine, to follow a command in its section's first sentence
    report.py write FILE SECTION    puts stdin between the marks of that section

A section lies between <!-- NAME: begin --> and <!-- NAME: end --> and states "`COMMAND` at commit HASH, DATE, on N cores of MACHINE";
scripts/figures reads it. A tree with changes outside README.md and docs/, which no measurement reads, is refused. With FIGURES_TRIAL=1
it may be measured, and its sections are printed, not written.
"""
import functools
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TRIAL = bool(os.environ.get("FIGURES_TRIAL"))
PROVENANCE = re.compile(r"`(?P<command>[^`]+)` at commit (?P<commit>[0-9a-f]{7,40})(?P<dirty>-dirty)?, (?P<date>\d{4}-\d\d-\d\d), "
                        r"on (?P<machine>\d+ cores of .+?)(?=[.,;:]?(\s|$))")
SECTION = re.compile(r"^<!-- (?P<name>[a-z-]+): begin -->\n(?P<text>.*?)\n?^<!-- (?P=name): end -->$", re.M | re.S)


def refuse(problem):
    raise SystemExit(f"report: {problem}")


def git(*arguments):
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    if done.returncode:
        refuse(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}; a figure needs the commit that it was measured at")
    return done.stdout.strip()


@functools.cache
def provenance():
    """Commit, date and machine of a measurement, to follow its command. Ask at its start: a dirty tree is refused then, not after an hour."""
    commit, changed = git("rev-parse", "--short", "HEAD"), git("diff", "--name-only", "HEAD", "--", ".", ":!README.md", ":!docs")
    if changed and not TRIAL:
        refuse(f"{changed.splitlines()[0]}: changed since {commit}; commit first, or try without writing: FIGURES_TRIAL=1")
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    machine = cpu.group(1).replace(" Processor", "") if cpu else platform.machine()
    return (f"at commit {commit}{'-dirty' if changed else ''}, {time.strftime('%F', time.gmtime())}, "
            f"on {os.environ.get('THREADS', os.cpu_count())} cores of {machine}")


def sections(path):
    """Text of each section by its name."""
    return {found["name"]: found["text"] for found in SECTION.finditer(path.read_text())}


def write_section(path, name, text):
    """Puts the text between the report's marks of that name, at its end where it has none."""
    text = text.strip()
    if TRIAL:
        print(f"{path}: {name}, not written:\n{text}")
        return
    if not PROVENANCE.search(text):
        refuse(f"{path}: {name}: no \"`COMMAND` at commit HASH, DATE, on N cores of MACHINE\" in the new section")
    replace(path, name, text)


def replace(path, name, text):
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text}\n{end}"
    report = path.read_text() if path.exists() else ""
    if begin in report:
        report = report[:report.index(begin)] + section + report[report.index(end) + len(end):]
    else:
        report = (report.rstrip("\n") + "\n\n" + section + "\n").lstrip("\n")
    path.write_text(report)


def main(arguments):
    match arguments:
        case ["provenance"]:
            print(provenance())
        case ["write", path, name]:
            write_section(pathlib.Path(path), name, sys.stdin.read())
        case _:
            raise SystemExit(__doc__.strip())


if __name__ == "__main__":
    main(sys.argv[1:])
