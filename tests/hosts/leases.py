#!/usr/bin/env python3
"""What a head spends on its leases: jobs of `sleep` over 4, 17 and 64 hosts, which are names of two hosts of the bed. A section of
docs/scaling.md for scripts/test-hosts --leases."""
import subprocess
import sys
import time

import bed as beds

sys.path.insert(0, str(beds.ROOT / "tests"))
import report  # noqa: E402

COUNTS, SECONDS = (3, 16, 63), 30  # a job has 64 hosts at most
SPEC = """name: leases
kind: command
command: [sleep, "600"]
resources: {{ranks: 1, hosts: [{hosts}], network: 10.77.0.0/24}}
"""
DROP_IN = """[Service]
ExecStart=
ExecStart=/usr/sbin/bertd --state-dir /var/lib/bertd --socket /run/bertd/bertd.sock --launcher systemd --slots 128
"""


def prepare(bed):
    """Names of h2 and h3 that end in an even or odd number, known to all; slots for all of them."""
    names = "".join(f"10.77.0.{2 + i % 2} n{i:02}\n" for i in range(max(COUNTS)))
    keys = bed.file(1, "/home/alice/.ssh/known_hosts").read_text()
    bed.file(1, "/home/alice/.ssh/known_hosts").write_text(keys + ",".join(f"n{i:02}" for i in range(max(COUNTS))) + " " + keys.split(" ", 1)[1])
    for host in range(1, bed.count + 1):
        with bed.file(host, "/etc/hosts").open("a") as file:
            file.write(names)
        bed.write(host, "/etc/systemd/system/bertd.service.d/slots.conf", DROP_IN)
        with bed.file(host, "/etc/ssh/sshd_config.d/many.conf").open("w") as file:
            file.write("MaxStartups 200\n")
        bed.run(host, "sh", "-c", "systemctl daemon-reload; systemctl restart bertd ssh")


def spent(names):
    """Processor seconds and resident bytes of the head's processes of these names."""
    ticks = pages = 0
    for process in beds.processes():
        if process.host == "1" and process.name in names:
            fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
            ticks, pages = ticks + int(fields[11]) + int(fields[12]), pages + int(fields[21])
    return ticks / beds.TICKS, pages * 4096


def sent():
    """Bytes over the head's cable, both ways."""
    files = [f"/sys/class/net/p1/statistics/{way}_bytes" for way in ("rx", "tx")]
    return sum(map(int, subprocess.run(["ip", "netns", "exec", f"{beds.DIR.name}-switch", "cat", *files], check=True, capture_output=True, text=True).stdout.split()))


def measure(bed, count):
    bed.write(1, "/home/alice/job.yaml", SPEC.format(hosts=", ".join(["h1"] + [f"n{i:02}" for i in range(count)])))
    begin = time.monotonic()
    job = beds.Job(bed, 1, bed.alice(1, "bertctl submit job.yaml").stdout.strip())
    submitted = time.monotonic() - begin
    sleeping = lambda: len([p for p in beds.processes(beds.ALICE) if p.words[:1] == ["sleep"]]) == count + 1  # noqa: E731
    beds.wait(sleeping, f"{count} leases: not every rank runs", 120)
    started = time.monotonic() - begin - submitted
    time.sleep(5)
    before, traffic = [spent(names)[0] for names in (("bertd-gang",), ("ssh",), ("bertd-shim",), ("bertd",))], sent()
    time.sleep(SECONDS)
    after, traffic = [spent(names)[0] for names in (("bertd-gang",), ("ssh",), ("bertd-shim",), ("bertd",))], sent() - traffic
    memory = spent(("bertd-gang", "ssh"))[1]
    shares = [f"{100 * (b - a) / SECONDS:.2f}" for a, b in zip(before, after)]
    begin = time.monotonic()
    job.cancel()
    beds.wait(lambda: not bed.gang(), f"{count} leases do not end", 60)
    return [str(count), f"{submitted:.1f}", f"{started:.1f}", *shares, f"{traffic / SECONDS / count:.0f}", f"{memory / 1e6:.0f}", f"{time.monotonic() - begin:.1f}"]


def main():
    where = report.provenance()
    lines = ["| leases | submit with its probes, s | to the last rank, s | bertd-gang, % of a core | its ssh, % | shim, % | bertd, % | bytes/s a lease, both ways | MB of gang and ssh | cancel, s |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    with beds.Bed(3) as bed:
        prepare(bed)
        for count in COUNTS:
            lines.append("| " + " | ".join(measure(bed, count)) + " |")
            print(lines[-1], flush=True)
    report.write_section(beds.ROOT / "docs/scaling.md", "leases", report.section("Many hosts: what the head spends",
        f"At rest, {COUNTS[-1]} hosts cost the head {{{COUNTS[-1]} |::3}} % of a core and {{{COUNTS[-1]} |::8}} MB for `bertd-gang`, {{{COUNTS[-1]} |::4}} % for its ssh connections, and {{{COUNTS[-1]} |::7}} bytes a second of network for each host.",
        "\n".join(lines), "\n".join([
        f"`scripts/test-hosts --leases` {where}: a command `sleep` on so many hosts, which are names of two hosts in containers of the same machine: its cores",
        f"run the lending side, too (sshd, the leashes, their units), so starts are slower than on separate hosts. Shares and bytes over {SECONDS} s of rest."])))


if __name__ == "__main__":
    main()
