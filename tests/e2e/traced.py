#!/usr/bin/env python3
"""Paths that bertd's own process touched: traced.py STATE_DIR USERS_FOLDER STRACE... -- ALLOWED...; strace -f -y with its file calls, forks and
setuid. Fails where a path is not allowed (a prefix ends with "/" or "-"), lies in the users' folder, or has a name in a job's folder that is
not bertd's own.
Processes are left out from the moment in which they become a user, their children as well."""
import os
import re
import sys

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>)?(.*)$")
AT = re.compile(r"(?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?\"((?:[^\"\\]|\\.)*)\"")
OWN = re.compile(r"(spec\.yaml|attempt-\d+(/(attempt\.json|lock|tombstone|exit\.json|shim\.log))?)?$")
FORKS = ("fork", "vfork", "clone", "clone3")


def paths(name, rest):
    """The call's paths, absolute where strace says of what folder."""
    if name == "execve":
        return [re.match(r"\(\"([^\"]*)\"", rest).group(1)] if rest.startswith('("') else []
    found = AT.findall(rest.split(" = ")[0])
    if name.startswith("readlink"):
        found = found[:1]  # the other is what the link says
    return [os.path.normpath(os.path.join(base or "/", path)) for base, path in found if path]


def own_lines(lines):
    """(name, rest) of each call of a process that is not a user."""
    parents, users, seen = {}, set(), set()
    calls = [m.groups() for m in map(CALL.match, lines) if m]
    for pid, name, rest in calls:
        child = re.search(r" = (\d+)(?:<[^>]*>)?$", rest)
        if name in FORKS and child:
            parents[child.group(1)] = pid
    for pid, name, rest in calls:
        if pid not in seen and parents.get(pid) in users:
            users.add(pid)
        seen.add(pid)
        if pid not in users and name not in FORKS and name != "getcwd":
            yield name, rest
        if name in ("setuid", "setresuid") and not re.match(r"\(0", rest):
            users.add(pid)


def wrong(path, state, theirs, allowed):
    job = re.match(re.escape(state) + r"/jobs/\d+/(.*)$", path)
    if job and not OWN.match(job.group(1)):
        return True
    return path.startswith(theirs) or not any(path == p or p != "/" and p[-1] in "/-" and f"{path}/".startswith(p) for p in allowed)


def main():
    end = sys.argv.index("--")
    state, theirs, traces, allowed = sys.argv[1], sys.argv[2], sys.argv[3:end], sys.argv[end + 1:]
    n, bad = 0, set()
    for trace in traces:
        with open(trace, errors="replace") as f:
            for name, rest in own_lines(f):
                for path in paths(name, rest):
                    n += 1
                    if wrong(path, state, theirs, allowed):
                        bad.add(f"{name} {path}")
    print(*sorted(bad), sep="\n")
    print(f"{n} paths")
    sys.exit(bool(bad) or n < 100)


main()
