#!/bin/bash
# What bertctl says and returns without a daemon: usage, wrong specs, no daemon, a socket that it may not use. Needs BERTCTL.
set -uo pipefail
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
tap_start
export BERTD_SOCKET=$work/none.sock BERTD_STATE_DIR=$work/state XDG_RUNTIME_DIR=$work

refused() { # EXIT PATTERN ARGUMENT...
  local want=$1 pattern=$2
  shift 2
  ok "$(printf '%.60s' "bertctl $*"): exit $want, /$pattern/" refuses "$want" "^bertctl: .*$pattern" "$BERTCTL" "$@"
}
accepted() { # PATTERN ARGUMENT...: exit 0 with the pattern on stdout, nothing on stderr
  local pattern=$1
  shift
  prints() { timeout 20 "$BERTCTL" "$@" >"$work/out" 2>"$work/err" </dev/null && [[ ! -s $work/err ]] && grep -q -- "$pattern" "$work/out"; }
  ok "bertctl $*: exit 0, /$pattern/" prints "$@"
}

commands="submit run cancel pause resume wait rm status list logs events metrics results checkpoint checkpoints drain undrain doctor shutdown version help"
fits() { # LINES COMMAND...: it prints at most so many, none wider than 80 columns
  "${@:2}" >"$work/out" && awk -v lines="$1" '{ if (length > 80) { print; wide = 1 } } END { exit wide || NR > lines }' "$work/out"
}

accepted "^Start and stop jobs:" --help
accepted "^Start and stop jobs:" help
accepted "^bertctl [0-9]" --version
ok "bertctl --help fits a screen" fits 43 "$BERTCTL" --help
ok "it has an example" grep -q '^  bertctl submit ' "$work/out"
is "it has every command" "$(sed -n 's/^  \([a-z]*\)   *[a-z].*/\1/p' "$work/out" | tr '\n' ' ')" "$commands "
for command in $commands; do
  ok "bertctl $command --help is not wider than 80 columns" fits 63 "$BERTCTL" "$command" --help
  accepted "Usage: bertctl $command" "$command" --help
  accepted "Usage: bertctl $command" help "$command"
done

refused 2 "missing COMMAND; see bertctl --help"
refused 2 "did you mean 'status'" sttaus
refused 2 "unknown command 'xyzzyx'" xyzzyx
refused 2 "unknown command" help xyzzyx
refused 2 "did you mean 'submit'" sumbit
refused 2 "unknown option '--sokcet': did you mean --socket?" --sokcet x status
refused 2 "unknown option '--json'; put .*after its name" --json list
refused 2 "unknown option '--rank': did you mean --ranks?" submit --rank 2 -- true
refused 2 "did you mean --run-dir?" submit --rundir=x -- true
refused 2 "PATH is missing" --socket
refused 2 "did you mean --json" list --jsno
refused 2 "unknown option '-z'" list -z
refused 2 "takes no value" list --json=yes
refused 2 "N is missing" list -n
refused 2 "not a whole number from 1" list -n 0
refused 2 "not a whole number" list -n -1
refused 2 "not a whole number" logs -n 5x 1
refused 2 "one argument too many" list surplus
refused 2 "argument is missing" wait
refused 2 "argument is missing" cancel
refused 2 "cannot be combined" status -w --json
refused 2 "cannot be combined" metrics -f --json 1
refused 2 "one argument too many" doctor a.yaml b.yaml
refused 2 "expected one SPEC.yaml" submit
refused 2 "missing COMMAND after --" submit --
refused 2 "not both" submit a.yaml -- true
for n in 0 -1 5000 99999999999999999999999; do refused 2 "--ranks: $n is not between 1 and 4096" submit --ranks "$n" -- true; done
refused 2 "--retries: 'x' is not a whole number" submit --retries x -- true
refused 2 "--cpus: 0 is not between 0.01 and 65536" submit --cpus=0 -- true
refused 2 "--ends-with: 'lats' is not first or last: did you mean last?" submit --ends-with lats -- true
refused 2 "not a whole number" submit --priority high -- true
refused 2 "empty" submit --name= -- true
refused 2 "not a whole number from 1" resume --ranks 0 1

