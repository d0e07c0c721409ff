#!/usr/bin/env python3
"""What holds of jobs over several hosts besides their faults: keys, refusals, drained hosts, stopped processes, fewer hosts. Prints TAP.

    cases.py [NAME]...     only these
"""
import contextlib
import signal
import sys
import time

import bed as beds
import trial
from short import leases, ok
import short

TIMEOUT = 8
LINE = 'restrict,command="bertctl lease --only" '
AUTHORIZED = "/home/alice/.ssh/authorized_keys"


def spec(name, hosts, use, more="", **options):
    return trial.spec(name, hosts, use, timeout=TIMEOUT, batch=16, more=more, **options)


@contextlib.contextmanager
def changed(bed, host, path, change):
    """A file of a host is another one for a while."""
    file = bed.file(host, path)
    was = file.read_text()
    file.write_text(change(was))
    try:
        yield
    finally:
        file.write_text(was)


@contextlib.contextmanager
def done_and_undone(bed, host, line, undo):
    bed.run(host, "sh", "-c", line)
    try:
        yield
    finally:
        bed.run(host, "sh", "-c", undo)


def refused(bed, what, status, words, text, head=1, path=""):
    """A submit that fails at once, with lines that have all of these words."""
    bed.write(head, "/home/alice/refused.yaml", text)
    answer = bed.alice(head, f"PATH={path}:$PATH bertctl submit refused.yaml" if path else "bertctl submit refused.yaml", check=False)
    right = answer.returncode == status and answer.stderr.count("\n") >= 1 and all(word in answer.stderr for word in words)
    ok(f"refused: {what}", right, f"exit {answer.returncode}, expected {status} and {words}: {answer.stderr}{answer.stdout}")
    if answer.returncode == 0:
        beds.Job(bed, head, answer.stdout.strip()).cancel()


def waits(bed, what, words, text):
    """A submit that succeeds; the job waits, and its reason has these words."""
    job = bed.submit(1, text)
    try:
        found = beds.wait(lambda: (lambda reason: all(word in reason for word in words) and reason)(job.fields().get("reason") or ""),
                          f"{what}: the reason has not {words}", 60)
        fields = job.fields()
        ok(f"waits: {what}", fields["state"] in ("queued", "backoff", "starting", "running"), found)
        return job
    except beds.Failed as problem:
        ok(f"waits: {what}", False, f"{problem}\n{job.story()}")
        return job


def forced_key(bed):
    for host in (2, 3):
        file = bed.file(host, AUTHORIZED)
        file.write_text(LINE + file.read_text())
    try:
        said = bed.alice(1, "ssh h2 id", check=False)
        ok("a forced key runs no other command", said.returncode == 2 and not said.stdout, said.stderr)
        job = bed.submit(1, spec("forced", ["h1", "h2", "h3"], 3, steps=60))
        ok("a job runs by it", job.finish(120)["state"] == "done")
        said = bed.alice(1, "bertctl list -H h1,h2").stdout
        ok("list -H shows the hosts' jobs", "HOST" in said and "leased to h1:" in said, said)
        answer = bed.alice(1, "bertctl status -H h2,h3 4242", check=False)
        ok("status -H of a job that none has", answer.returncode == 3 and "h3: " in answer.stderr, answer.stderr)
    finally:
        for host in (2, 3):
            file = bed.file(host, AUTHORIZED)
            file.write_text(file.read_text().removeprefix(LINE))


def drained(bed):
    began = trial.Trial(bed, "drained", ["h1", "h2", "h3"], 2, timeout=TIMEOUT, batch=16, moment=50)
    bed.run(2, "bertctl", "drain", "--move", "--reason", "new disk")
    beds.wait(lambda: began.job.fields().get("hosts_in_use") == ["h1", "h3"], "no spare takes h2's place", 60)
    fields = began.job.finish()
    ok("a host is drained: the spare takes over", True)
    ok("no step is lost", fields["lost_steps"] == 0, fields["lost_steps"])
    said = [event["reason"] for event in began.job.events() if event["reason"]]
    ok("its reason reaches the head", any("new disk" in reason and "h2" in reason for reason in said), said)
    said = bed.alice(2, "bertctl submit -- true", check=False)
    job = waits(bed, "a host that is drained", ["h2", "new disk"], spec("waiting", ["h1", "h2"], 2, steps=60))
    bed.run(2, "bertctl", "undrain")
    ok("undrained, it runs", job.finish(180)["state"] == "done")


