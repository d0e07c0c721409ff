#!/bin/bash
# Why a command failed: the last line that it wrote, for its user and root; its exit codes, of which three mean something only where
# it reports progress.
. "$(dirname "$0")/lib.sh"
start_bertd
ends() { # STATE OPTION... -- COMMAND...: sets $job
  local state=$1
  shift
  job=$("$BERTCTL" submit "$@") && wait_for 20 state_is "$job" "$state"
}

ok "a command fails" ends failed --retries 0 -- sh -c 'echo "step 1"; echo "ValueError: shapes differ" >&2; exit 1'
is "the reason has its last line" "$(field "$job" reason)" \
  "exit code 1: ValueError: shapes differ; not tried again (--retries 0)"
is "events, too" "$("$BERTCTL" events --json "$job" | jq -r '.[-1].reason')" "$(field "$job" reason)"
if [[ $EUID -eq 0 ]]; then
  chmod 666 "$BERTD_SOCKET"
  cp "$BERTCTL" "$work/bertctl"
  other() { setpriv --reuid 65534 --regid 65534 --clear-groups -- "$work/bertctl" "$@" --json "$job" | jq -r "$filter"; }
  filter=.reason
  is "another user reads what bertd says" "$(other status)" "exit code 1; not tried again (--retries 0)"
  filter='[.[].reason // "" | contains("shapes")] | any'
  is "and nothing of it in the events" "$(other events)" false
else
  skip "another user reads what bertd says" "root only"
  skip "and nothing of it in the events" "root only"
fi

for code in 75 76 77; do
  ok "exit code $code of a command that reports nothing fails it" ends failed --retries 0 -- sh -c "echo saved; exit $code"
  is "with its last line" "$(field "$job" reason)" "exit code $code: saved; not tried again (--retries 0)"
  is "an ordinary failure" "$(field "$job" exit_class)" failed
done
finish
