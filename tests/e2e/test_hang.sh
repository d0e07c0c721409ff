#!/bin/bash
# A job that stands still is found, its stacks are kept, it is killed and tried again: a command between two steps, a real run with a
# stopped rank. And a job that never stops talking: its log is bounded, its last line is there, bertd stays quick.
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"

says() { [[ $1 =~ $2 ]]; }
evidence_of() { jq -r .evidence "$BERTD_STATE_DIR/jobs/$1/attempt-$2/exit.json"; }
record_of() { jq -r ".$3" "$BERTD_STATE_DIR/jobs/$1/attempt-$2/exit.json"; }
has_file() { local f; for f in "$1"/$2; do [[ -s $f && -r $f ]] && return 0; done; return 1; }

start_bertd

cat >"$work/steps.py" <<'EOF2'
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
for step in range(1, 6):
    s.send(b"X_BERTD_STEP=%d\nX_BERTD_STEPS=5" % step)
    time.sleep(0.2)
    if step == 3 and os.environ["BERTD_ATTEMPT"] == "1":
        time.sleep(600)
EOF2
limit=2
job=$("$BERTCTL" submit --hang-sec $limit -- python3 "$work/steps.py")
ok "a command that stops stepping gets a second attempt" wait_for 15 attempt_past "$job" 2
is "the first one's class is hang" "$(record_of "$job" 1 class)" hang
ok "its reason names limit, step and folder" says "$(record_of "$job" 1 reason)" "limit $limit s. at step 3; stacks in $(evidence_of "$job" 1)$"
ok "the process has a file there" has_file "$(evidence_of "$job" 1)" 'pid-*.txt'
ok "the events say hang" says "$("$BERTCTL" events "$job")" 'no step for'
ok "the job is done" wait_job "$job"
is "in two attempts" "$(field "$job" attempts)" 2

ok "corpus is prepared" make_corpus
steps=250
make_spec stopped 2 $steps
sed -i "s/grace_sec: 30/grace_sec: 30, hang_sec: $((3 * patience))/" "$work/stopped.yaml"
job=$("$BERTCTL" submit "$work/stopped.yaml")
ok "a run trains" wait_for 60 step_past "$job" 30
for p in $(of_job "$job" bert-trainer); do
  grep -qxz OMPI_COMM_WORLD_RANK=1 "/proc/$p/environ" && kill -STOP "$p"
done
ok "with a stopped rank it gets a second attempt" wait_for 40 attempt_past "$job" 2
is "the class is hang" "$(record_of "$job" 1 class)" hang
ok "the stopped rank is named" says "$(record_of "$job" 1 reason)" 'rank 1 on [^ ]+ is stopped'
is "and recorded" "$(record_of "$job" 1 first_rank)" 1
ok "both ranks have files" eval 'has_file "$(evidence_of $job 1)" "rank-0.*" && has_file "$(evidence_of $job 1)" "rank-1.*"'
ok "the stopped one's says so" grep -qE '^State:.*stopped' "$(evidence_of "$job" 1)"/rank-1.*.txt
ok "the record has the samples of the step" test "$(record_of "$job" 1 samples_first)" -ge $((30 * 32))
ok "the run is done" wait_job "$job"

# 200 MB through a log of 64 MiB, in the course of some seconds.
job=$("$BERTCTL" submit -- sh -c 'for i in $(seq 20); do yes "a line of a job that never stops talking, and never says anything" | head -c 10000000; echo; sleep 0.1; done; echo the-end')
wait_for 10 state_is "$job" running
timeout $((120 * patience)) "$BERTCTL" logs -f "$job" >"$work/followed" 2>/dev/null &
follower=$!
end=$((SECONDS + 120 * patience))
while state_is "$job" running && ((SECONDS < end)); do
  begin=${EPOCHREALTIME/./}
  "$BERTCTL" status >/dev/null
  echo $(((${EPOCHREALTIME/./} - begin) / 1000)) >>"$work/took"
  sleep 0.05
done
ok "a talkative job is done" wait_job "$job"
is "its last line is in the log" "$("$BERTCTL" logs -n 1 "$job")" the-end
size=$(cat "$BERTD_STATE_DIR/jobs/$job/attempt-1/log"* | wc -c)
ok "the log is bounded" test "$size" -gt 30000000 -a "$size" -le 68000000
wait "$follower"
is "a follower came through the rotations to the end" "$(tail -n 1 "$work/followed")" the-end
sort -n "$work/took" | awk '{ms[NR] = $1} END {print ms[int(NR * 0.9 + 1)], NR, ms[NR]}' >"$work/p90"
read -r p90 answers slowest <"$work/p90"
echo "# status meanwhile: $answers answers, 9 of 10 within $p90 ms, all within $slowest ms"
ok "bertd stayed quick: 9 of 10 answers within 200 ms" test "$answers" -ge 10 -a "$p90" -lt 200 # 15; 60 on a busy machine
finish