def stopped(bed):
    """SIGSTOP of a part: its lease ends, and the job goes on with the spare."""
    for name, host in (("bertd-leash", 2), ("bertd-shim", 2), ("ssh", 1), ("bertd-gang", 1)):
        began = trial.Trial(bed, f"stopped-{name}", ["h1", "h2", "h3"], 2, timeout=TIMEOUT, batch=16, moment=50)
        old = [p for p in bed.gang() if p.host == "2"]
        victim = beds.find(host, name)[-1]
        victim.kill(signal.SIGSTOP)
        begin = time.monotonic()
        try:
            beds.wait(lambda: not {p.key() for p in bed.gang()} & {p.key() for p in old}, f"{name} stopped: the lease does not end", 60)
            took = time.monotonic() - begin
            ok(f"{name} on h{host} stopped: the lease of h2 is empty within {TIMEOUT} + 5 s", took <= TIMEOUT + 5.5, f"{took:.1f} s")
            if name == "bertd-gang":
                victim.kill(signal.SIGCONT)
            ok("the job is done", began.job.finish(180)["state"] == "done")
        except beds.Failed as problem:
            ok(f"{name} on h{host} stopped", False, f"{problem}\n{began.job.story()}")
            began.job.cancel()
        with contextlib.suppress(ProcessLookupError):
            victim.kill(signal.SIGCONT)
        beds.wait(lambda: not bed.gang(), "processes are left", 60)
    began = trial.Trial(bed, "stopped-orted", ["h1", "h2"], 2, timeout=TIMEOUT, batch=16, moment=50)
    beds.find(2, "orted")[-1].kill(signal.SIGSTOP)
    bed.alice(1, "bertctl cancel --now stopped-orted")
    ok("orted stopped, the job cancelled: nothing is left within 5 s", beds.wait(lambda: not bed.gang(), "processes are left", 6), "\n".join(map(str, bed.gang())))


def refusals(bed):
    two, three = spec("refused", ["h1", "h2"], 2), spec("refused", ["h1", "h2", "h3"], 3)
    with changed(bed, 1, "/home/alice/.ssh/known_hosts", lambda text: ""):
        refused(bed, "a host key that is not known", 1, ["h2", "host key"], two)
    with done_and_undone(bed, 1, "mv ~alice/.ssh/id_ed25519 ~alice/.ssh/away", "mv ~alice/.ssh/away ~alice/.ssh/id_ed25519"):
        refused(bed, "no key", 1, ["h2", "key"], two)
    with done_and_undone(bed, 1, "cp -p ~alice/.ssh/id_ed25519 ~alice/.ssh/away; ssh-keygen -q -p -N secret -f ~alice/.ssh/id_ed25519; chown alice: ~alice/.ssh/*",
                         "mv ~alice/.ssh/away ~alice/.ssh/id_ed25519"):
        refused(bed, "a key with a passphrase", 1, ["h2", "passphrase"], two)
    with changed(bed, 1, "/etc/nsswitch.conf", lambda text: text.replace("hosts:", "hosts: files\n#")):
        refused(bed, "a host without an address", 1, ["nowhere"], spec("refused", ["h1", "nowhere"], 2))
    with changed(bed, 2, "/etc/hosts", lambda text: text.replace("10.77.0.3 h3", "127.0.1.1 h3")):
        refused(bed, "a name that is a loopback on another host", 1, ["h2", "h3", "127.0.1.1"], three)
    with done_and_undone(bed, 2, "gpasswd -d alice bertd >/dev/null", "gpasswd -a alice bertd >/dev/null"):
        refused(bed, "not in group bertd there", 1, ["h2", "bertd"], two)
    with done_and_undone(bed, 2, "mv /srv/corpus/train.bin /srv/corpus/away", "mv /srv/corpus/away /srv/corpus/train.bin"):
        refused(bed, "a corpus that is missing there, with the line that copies it", 1, ["h2", "/srv/corpus/train", "rsync"], two)
    with done_and_undone(bed, 2, "cp -p /srv/corpus/train.bin /srv/corpus/away; echo >>/srv/corpus/train.bin", "mv /srv/corpus/away /srv/corpus/train.bin"):
        refused(bed, "a corpus that differs there", 1, ["h2", "/srv/corpus/train"], two)
    refused(bed, "this host is not one of them", 2, ["h1", "ssh h2 bertctl submit"], spec("refused", ["h2", "h3"], 2))
    refused(bed, "a network that no host has", 1, ["10.99.0.0/16"], spec("refused", ["h1", "h2"], 2, more=", network: 10.99.0.0/16"))
    with done_and_undone(bed, 2, "ip route add blackhole 10.77.0.3/32", "ip route del blackhole 10.77.0.3/32"):
        refused(bed, "no TCP between two others", 1, ["h2", "h3"], three)
    bed.write(1, "/home/alice/bin/only-here", "#!/bin/sh\n")
    bed.alice(1, "chmod +x bin/only-here")
    command = "kind: command\ncommand: [{}]\nresources: {{ranks: 1, hosts: [h1, h2]}}\n"
    refused(bed, "a program that only the head has", 1, ["h2", "/home/alice/bin/only-here", "install"], command.format("./bin/only-here"))
    refused(bed, "the same, found in PATH", 1, ["h2", "only-here", "PATH"], command.format("only-here"), path="/home/alice/bin")
    with done_and_undone(bed, 1, "mkdir /tmp/there; cp /bin/true /tmp/there", "rm -r /tmp/there"):
        refused(bed, "a program below /tmp, which is another for a job there", 1, ["h2", "/tmp/there/true", "/tmp"], command.format("/tmp/there/true"))
    refused(bed, "a command that starts ranks itself", 2, ["give the program alone"],
            "kind: command\ncommand: [mpirun, hostname]\nresources: {ranks: 1, hosts: [h1, h2]}\n")