spec() { printf '%s\n' "$@" >"$work/job.yaml"; }
refused 2 "none.yaml" submit "$work/none.yaml"
refused 2 "$work" submit "$work"
spec 'kind: command' 'command: ["true"]' 'nmae: x'
refused 2 "job.yaml:3.*nmae.*did you mean name?" submit "$work/job.yaml"
while IFS='|' read -r line meant; do
  spec 'kind: command' 'command: ["true"]' "$line"
  refused 2 "job.yaml:3: unknown key .*: did you mean $meant?;" submit "$work/job.yaml"
done <<'EOF'
grcae: 5|restart.grace_sec
ranks: 2|resources.ranks
run-dir: x|run_dir
restart: {grace: 5}|restart.grace_sec
resources: {grace_sec: 5}|restart.grace_sec
checkpoint: {evry_steps: 5}|checkpoint.every_steps
EOF
spec 'kind: pretrain' 'stages:' '- {train: {stesp: 1}}'
refused 2 "unknown key 'stesp' in train: did you mean train.steps?" submit "$work/job.yaml"
spec 'kind: pretrain' 'stages:' '- {tarin: {steps: 1}}'
refused 2 "unknown key 'tarin' in stages: did you mean stages.train?" submit "$work/job.yaml"
spec 'kind: command' 'command: ["true"]'
refused 2 "'piority=3': unknown key: did you mean priority?" submit --set piority=3 "$work/job.yaml"
refused 2 "'ranks=3': unknown key: did you mean resources.ranks?" submit --set ranks=3 "$work/job.yaml"
refused 2 "'rnaks=3': unknown key: did you mean resources.ranks?" submit --array rnaks=3,4 "$work/job.yaml"
refused 2 "'zork=3': expected KEY=VALUE" submit --set zork=3 "$work/job.yaml"
spec 'kind: command' 'command: ["true"]' 'resources: {ranks: many}'
refused 2 "job.yaml:3.*ranks" submit "$work/job.yaml"
spec 'kind: command' 'command: ["true"]' 'resources: {ranks: 0}'
refused 2 "ranks" submit "$work/job.yaml"
spec 'kind: [unclosed'
refused 2 "job.yaml" submit "$work/job.yaml"
printf 'kind: command\nname: \xff\xfe\ncommand: ["true"]\n' >"$work/job.yaml"
refused 2 "job.yaml" submit "$work/job.yaml"
spec 'kind: command' 'command: ["true"]'
refused 2 "--ranks: only applies to .*use --set resources.ranks=2" submit --ranks 2 "$work/job.yaml"

# No daemon: the right code, and the command that starts one.
refused 4 'no such socket.*bertd --detach' submit "$work/job.yaml"
refused 4 'bertd --detach' submit -- true
for command in status list shutdown; do refused 4 'no bertd answers' "$command"; done
for command in logs wait cancel pause resume checkpoint checkpoints events metrics rm; do refused 4 'no bertd answers' "$command" 1; done
refused 4 'no bertd answers' --socket "$work/other.sock" list
refused 4 'other.sock' --socket="$work/other.sock" list
: >"$work/plain"
refused 4 'nobody listens' --socket "$work/plain" list
refused 2 'longer than' --socket "$work/$(printf 'x%.0s' {1..120})" list
mkdir -m 700 "$work/closed"
as_other=()
((EUID != 0)) || as_other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
((EUID == 0)) || chmod 0 "$work/closed"
cp "$BERTCTL" "$work/bertctl"
ok "a folder that one may not enter: exit 1, permission denied" refuses 1 '^bertctl: .*permission denied' "${as_other[@]}" "$work/bertctl" --socket "$work/closed/bertd.sock" list
chmod 700 "$work/closed"
finish
