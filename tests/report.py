#!/usr/bin/env python3
"""What measurements share: where and when they were taken, and a section of a report that a script rewrites.

    report.py provenance            prints commit, date and machine, to follow a command in its section's first sentence
    report.py section TITLE FINDING HOW     prints a section: the finding, the table on stdin, how it was measured
    report.py write FILE SECTION    puts stdin between the marks of that section

A section is between <!-- NAME: begin --> and <!-- NAME: end -->. It opens with the finding, then come its tables, then how it was measured, which is
how to repeat it: "To repeat it: `COMMAND` at commit HASH, DATE, on N cores of MACHINE", which scripts/figures reads. In a FINDING, {ROW::COLUMN} is a
cell of the table, ROW being how the row begins and COLUMN a number or the heading; {ROW::COLUMN::REGEX} is the group that matches in the cell. A tree with changes outside README.md and docs/, which no measurement reads, is refused. With FIGURES_TRIAL=1
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
SECTION = re.compile(r"^<!-- (?P<name>[a-z0-9-]+): begin -->\n(?P<text>.*?)\n?^<!-- (?P=name): end -->$", re.M | re.S)


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


def cell(table, row, column, pattern=r"(.+)"):
    """What the pattern's group finds in a cell of a table's text; the row by the begin of its line, the column by its number or heading."""
    lines = [line.strip().strip("|") for line in table.splitlines() if line.startswith("|")]
    heading = [name.strip() for name in lines[0].split("|")] if lines else []
    at = heading.index(column) if column in heading else int(column) if str(column).isdecimal() else -1
    for line in lines[1:]:
        cells = [text.strip() for text in line.split("|")]
        if line.strip().startswith(row) and 0 <= at < len(cells) and (found := re.search(pattern, cells[at])):
            return found.group(1)
    refuse(f"no row '{row}' with '{pattern}' in column {column}")


def section(title, finding, table, how):
    """The text of a section."""
    finding = re.sub(r"\{([^{}]+?)::([^{}]+?)(?:::([^{}]+))?\}", lambda m: cell(table, m[1], m[2], m[3] or r"(.+)"), finding)
    return "\n\n".join(text.strip() for text in (f"## {title}\n{finding}" if title else finding, table, f"To repeat it: {how}"))


def misplaced(text):
    """What is wrong with the order of a section, "" if nothing is."""
    paragraphs = re.split(r"\n\s*\n", re.sub(r"\A(#+ .*\n+)*", "", text.strip()))
    table, measured = re.search(r"^\|", text, re.M), PROVENANCE.search(text)
    if not re.match(r"[\w*`—–-]", paragraphs[0]) or paragraphs[0].startswith(("- ", "| ")) or PROVENANCE.search(paragraphs[0]):
        return "does not open with its finding"
    if measured and table and measured.start() < table.start():
        return "states how it was measured before its table"
    return ""


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
    if problem := misplaced(text):
        refuse(f"{path}: {name}: {problem}")
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
        case ["section", title, finding, how]:
            print(section(title, finding, sys.stdin.read(), how))
        case ["write", path, name]:
            write_section(pathlib.Path(path), name, sys.stdin.read())
        case _:
            raise SystemExit(__doc__.strip())


if __name__ == "__main__":
    main(sys.argv[1:])