def away(bed):
    text = spec("waiting", ["h1", "h2"], 2, steps=60)
    with done_and_undone(bed, 2, "systemctl stop bertd bertd.socket", "systemctl start bertd.socket bertd"):
        job = waits(bed, "a host whose bertd is stopped", ["h2", "bertd"], text)
    ok("started again, it runs", job.finish(180)["state"] == "done")
    bed.cut(2)
    job = waits(bed, "a host that is cut off", ["h2"], text)
    bed.join(2)
    ok("with its cable it runs", job.finish(180)["state"] == "done")
    holder = bed.alice(2, "bertctl submit --name holder --ranks 2 -- sleep 1000").stdout.strip()
    job = waits(bed, "a host whose slots are taken, by whom", ["h2", "alice"], text)
    bed.run(2, "bertctl", "cancel", "--now", holder)
    ok("free again, it runs", job.finish(180)["state"] == "done")


def fewer(bed):
    began = trial.Trial.of(bed, "fewer", spec("fewer", ["h1", "h2"], 2, steps=1500).replace("host_cooldown_sec", "shrink: true, host_cooldown_sec"), 50)
    bed.cut(2)
    beds.wait(lambda: began.job.fields().get("hosts_in_use") == ["h1"], "it does not start with fewer", 90)
    ok("with restart.shrink it goes on with fewer hosts", began.job.trains(began.job.step()))
    bed.join(2)
    bed.alice(1, "bertctl pause fewer")
    beds.wait(lambda: began.job.state() == "paused", "it is not paused", 60)
    bed.alice(1, "bertctl resume --use 2 fewer")
    beds.wait(lambda: began.job.fields().get("hosts_in_use") == ["h1", "h2"], "resume --use 2 uses not both", 90)
    ok("resume --use brings the other back", began.job.trains(began.job.step()))
    began.job.cancel()


def alone(bed):
    with done_and_undone(bed, 2, "systemctl stop bertd bertd.socket; systemctl disable bertd bertd.socket >/dev/null 2>&1; rm -f /lib/systemd/system/bertd.s* /run/bertd/bertd.sock; systemctl daemon-reload", "true"):
        job = bed.submit(1, spec("alone", ["h1", "h2"], 2, steps=60, more=", unmanaged: true"))
        try:
            ok("unmanaged: a host without a bertd is used", job.finish(120)["state"] == "done")
        except beds.Failed as problem:
            ok("unmanaged: a host without a bertd is used", False, problem)


CASES = [forced_key, drained, stopped, refusals, away, fewer, alone]


def main():
    with beds.Bed(3) as bed:
        return short.run(bed, CASES, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
