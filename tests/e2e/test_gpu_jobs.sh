#!/bin/bash
# GPUs go from job to job only when they are clean; a GPU that others use is not given; a driver that hangs holds up nobody. The
# driver is tests/fault/fake_nvml.c, which does as the file $nvml says.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
nvml=$work/nvml
export BERTD_NVML=$BUILD_DIR/tests/libfake_nvml.so FAKE_NVML=$nvml
gpu_says() { printf '%s\n' "$@" >"$nvml.new" && mv "$nvml.new" "$nvml"; }
notes() { "$BERTCTL" status --json | jq -r '.daemon.gpu_notes | join("; ")'; }
notes_have() { [[ $(notes) == *"$1"* ]]; }
count_is() { [[ $("$BERTCTL" status --json | jq -r ".daemon.$1") == "$2" ]]; }
reason_has() { [[ $(field "$1" reason) == *"$2"* ]]; }
visible() { "$BERTCTL" logs "$1"; }
submit() { "$BERTCTL" submit --gpus 1 "$@"; }
# shellcheck disable=SC2016 # the job's shell is to expand it
print_and_sleep=(-- sh -c 'echo "$CUDA_VISIBLE_DEVICES"; exec sleep 60')

gpu_says "gpu GPU-a 80000 400"
start_bertd
is "the driver's GPUs are found" "$("$BERTCTL" status --json | jq .daemon.gpus)" 1

a=$(submit "${print_and_sleep[@]}") b=$(submit -- true) job=$a
ok "the first job gets the GPU" wait_for 20 state_is "$a" running
sees() { [[ $(visible "$a") == "$1" ]]; }
ok "by its UUID" wait_for 20 sees GPU-a
ok "the second waits for it" reason_has "$b" "waits for 1 GPU"
c=$(submit -- sleep 300)
ok "a third waits behind it, for that GPU" reason_has "$c" "queued after job $b, waits for 1 GPU (0 of 1 free)"
cpu=$("$BERTCTL" submit --ranks 7 -- sleep 300)
ok "a job without GPUs passes them" wait_for 20 state_is "$cpu" running
ok "what waits for both names both" reason_has "$b" "waits for 1 GPU (0 of 1 free) and 1 slot (0 of 8 free)"
"$BERTCTL" cancel "$c" "$cpu"
"$BERTCTL" cancel --now "$a"
ok "and gets it, clean as it is" wait_for 20 state_is "$b" done

a=$(submit "${print_and_sleep[@]}") job=$a
ok "a third job has it" wait_for 20 state_is "$a" running
env BERTD_JOB_ID="$a" sleep 600 &
left=$!
gpu_says "gpu GPU-a 80000 9000 $left:8600"
"$BERTCTL" cancel --now "$a"
b=$(submit -- true) job=$b
ok "what a job left is quarantined" wait_for 20 count_is gpus_quarantined 1
ok "the process is named" notes_have "GPU 0: quarantined: job $a left pid $left (user $(id -un)), 8.4 GiB"
ok "the next job says why it waits" reason_has "$b" "quarantined: job $a left pid $left"
ok "and does not start" state_is "$b" queued
kill "$left"
gpu_says "gpu GPU-a 80000 3000"
ok "memory over the baseline" wait_for 20 notes_have "quarantined: job $a left 2.9 GiB"
ok "keeps it there" state_is "$b" queued
gpu_says "gpu GPU-a 80000 420"
ok "clean again, it is given" wait_for 20 state_is "$b" done
ok "nothing is quarantined then" count_is gpus_quarantined 0

gpu_says "gpu GPU-a 80000 8700 $$:8295"
ok "a GPU that others use is busy" wait_for 45 count_is gpus_busy 1
ok "status says who" eval '"$BERTCTL" status | grep -q "GPU 0: in use outside bertd: pid $$ (user $(id -un)), 8.1 GiB"'
b=$(submit -- true) job=$b
ok "a job waits, and says for whom" wait_for 10 reason_has "$b" "in use outside bertd: pid $$"
gpu_says "delay 30" "gpu GPU-a 80000 400"
ok "a driver that hangs makes it unknown" wait_for 30 notes_have "unknown: the driver does not answer"
ok "bertd answers meanwhile" quietly timeout 2 "$BERTCTL" list
ok "the job goes on waiting" state_is "$b" queued
gpu_says "crash"
ok "a driver that kills its caller kills no bertd" wait_for 20 notes_have "the NVML query crashed"
gpu_says "error 18"
ok "an error of the driver is said" wait_for 20 notes_have "Driver/library version mismatch"
gpu_says "gpu GPU-a 80000 400"
ok "and then it is given" wait_for 20 state_is "$b" done

