#!/bin/bash
# Jobs over two hosts: a training run has the bits of one host, stops and continues; what travels to other hosts; a declared signal; a
# hang with the stacks of all hosts; a host that is drained.
. "$(dirname "$0")/gang_bed.sh"
. "$(dirname "$0")/lib.sh"
command -v mpirun >/dev/null || skip_all "no mpirun"
cleanup() { kill_bertd; bed_end; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
diagnose() { "$BERTCTL" list; [[ -z ${job:-} ]] || { "$BERTCTL" status "$job"; "$BERTCTL" events "$job"; "$BERTCTL" logs -n 25 "$job"; }; }
checkpoint() { printf '%s/jobs/%s/checkpoints/step-%09d.ckpt' "$BERTD_STATE_DIR" "$1" "$2"; }

TRAVELS=yes STAYS=yes OMP_X=yes TMPDIR=$bed/tmp/head SSH_CONNECTION=x XDG_RUNTIME_DIR= start_bertd
mkdir -p "$bed/tmp/head"

ok "corpus is prepared" make_corpus
make_spec one 2 60
make_spec two 1 60
sed -i 's/resources: {/resources: {hosts: [h1, h2], host_timeout_sec: 8, /' "$work/two.yaml"
one=$("$BERTCTL" submit "$work/one.yaml")
ok "two ranks train on one host" wait_job "$one"
job=$("$BERTCTL" submit "$work/two.yaml")
ok "a run trains on two" wait_for 30 step_past "$job" 5
ok "a stop" "$BERTCTL" pause "$job"
ok "pauses it" wait_state "$job" paused
is "after a checkpoint" "$(record_of "$job" 1 exit_code) $(record_of "$job" 1 class)" "75 stopped"
ok "nothing is left there" wait_for 5 empty_on h2
ok "it resumes" "$BERTCTL" resume "$job"
ok "and is done" wait_job "$job"
ok "both have the same bits" "$BERT_TRAINER" diff "$(checkpoint "$one" 60)" "$(checkpoint "$job" 60)"

finish
