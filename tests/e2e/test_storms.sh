#!/bin/bash
# No job fills a host: the floor and the number of starts an hour, a budget of 70, what is kept of many attempts and of many ended jobs.
# bertd is on clocks that are moved (tests/fault/libclock.c), jobs and shims are on the kernel's.
. "$(dirname "$0")/lib.sh"
head -c 16 /dev/zero >"$work/clock"
cat >"$work/bertd" <<END2
#!/bin/sh
export ASAN_OPTIONS="\$ASAN_OPTIONS:verify_asan_link_order=0" CLOCK_OFFSET=$work/clock TZ=XYZ-5:30
exec env LD_PRELOAD=$(preloaded clock) '$BERTD' "\$@"
END2
chmod +x "$work/bertd"
BERTD=$work/bertd
start_bertd
# clock.py FILE WALL BOOT: moves the clocks by so many seconds; bertd, whose timers are the kernel's, does not wake up by that.
# clock.py FILE SECONDS LIMIT JOB EXPRESSION: until the expression of the job's fields holds, so many seconds each time that it is in back-off.
cat >"$work/clock.py" <<'END2'
import json, os, struct, subprocess, sys, time
def move(wall, boot):
    with open(sys.argv[1], "r+b") as f:
        moved = struct.pack("qq", *[a + int(b) for a, b in zip(struct.unpack("qq", f.read(16)), (wall, boot))])
        f.seek(0)
        f.write(moved)
if len(sys.argv) == 4:
    sys.exit(move(*sys.argv[2:]))
end = time.time() + int(sys.argv[3])
while time.time() < end:
    job = json.loads(subprocess.run([os.environ["BERTCTL"], "status", "--json", sys.argv[4]], stdout=subprocess.PIPE).stdout or "{}")
    if job and eval(sys.argv[5], {}, job):
        sys.exit()
    if job.get("state") == "backoff":
        move(sys.argv[2], sys.argv[2])
    else:
        time.sleep(0.02)
sys.exit("the limit is over")
END2
forward() { python3 "$work/clock.py" "$work/clock" "$1" "${2:-$1}" && answers; } # WALL [BOOT]: and bertd is asked something, which wakes it up
spec() { printf 'name: %s\nkind: command\ncommand: [%s]\nrestart: {max_without_progress: %d, backoff_sec: [0, 0]}\n' "$1" "$3" "$2" >"$work/$1.yaml"; }
moves_on() { BERTCTL=$BERTCTL python3 "$work/clock.py" "$work/clock" "$1" $((90 * patience)) "$2" "$3"; } # SECONDS JOB EXPRESSION
diagnose() { "$BERTCTL" list --all; "$BERTCTL" status "$job"; "$BERTCTL" events "$job" | tail -n 20; tail -n 15 "$work/bertd.log"; }
capped='state == "backoff" and "restarted 60 times" in reason'

spec budget 70 false
spec patient 1000 false
job=$("$BERTCTL" submit "$work/budget.yaml")
patient=$("$BERTCTL" submit "$work/patient.yaml")
ok "a job without a back-off of its own comes to the starts of an hour" moves_on 1 "$job" "$capped"
is "which are 60" "$(field "$job" attempts)" 60
due=$(date -d "$(field "$job" not_before)" +%s)
is "its reason names the next in the host's time" "$(field "$job" reason)" \
  "exit code 1; restarted 60 times in the last hour; next start $(TZ=XYZ-5:30 date -d "@$((due + 59))" +%H:%M)"
is "as its newest event does" "$("$BERTCTL" events --json "$job" | jq -r '.[-1].reason')" "$(field "$job" reason)"
is "the first restart came after a second" "$("$BERTCTL" events --json "$job" | jq -r '[.[] | select(.what == "died")][0].reason')" \
  "exit code 1; retrying in 1.0 s"
moves_on 1 "$patient" "$capped"
ok "a resume starts it at once" quietly "$BERTCTL" resume "$patient"
ok "without a clock that moves" wait_for 20 attempt_past "$patient" 61
"$BERTCTL" cancel --now "$patient"
forward 1700
is "half an hour later it waits" "$(field "$job" state):$(field "$job" attempts)" backoff:60
half_hour() { local left; left=$(field "$job" next_try_sec) && at_least "$left" 1500 && at_least 1900 "$left" && "$BERTCTL" status "$job" | grep -q 'next try  *in \(2[5-9]\|3[01]\) min'; }
ok "as long as the time since boot says" half_hour
forward -36000 0
ok "whatever the wall clock does" half_hour
forward 36000 0
kill_bertd
start_bertd
is "under the next bertd, too" "$(field "$job" state):$(field "$job" attempts)" backoff:60
forward -36000 0
kill_bertd
start_bertd
is "with a clock set back by ten hours, too" "$(field "$job" state):$(field "$job" attempts)" backoff:60
ok "but no longer than an hour" moves_on 1200 "$job" 'attempts > 60'
ok "the job of a budget of 70 ends" moves_on 3 "$job" 'state == "failed"'
is "at its 71st death" "$(field "$job" attempts)" 71
ok "which is what its reason says" grep -q 'failed 71 times (--retries 70)' <<<"$(field "$job" reason)"