use() { "$BERTCTL" status --json "$1" | jq -c "[.gpu_usage[] | [.gpu, .memory_used, .memory_total, .utilization]], (.gpu_usage_read | type)" | paste -sd ' '; }
a=$(submit "${print_and_sleep[@]}") job=$a
ok "a job has it again" wait_for 20 state_is "$a" running
gpu_says "gpu GPU-a 80000 9000 $$:8600" "load 87"
uses() { [[ $(use "$1") == "$2" ]]; }
ok "its status has the GPU's memory and load" wait_for 20 uses "$a" '[["GPU-a",9437184000,83886080000,87]] "string"'
ok "for people, too" eval '"$BERTCTL" status "$a" | grep -q "^  GPU memory  8.8 GiB of 78.1 GiB, 87 % busy: GPU-a$"'
is "other jobs have none" "$(use "$b")" '[] "null"'
sleep 6
gpu_says "gpu GPU-a 80000 700" "load 3"
is "what is shown is not old" "$(use "$a")" '[["GPU-a",734003200,83886080000,3]] "string"'
sleep 6
gpu_says "delay 30" "gpu GPU-a 80000 400"
ok "a driver that hangs keeps nobody waiting" quietly timeout 3 "$BERTCTL" status --json "$a"
is "what it said last is shown for a while" "$(use "$a")" '[["GPU-a",734003200,83886080000,3]] "string"'
gpu_says "crash"
ok "then nothing" wait_for 40 uses "$a" '[["GPU-a",null,null,null]] "null"'
ok "and people are told so" eval '"$BERTCTL" status "$a" | grep -q "^  GPU memory  unknown: GPU-a$"'
ok "the job runs on" state_is "$a" running
gpu_says "gpu GPU-a 80000 400"
"$BERTCTL" cancel --now "$a"
ok "when it has ended it has none" wait_for 20 uses "$a" '[] "null"'

kill_bertd
gpu_says "gpu GPU-a 80000 400" "gpu GPU-b 80000 0" "mig MIG-b1 40000 30" "load 99" "mig MIG-b2 20000 30" "gpu GPU-c 80000 0" "divided"
start_bertd
list() { "$BERTCTL" status --json | jq -c '.daemon.gpu_list | map(.state + " " + .gpu)'; }
is "MIG devices are GPUs, the GPU that they are parts of is none, nor is one that has no parts yet" "$(list)" '["free GPU-a","free MIG-b1","free MIG-b2"]'
a=$("$BERTCTL" submit --gpus 3 "${print_and_sleep[@]}") job=$a
ok "a job gets all three" wait_for 20 state_is "$a" running
ok "by their UUIDs" wait_for 5 eval '[[ $(visible "$a") == GPU-a,MIG-b1,MIG-b2 ]]'
ok "a MIG device has its own memory, and no load" wait_for 20 uses "$a" '[["GPU-a",419430400,83886080000,0],["MIG-b1",31457280,41943040000,null],["MIG-b2",31457280,20971520000,null]] "string"'
"$BERTCTL" cancel --now "$a"
ok "they are let go" wait_for 20 count_is gpus_used 0
gpu_says "gpu GPU-a 80000 400" "gpu GPU-b 80000 0" "mig MIG-b1 40000 9000 $$:8600" "mig MIG-b2 20000 30" "gpu GPU-c 80000 0" "divided"
ok "who uses one is seen" wait_for 45 notes_have "GPU 1: in use outside bertd: pid $$"
is "of the others nothing" "$("$BERTCTL" status --json | jq .daemon.gpus_busy)" 1
kill_bertd
start_bertd --gpus 0,1,GPU-a,MIG-b2,MIG-GPU-b/8/0,MIG-x
ok "names are held against the driver's" wait_for 20 notes_have "GPU 5: unknown: not listed by the driver"
ok "a divided GPU is not given by its number either" notes_have "GPU 1: MIG is enabled: jobs get its MIG devices instead"
ok "one GPU under two names counts once" notes_have "GPU 2: the same GPU as 0 (0)"
ok "a MIG device, too" notes_have "GPU 4: the same GPU as 3 (MIG-b2)"
a=$("$BERTCTL" submit --gpus 2 "${print_and_sleep[@]}") b=$("$BERTCTL" submit --gpus 1 -- true) job=$b
ok "what is left is given" wait_for 20 eval '[[ $(visible "$a") == 0,MIG-b2 ]]'
ok "and no more" wait_for 10 reason_has "$b" "waits for 1 GPU"
"$BERTCTL" cancel --now "$a"
ok "then to the next" wait_for 20 state_is "$b" done
gpu_says "gpu GPU-a 80000 400"
kill_bertd
export BERTD_NVML=/nonexistent
start_bertd --gpus 2
a=$(submit "${print_and_sleep[@]}") job=$a
ok "without NVML the GPUs are given as before" wait_for 20 state_is "$a" running
ok "by their number" wait_for 5 eval '[[ $(visible "$a") == 0 ]]'
"$BERTCTL" cancel --now "$a"
ok "and let go" wait_for 20 count_is gpus_used 0
order() { "$BERTCTL" submit --wait "$@" -- sh -c 'echo "<$CUDA_DEVICE_ORDER>"' | tail -n 1; }
ok "which are the driver's, not those of the fastest" eval '"$BERTCTL" logs "$(CUDA_DEVICE_ORDER=FASTEST_FIRST order --gpus 1)" | grep -qx "<PCI_BUS_ID>"'
ok "without GPUs the order is the user's" eval '"$BERTCTL" logs "$(CUDA_DEVICE_ORDER=FASTEST_FIRST order)" | grep -qx "<FASTEST_FIRST>"'

