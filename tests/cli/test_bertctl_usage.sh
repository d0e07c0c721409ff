#!/bin/bash
# What bertctl says and returns without a daemon: usage, wrong specs, no daemon, a socket that it may not use. Needs BERTCTL.
set -uo pipefail
: "${BERTCTL:?}"
home=$(mktemp -d /tmp/bertctl-usage.XXXXXX)
trap 'rm -rf "$home"' EXIT
export BERTD_SOCKET=$home/none.sock BERTD_STATE_DIR=$home/state XDG_RUNTIME_DIR=$home
n=0 failed=0

result() { # DESCRIPTION COMMAND...
  local what=$1
  shift
  n=$((n + 1))
  if "$@"; then echo "ok $n - $what"; else
    echo "not ok $n - $what"
    sed 's/^/#   /' "$home/out" "$home/err"
    failed=1
  fi
}
is_one_line() { (($(wc -l <"$home/err") == 1)) && [[ ! -s $home/out ]] && grep -q '^bertctl: ' "$home/err"; }
refuses() { # EXIT PATTERN ARGUMENT...: one line on stderr with the pattern, nothing on stdout
  local want=$1 pattern=$2 code
  shift 2
  timeout 20 "$BERTCTL" "$@" >"$home/out" 2>"$home/err" </dev/null
  code=$?
  refused() { ((code == want)) && is_one_line && grep -q -- "$pattern" "$home/err"; }
  result "$(printf '%.60s' "bertctl $*"): exit $want, /$pattern/ (got $code)" refused
}
accepts() { # PATTERN ARGUMENT...: exit 0 with the pattern on stdout
  local pattern=$1 code
  shift
  timeout 20 "$BERTCTL" "$@" >"$home/out" 2>"$home/err" </dev/null
  code=$?
  accepted() { ((code == 0)) && [[ ! -s $home/err ]] && grep -q -- "$pattern" "$home/out"; }
  result "bertctl $*: exit 0, /$pattern/ (got $code)" accepted
}

commands="submit status list logs wait cancel pause resume checkpoint checkpoints events metrics rm shutdown doctor version help"

accepts "Commands:" --help
accepts "Commands:" help
accepts "^bertctl [0-9]" --version
for command in $commands; do
  accepts "Usage: bertctl $command" "$command" --help
  accepts "Usage: bertctl $command" help "$command"
done

refuses 2 "command is missing"
refuses 2 "did you mean 'status'" sttaus
refuses 2 "unknown command 'xyzzyx'" xyzzyx
refuses 2 "unknown command" help xyzzyx
refuses 2 "unknown option '--sokcet'" --sokcet x status
refuses 2 "PATH is missing" --socket
refuses 2 "did you mean --json" list --jsno
refuses 2 "unknown option '-z'" list -z
refuses 2 "takes no value" list --json=yes
refuses 2 "N is missing" list -n
refuses 2 "not a whole number from 1" list -n 0
refuses 2 "not a whole number" list -n -1
refuses 2 "not a whole number" logs -n 5x 1
refuses 2 "one argument too many" list surplus
refuses 2 "argument is missing" wait
refuses 2 "argument is missing" cancel
refuses 2 "not go together" status -w --json
refuses 2 "not go together" metrics -f --json 1
refuses 2 "one argument too many" doctor a.yaml b.yaml
refuses 2 "expected one SPEC.yaml" submit
refuses 2 "command is missing after --" submit --
refuses 2 "not both" submit a.yaml -- true
refuses 2 "not a whole number from 1 to 4096" submit --ranks 0 -- true
refuses 2 "not a whole number" submit --ranks -1 -- true
refuses 2 "not a whole number" submit --ranks 1000000000 -- true
refuses 2 "not a whole number" submit --ranks 99999999999999999999999 -- true
refuses 2 "not a whole number" submit --priority high -- true
refuses 2 "empty" submit --name= -- true
refuses 2 "not a whole number from 1" resume --ranks 0 1

spec() { printf '%s\n' "$@" >"$home/job.yaml"; }
refuses 2 "none.yaml" submit "$home/none.yaml"
refuses 2 "$home" submit "$home"
spec 'kind: command' 'command: ["true"]' 'nmae: x'
refuses 2 "job.yaml:3.*nmae" submit "$home/job.yaml"
spec 'kind: command' 'command: ["true"]' 'resources: {ranks: many}'
refuses 2 "job.yaml:3.*ranks" submit "$home/job.yaml"
spec 'kind: command' 'command: ["true"]' 'resources: {ranks: 0}'
refuses 2 "ranks" submit "$home/job.yaml"
spec 'kind: [unclosed'
refuses 2 "job.yaml" submit "$home/job.yaml"
printf 'kind: command\nname: \xff\xfe\ncommand: ["true"]\n' >"$home/job.yaml"
refuses 2 "job.yaml" submit "$home/job.yaml"
spec 'kind: command' 'command: ["true"]'
refuses 2 "go with" submit --ranks 2 "$home/job.yaml"

# No daemon: the right code, and the command that starts one.
refuses 4 'no such socket.*bertd --detach' submit "$home/job.yaml"
refuses 4 'bertd --detach' submit -- true
for command in status list shutdown; do refuses 4 'no bertd answers' "$command"; done
for command in logs wait cancel pause resume checkpoint checkpoints events metrics rm; do refuses 4 'no bertd answers' "$command" 1; done
refuses 4 'no bertd answers' --socket "$home/other.sock" list
refuses 4 'other.sock' --socket="$home/other.sock" list
: >"$home/plain"
refuses 4 'nobody listens' --socket "$home/plain" list
refuses 2 'longer than' --socket "$home/$(printf 'x%.0s' {1..120})" list
if ((EUID != 0)); then
  mkdir -m 0 "$home/closed"
  refuses 1 'permission denied' --socket "$home/closed/bertd.sock" list
  rmdir "$home/closed"
fi

echo "1..$n"
exit $failed