# Deaths that cost no budget; what is kept of many.
cat >"$work/kills" <<'END2'
#!/bin/sh
kill -9 $$
END2
chmod +x "$work/kills"
spec storm 1 "$work/kills"
job=$("$BERTCTL" submit "$work/storm.yaml")
ok "a job that is killed again and again goes on" moves_on 61 "$job" 'attempts == 105'
is "waiting a minute each time" "$("$BERTCTL" events --json "$job" | jq '[.[] | select(.what == "died") | .reason | capture("retrying in (?<s>[0-9.]+) s").s | tonumber]
  | .[0] == 1 and .[1] <= 2 and .[2] <= 4 and (.[7:100] | min) >= 45')" true
wait_for 20 state_is "$job" backoff
folder=$BERTD_STATE_DIR/jobs/$job
kept() { [[ $(ls -d "$folder"/attempt-* | sed 's/.*-//' | sort -n | xargs) == "$(seq 10 | xargs) $(seq 16 105 | xargs)" ]]; }
ok "the first 10 attempts and the last 90 are kept" wait_for 20 kept
is "an event says so" "$("$BERTCTL" events --json "$job" | jq -r '.[] | select(.what == "dropped") | .reason')" "5 older attempts dropped"
ok "as does the log of another" refuses 1 'attempt 12 was dropped; .* first 10 and the last 90 attempts are kept' "$BERTCTL" logs --attempt 12 "$job"
ok "that of a kept one is there" "$BERTCTL" logs --attempt 16 "$job"
ok "the time that they cost is summed" quietly jq -e '.lost_sec.killed > 0 and (.lost_sec | length) == 1' <<<"$("$BERTCTL" status --json "$job")"
"$BERTCTL" cancel "$job"
forward 36000

# A shim that cannot live with the limits that it is given.
job=$(ulimit -n 6; "$BERTCTL" submit --retries 1 -- true)
ok "a start that comes to nothing costs no budget" moves_on 600 "$job" 'attempts == 4'
is "its class is launch, whatever launched it" "$("$BERTCTL" events --json "$job" | jq -r '[.[] | select(.class) | .class] | unique | join(" ")')" launch
"$BERTCTL" cancel "$job"
wait_job "$job" 60

# Ended jobs.
for n in 0 -1 many 10000001; do ok "--keep-ended $n is refused" refuses 2 '^bertd: --keep-ended: ' "$BERTD" --keep-ended "$n"; done
cat >"$work/saves.py" <<'END2'
import os, socket, sys
path = os.environ["BERTD_RUN_DIR"] + "/checkpoints/step-000000007.ckpt"
os.makedirs(os.path.dirname(path))
open(path, "w").write("weights")
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"READY=1\nX_BERTD_STEP=7\nX_BERTD_CHECKPOINT=" + path.encode(), os.environ["NOTIFY_SOCKET"])
END2
saved=$("$BERTCTL" submit -- python3 "$work/saves.py")
ok "a job with a checkpoint in its folder ends" wait_job "$saved" 30
for _ in 1 2 3 4 5; do last=$("$BERTCTL" submit -- true); wait_job "$last" 30; done
kill_bertd
start_bertd --keep-ended 2
ids() { "$BERTCTL" list --all --json | jq -c '[.[].id]'; }
only_kept() { [[ $(ids) == "[$last,$((last - 1)),$saved]" ]]; }
ok "--keep-ended 2: two ended jobs are kept, and the one with the checkpoint" wait_for 30 only_kept
no_others() { [[ $(ls "$BERTD_STATE_DIR/jobs" | grep -x "[0-9]*" | sort -n | xargs) == "$saved $((last - 1)) $last" ]]; }
ok "the folders of the others are gone" wait_for 30 no_others
is "that one is counted" "$("$BERTCTL" status --json | jq -c '[.daemon.held, .daemon.keep_ended]')" "[1,2]"
next=$("$BERTCTL" submit -- true)
ok "the next that ends" wait_job "$next" 30
moved_up() { [[ $(ids) == "[$next,$last,$saved]" ]]; }
ok "takes the place of the oldest" wait_for 20 moved_up
ok "a job that is gone is no such job" refuses 3 'no job' "$BERTCTL" status $((last - 1))
ok "rm takes the one with the checkpoint" quietly "$BERTCTL" rm "$saved"
is "and it is counted no more" "$("$BERTCTL" status --json | jq .daemon.held)" 0

# What this launcher cannot do.
for what in "--memory 1G" "--cpus 2"; do
  ok "$what is refused where nothing would hold a job to it" refuses 2 "cannot enforce it" "$BERTCTL" submit $what -- true
done
finish