kill_bertd
start_bertd --gpus GPU-a,GPU-b,GPU-c
a=$(submit "${print_and_sleep[@]}") b=$(submit "${print_and_sleep[@]}") job=$b
ok "two jobs have two of three GPUs" wait_for 20 eval 'state_is "$a" running && state_is "$b" running'
is "the second" "$(visible "$b")" GPU-b
ok "by UUIDs the order is the user's, too" eval '"$BERTCTL" logs "$(order --gpus 1)" | grep -qx "<>"'
"$BERTCTL" cancel --now "$a"
ok "the first one ends" wait_for 20 state_is "$a" cancelled
kill_bertd
start_bertd --gpus GPU-b,GPU-c
c=$(submit "${print_and_sleep[@]}") job=$c
ok "one fell off the bus: the next job starts" wait_for 20 state_is "$c" running
ok "on none that another has" wait_for 5 eval '[[ $(visible "$c") == GPU-c ]]'
ok "both are in use" count_is gpus_used 2
kill_bertd
start_bertd --gpus GPU-a
ok "a GPU that a job holds is missed when it is not listed" notes_have "GPU GPU-b: held by job $b, but no longer listed"
ok "by doctor, too" eval '"$BERTCTL" doctor | grep -q "GPU GPU-b: held by job $b"'
a=$(submit "${print_and_sleep[@]}") job=$a
ok "what is listed is given" wait_for 20 state_is "$a" running
kill_bertd
start_bertd --gpus GPU-a,GPU-b,GPU-c,GPU-d
ok "listed again, it is that job's" count_is gpus_used 3
c=$(submit "${print_and_sleep[@]}") job=$c
ok "and the fourth is free" wait_for 20 eval '[[ $(visible "$c") == GPU-d ]]'

"$BERTCTL" cancel --now "$a" "$b"
kill_bertd
sqlite3 "$BERTD_STATE_DIR/state.db" "update attempt set gpus=NULL, gpu_mask=8 where job=$c"
start_bertd --gpus GPU-a,GPU-b,GPU-c,GPU-d
ok "a row of an older bertd has bits: they get names" wait_for 10 eval \
  '[[ $(sqlite3 "$BERTD_STATE_DIR/state.db" "select gpus, gpu_mask from attempt where job=$c") == "GPU-d|0" ]]'
ok "and mean the same GPU" wait_for 20 count_is gpus_used 2
finish
