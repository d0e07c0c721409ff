#!/bin/sh
# train(20) = train(k) + kill -9 + resume, bit for bit, for k before, at and after a checkpoint, at 1, 2 and 4 ranks and 1 and 2 threads;
# signals; another number of ranks sees the same samples. The kill comes when metrics.jsonl shows the step: what a user sees too.
. "$(dirname "$0")/trainer-lib.sh"
make_inputs
# Steps of some 20 ms, so that there is time to kill between two of them.
sed -i 's/"hidden_size": 16/"hidden_size": 64/; s/"intermediate_size": 32/"intermediate_size": 256/' tiny.json
sed -i 's/global_batch: 7, micro_batch: 2/global_batch: 33, micro_batch: 4/' spec.yaml
sed 's/ steps: 20/ steps: 60/; s/every_steps: 10/every_steps: 1000/' spec.yaml >long.yaml

step_of() { sed -n '$s/^{"step": \([0-9]*\).*/\1/p' "$1/metrics.jsonl" 2>/dev/null; }

# pids DIR PROGRAM: processes of a run that are this program.
pids() {
        for pid in $(pgrep -f -- "pretrain [a-z]*.yaml --run-dir $1\$"); do
                if [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$2")" ]; then echo "$pid"; fi
        done
}

# kill_at RANKS DIR STEP: starts a run of 20 steps and kills -9 all its trainers once STEP is logged.
kill_at() {
        train "$1" spec.yaml --run-dir "$2" >"$2.log" 2>&1 &
        job=$!
        for _ in $(seq 2000); do
                s=$(step_of "$2")
                if [ "${s:-0}" -ge "$3" ]; then break; fi
                kill -0 $job 2>/dev/null || break
                sleep 0.005
        done
        kill -9 $(pids "$2" "$TRAINER") 2>/dev/null
        wait $job 2>/dev/null
}

rows() { grep -v validation "$1/metrics.jsonl" | sed 's/^{"step": \([0-9]*\).*"sample_hash": "\([0-9a-f]*\)".*/\1 \2/'; }

moments='5 10 13'
if [ $sanitized = yes ]; then
        moments=13
        skip "killed after steps 5 and 10, and on 4 ranks" "under the sanitizers, which see the same code once"
fi
for ranks in 1 2 4; do
        have_ranks $ranks || continue
        train $ranks spec.yaml --run-dir "whole$ranks" >"whole$ranks.log" 2>&1
        ok "$ranks ranks: 20 steps" test $? -eq 0
        [ $sanitized = no ] || [ $ranks -lt 4 ] || continue
        for at in $moments; do
                dir=$PWD/killed$ranks-$at
                for _ in 1 2 3 4 5; do # on a busy machine the kill may come after the end: again
                        rm -rf "$dir"
                        kill_at $ranks "$dir" $at
                        [ -e "$(ckpt "$dir" 20)" ] || break
                done
                ok "$ranks ranks: killed at step $(step_of "$dir"), before the end" test ! -e "$(ckpt "$dir" 20)"
                train $ranks spec.yaml --run-dir "$dir" >>"$dir.log" 2>&1 && "$TRAINER" diff "$(ckpt "whole$ranks" 20)" "$(ckpt "$dir" 20)" >/dev/null
                ok "$ranks ranks: killed after step $at, resumed, same bits" test $? -eq 0
                [ "$(rows "$dir")" = "$(rows "whole$ranks")" ]
                ok "$ranks ranks: each step logged once, same samples" test $? -eq 0
        done
done

OMP_NUM_THREADS=2 train 1 spec.yaml --run-dir threads >threads.log 2>&1 && "$TRAINER" diff "$(ckpt whole1 20)" "$(ckpt threads 20)" >/dev/null
ok "2 threads give the bits of 1" test $? -eq 0
if have_ranks 2; then
        [ "$(rows whole1 | wc -l)" -eq 20 ] && [ "$(rows whole1)" = "$(rows whole2)" ] && [ "$(rows whole1)" = "$(rows whole4)" ]
        ok "1, 2 and 4 ranks see the same samples" test $? -eq 0
        rm -rf other && mkdir -p other/checkpoints && cp "$(ckpt whole2 10)" other/checkpoints/
        train 1 spec.yaml --run-dir other >other.log 2>&1
        ok "a checkpoint of 2 ranks resumes on 1" test $? -eq 0
        [ "$(rows other)" = "$(rows whole1 | awk '$1 > 10')" ]
        ok "and sees the samples that would have come" test $? -eq 0
fi

