#!/bin/bash
# What a job leaves behind: a program that its script put into the background is not lost without a word. It is named, ended as a stop ends it,
# and with ends_with: last it is the job.
. "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip_all "needs python3"
cp "$(dirname "$0")/saves.py" "$work/"
start_bertd --slots 40
cd "$work" || exit 99
cure='; do not end a job'"'"'s script with "&", or submit with --ends-with last'
ago() { echo $(((${EPOCHREALTIME/./} - $1) / 1000)); } # MICROSECONDS: as ms
runs_on() { [[ $(field "$1" runs_on) == "$2" ]]; }      # JOB PROCESSES
submit() { # NAME COMMAND...
  local name=$1
  shift
  "$BERTCTL" submit --name "$name" "$@" >/dev/null
}
printf '#!/bin/sh\nnohup python3 saves.py saved &\n' >script.sh
printf '#!/bin/sh\nsleep 300 & sleep 300 & sleep 300 & sleep 301 & sleep 302 & sleep 303 &\nexit 3\n' >many.sh
printf '#!/bin/sh\npython3 -c "import time; print(1); time.sleep(0.2)" | cat >piped &\n' >pipe.sh
chmod +x ./*.sh
begin=${EPOCHREALTIME/./}
submit left --grace 30 -- ./script.sh
submit many --retries 0 -- ./many.sh
submit pipe -- ./pipe.sh
submit last --ends-with last -- ./pipe.sh
submit fails --ends-with last --retries 0 -- sh -c '(sleep 1; exit 4) & exit 0'
submit mixed --ends-with last --retries 0 -- sh -c '(sleep 1; exit 4) & sleep 1000 & exit 0'
submit first-fails --ends-with last --retries 0 -- sh -c 'sleep 2 & exit 5'
submit dies --ends-with last --retries 0 -- sh -c '(sleep 1; kill -SEGV $(sh -c "echo \$PPID")) & exit 0'
printf 'name: spec\nkind: command\nends_with: last\ncommand: [sh, -c, "python3 saves.py spec 1 2 & exit 0"]\n' >spec.yaml
"$BERTCTL" submit spec.yaml >/dev/null
ok "a script that ends with &: done" wait_job left 60
ok "after the 2 s that helpers have" test "$(ago "$begin")" -ge 2000
is "its reason names what was left, and the cure" "$(field left reason)" "exit code 0; ended 1 process left behind: python3 saves.py saved$cure"
is "in its events" "$("$BERTCTL" events --json left | jq -r '.[-1].reason')" "$(field left reason)"
ok "status and list" eval '"$BERTCTL" status left | tr -s " \n" " " | grep -qF "1 process left behind: python3 saves.py saved" && "$BERTCTL" list | grep -q "left behind"'
is "wait says it" "$("$BERTCTL" wait left 2>&1)" "bertctl: job 1 is done: $(field left reason)"
is "it could save" "$(cat saved)" "saved, told 1"
ok "the log says it, too" eval '"$BERTCTL" logs left | grep -q "1 process is left behind: python3 saves.py saved"'
ok "one that failed" eval '! wait_job many 60'
is "names what it left, each once" "$(field many reason | cut -d';' -f1,2)" "exit code 3; ended 6 processes left behind: sleep 300, sleep 301, sleep 302 and others"
ok "what ends within 2 s" wait_job pipe 60
is "is none" "$(field pipe reason)" ""
is "and could end" "$(cat piped)" 1

ok "ends_with: last runs on" wait_for 20 runs_on spec 3
is "says so" "$("$BERTCTL" status spec | grep -o "attempt 1; .*")" "attempt 1; its first process ended with exit code 0, 3 of its processes run on"
is "and in JSON" "$("$BERTCTL" status --json spec | jq -c '[.state, .ends_with, .first_exit, .runs_on]')" '["running","last",0,3]'
kill_bertd
start_bertd --slots 40
ok "to the next bertd as well" wait_for 20 runs_on spec 3
"$BERTCTL" pause spec
ok "pauses" wait_for 20 state_is spec paused
is "saved" "$(cat spec)" "saved, told 1"
ok "one whose last process ends well is done" wait_job last 60
is "with no reason" "$(field last reason):$(field last exit)" ":0"
for j in fails:4 first-fails:5; do
  ok "${j%:*}" eval '! wait_job ${j%:*} 60'
  is "the exit code of who failed" "$(field "${j%:*}" exit)" "${j#*:}"
done
ok "one that died" eval '! wait_job dies 60'
is "of its signal" "$(field dies exit_signal)" SIGSEGV
ok "of two that ran on the first has failed" wait_for 20 runs_on mixed 1
is "the first process's end is told still" "$(field mixed first_exit)" 0
"$BERTCTL" cancel --now mixed
# What has finished is done, whatever is asked of the rest.
submit over --grace 30 -- sh -c '(trap "sleep 1; exit 0" TERM; while :; do sleep 0.1; done) & exit 0'
ok "the rest of one that finished is being ended" wait_for 20 eval '"$BERTCTL" logs over | grep -q "left behind"'
"$BERTCTL" pause over
ok "paused now, it is done" wait_job over 20
for bad in '--ends-with never -- true' '--ends-with last spec.yaml'; do
  # shellcheck disable=SC2086
  ok "$bad is refused" refuses 2 "ends-with\|COMMAND" "$BERTCTL" submit $bad
done

# Others see names alone.
user=games
if ((EUID == 0)) && id "$user" >/dev/null 2>&1; then
  chmod 666 "$BERTD_SOCKET"
  cp "$BERTCTL" "$work/bertctl-of-others" && chmod 755 "$work/bertctl-of-others"
  theirs() { setpriv --reuid "$user" --regid "$user" --clear-groups "$work/bertctl-of-others" "$@"; }
  is "others see the name" "$(theirs status --json left | jq -r .reason)" "exit code 0; ended 1 process left behind: python3$cure"
else
  skip "others see the name" "needs root and the user $user"
fi
finish
