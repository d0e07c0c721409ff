#!/bin/bash
# bertctl logs over the attempts of a job: the current one, an older one, all of them as they come, the paths of the files.
. "$(dirname "$0")/lib.sh"
start_bertd
# Fails twice, and each attempt waits for a file before it ends.
cat >"$work/thrice" <<END
echo "begin \$BERTD_ATTEMPT"
until [ -e $work/go\$BERTD_ATTEMPT ]; do sleep 0.05; done
printf "end \$BERTD_ATTEMPT"
[ \$BERTD_ATTEMPT -ge 3 ]
END
printf 'name: thrice\nkind: command\ncommand: [sh, %s]\nrestart: {backoff_sec: [0, 1]}\n' "$work/thrice" >"$work/thrice.yaml"
job=$("$BERTCTL" submit "$work/thrice.yaml")
written() { [[ -s $2 ]] && grep -qx "$1" "$2"; }
follow() { # NAME [OPTION...]: to $work/NAME
  timeout $((60 * patience)) "$BERTCTL" logs -f "${@:2}" "$job" >"$work/$1" 2>&1 &
}
follow all
all=$!
follow first --attempt 1
first=$!
ok "logs -f shows what an attempt writes while it runs" wait_for 20 written "begin 1" "$work/all"
touch "$work/go1"
wait "$first"
is "logs -f --attempt 1 ends with that attempt" "$? $(xargs <"$work/first")" "0 begin 1 end 1"
ok "logs -f goes on with the next" wait_for 20 written "begin 2" "$work/all"
follow tail -n 1
tail=$!
wait_for 20 test -s "$work/tail"
touch "$work/go2" "$work/go3"
ok "the job is done" wait_job "$job" 60
wait "$all"
is "logs -f ends with the job" $? 0
is "each later attempt begins with a line of its own" "$(cat "$work/all")" "begin 1
end 1
==> attempt 2 <==
begin 2
end 2
==> attempt 3 <==
begin 3
end 3"
wait "$tail"
is "logs -f -n 1 begins with the last line of the current attempt" "$? $(head -n 2 "$work/tail" | xargs)" "0 begin 2 end 2"

is "logs is of the newest attempt" "$("$BERTCTL" logs "$job" | xargs)" "begin 3 end 3"
is "logs --attempt 2 of that one" "$("$BERTCTL" logs --attempt 2 "$job" | xargs)" "begin 2 end 2"
is "with -n 1 its last line" "$("$BERTCTL" logs --attempt 2 -n 1 "$job")" "end 2"
ok "an attempt that there was not" refuses 1 "^bertctl: job $job has had 3 attempts; attempt 4 does not exist" "$BERTCTL" logs --attempt 4 "$job"
paths() { "$BERTCTL" logs --json "$@" "$job" | jq -r '.job, .attempt, .files[]' | xargs; }
is "--json prints the paths" "$(paths)" "$job 3 $BERTD_STATE_DIR/jobs/$job/attempt-3/log"
is "of that attempt with --attempt" "$(paths --attempt 1)" "$job 1 $BERTD_STATE_DIR/jobs/$job/attempt-1/log"
is "by which a program reads it" "$(xargs <"$("$BERTCTL" logs --json --attempt 1 "$job" | jq -r '.files[0]')")" "begin 1 end 1"

job=$("$BERTCTL" submit -- sh -c 'echo up; exec sleep 1000')
follow paused
paused=$!
wait_for 20 written up "$work/paused"
"$BERTCTL" pause "$job"
wait "$paused"
is "logs -f ends where the job is paused, too" $? 0
finish