# SIGUSR1: stop at the next micro-batch, checkpoint, 75; SIGUSR2: checkpoint and go on.
for ranks in 1 2; do
        have_ranks $ranks || continue
        dir=$PWD/stopped$ranks
        train $ranks long.yaml --run-dir "$dir" >"$dir.log" 2>&1 &
        job=$!
        for _ in $(seq 6000); do [ "$(step_of "$dir")" ] && break; sleep 0.01; done
        if [ $ranks -eq 1 ]; then top=$(pids "$dir" "$TRAINER"); else top=$(pids "$dir" "$(command -v mpirun)"); fi
        kill -USR2 "$top"
        for _ in $(seq 6000); do ls "$dir"/checkpoints/*.ckpt >/dev/null 2>&1 && break; sleep 0.01; done
        ls "$dir"/checkpoints/*.ckpt >/dev/null 2>&1
        ok "$ranks ranks: SIGUSR2 takes a checkpoint" test $? -eq 0
        kill -USR1 "$top"
        wait $job
        code=$?
        [ $code -eq 75 ]
        ok "$ranks ranks: SIGUSR1 ends with 75 (got $code)" test $? -eq 0
        last=$(step_of "$dir")
        [ -e "$(ckpt "$dir" "${last:-0}")" ]
        ok "$ranks ranks: and leaves a checkpoint of the last step $last" test $? -eq 0
        train $ranks long.yaml --run-dir "$dir" >>"$dir.log" 2>&1
        ok "$ranks ranks: goes on to the end" test $? -eq 0
        [ -e full ] || train $ranks long.yaml --run-dir full >full.log 2>&1
        "$TRAINER" diff "$(ckpt full 60)" "$(ckpt "$dir" 60)" >/dev/null
        ok "$ranks ranks: with the bits of an undisturbed run" test $? -eq 0
        rm -rf full
done
# A stop that comes during an evaluation need not wait for its end; the next run makes it up.
sed 's/steps: 20, evaluate_every: 4, evaluate_samples: 9/steps: 6, evaluate_every: 3, evaluate_samples: 6000/; s/every_steps: 10/every_steps: 0/; s/validation: \[corpus-validation\]/validation: [much]/' spec.yaml >held.yaml
for _ in $(seq 48); do cat text.txt; done >much.txt
"$TRAINER" prepare --vocab vocab.txt --output much much.txt >/dev/null 2>&1
held() { jq -c 'select(.validation) | [.step, .validation.mlm_loss, .validation.samples]' "$1/metrics.jsonl"; }
train 1 held.yaml --run-dir held-whole >held-whole.log 2>&1
stop_evaluation() { # a run of $ranks gets SIGUSR1 after step 3, which an evaluation follows; fails where that had ended
        rm -rf "$dir"
        train $ranks held.yaml --run-dir "$dir" >"$dir.log" 2>&1 &
        job=$!
        for _ in $(seq 4000); do
                s=$(step_of "$dir")
                if [ "${s:-0}" -ge 3 ]; then break; fi
                sleep 0.005
        done
        sleep 0.1
        kill -USR1 $(pids "$dir" "$TRAINER")
        wait $job
        code=$? # mpirun's own is that of the rank, too
        held "$dir" >held.rows && [ ! -s held.rows ]
}
for ranks in 1 2; do
        have_ranks $ranks || continue
        dir=$PWD/held$ranks
        for _ in $(seq 5); do # a machine may end the evaluation before the signal comes: again
                stop_evaluation && break
        done
        ok "$ranks ranks: stopped during an evaluation" test $code -eq 75 -a ! -s held.rows -a -e "$(ckpt "$dir" 3)"
        [ $ranks -gt 1 ] || cp -r "$dir" without
        train $ranks held.yaml --run-dir "$dir" >>"$dir.log" 2>&1 && [ "$(held "$dir" | wc -l)" -eq 2 ] &&
                { [ $ranks -gt 1 ] || [ "$(held "$dir")" = "$(held held-whole)" ]; } && "$TRAINER" inspect "$(ckpt "$dir" 3)" >inspected && exits 1 grep -q evaluation_due inspected
        ok "$ranks ranks: the evaluation is made up" test $? -eq 0
done
for other in 's/validation: \[much\], //' 's/evaluate_every: 3/evaluate_every: 5/'; do
        rm -rf changed
        cp -r without changed
        sed "$other" held.yaml >changed.yaml
        train 1 changed.yaml --run-dir changed >changed.log 2>&1 && [ -e "$(ckpt changed 6)" ]
        ok "one that is due holds nobody up, whatever the spec then says: $other" test $? -eq 0
done
finish
