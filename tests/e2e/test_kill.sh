#!/bin/bash
# kill -9 of each process of a training job, one by one and all at once: the job resumes by itself and ends with the weights of
# an undisturbed run; when only bertd dies nothing of the job is touched; nothing runs twice.
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"
# The step that status shows while an attempt starts is still the last one's: going on means to pass it.
goes_on() { local last; last=$(field "$job" step); wait_for 30 step_past "$job" $((last + 10)); }

ok "corpus is prepared" make_corpus
steps=1600
make_spec calm 2 $steps
make_spec hit 2 $steps
start_bertd
job=$("$BERTCTL" submit "$work/calm.yaml")
ok "the undisturbed job is done" wait_job "$job"
calm=$(field "$job" checkpoint_path)
is "its last checkpoint is of the last step" "$(field "$job" checkpoint_step)" $steps

job=$("$BERTCTL" submit "$work/hit.yaml")
ok "it trains" wait_for 60 step_past "$job" 25

kill_time=$SECONDS
kill -KILL "$(of_job "$job" bert-trainer | tail -n 1)"
ok "a rank killed: a second attempt runs" wait_for 20 attempt_past "$job" 2
ok "within first back-off + 5 s + start-up" test $((SECONDS - kill_time)) -le $((6 * patience)) # 2.3 s on 2 cores with nothing else to do
ok "it goes on" goes_on

kill -KILL "$(of_job "$job" mpirun)"
ok "mpirun killed: a third attempt runs" wait_for 20 attempt_past "$job" 3
ok "it goes on" goes_on

old=$(of_job "$job" bert-trainer | sort | xargs)
is "two ranks run" "$(wc -w <<<"$old")" 2
kill -KILL "$(shim_of "$job")"
ok "shim killed: a fourth attempt runs" wait_for 30 attempt_past "$job" 4
alive=0
for p in $old; do lives "$p" && alive=1; done
is "no rank of the closed attempt lives" "$alive" 0
ok "it goes on" goes_on

last=$(field "$job" step)
before="$(of_job "$job" bert-trainer | sort | xargs) $(of_job "$job" mpirun) $(shim_of "$job")"
kill_bertd
is "bertctl says that no daemon is there" "$("$BERTCTL" status >/dev/null 2>&1; echo $?)" 4
sleep 1
start_bertd
ok "bertd killed and back: it knows the step" wait_for 20 step_past "$job" $((last + 1))
is "the job kept its processes" "$(of_job "$job" bert-trainer | sort | xargs) $(of_job "$job" mpirun) $(shim_of "$job")" "$before"
is "and its attempt" "$(field "$job" attempts)" 4

kill_bertd
# shellcheck disable=SC2046 # a list of pids
kill -KILL $(shim_of "$job") $(of_job "$job" mpirun) $(of_job "$job" bert-trainer)
start_bertd
ok "all killed at once: a fifth attempt runs" wait_for 20 attempt_past "$job" 5
ok "the job is done" wait_job "$job"
is "after five attempts" "$(field "$job" attempts)" 5
is "at the last step" "$(field "$job" checkpoint_step)" $steps
ok "with bit-identical weights" quietly "$BERT_TRAINER" diff "$calm" "$(field "$job" checkpoint_path)"
is "each step is once in the metrics" "$(jq -r 'select(.loss != null) | .step' "$(field "$job" run_dir)/metrics.jsonl" | sort -n | cksum)" "$(seq "$steps" | cksum)"
finish
