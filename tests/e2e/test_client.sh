#!/bin/bash
# What bertctl's options for submitting, listing, watching and waiting say, over a daemon's restart as well; on a terminal (script(1)) and off it.
. "$(dirname "$0")/lib.sh"
command -v script >/dev/null || skip_all "needs script"
start_bertd
on_terminal() { TERM=xterm timeout $((60 * patience)) script -qec "$(printf '%q ' "$@")" /dev/null </dev/null | tr -d '\r'; }
gate() { echo "until [ -e $work/$1 ]; do sleep 0.05; done"; } # a command that ends when that file is there
escape=$(printf '\033')
says() { [[ $1 =~ $2 ]] || { echo "'$1' lacks '$2'"; return 1; }; }

# submit
out=$(timeout $((60 * patience)) "$BERTCTL" submit --wait --name well -- true 2>"$work/err")
is "submit --wait of a job that succeeds: 0, its id alone" "$? $out $(wc -c <"$work/err")" "0 1 0"
out=$(timeout $((60 * patience)) "$BERTCTL" submit --wait --retries 0 -- false 2>"$work/err")
is "of one that fails: 1, and its id" "$? $out" "1 2"
mv "$work/err" "$work/failed"
ok "and why, in one line" eval 'says "$(cat "$work/failed")" "^bertctl: job 2 has failed: exit code 1" && [[ $(wc -l <"$work/failed") == 1 ]]'
is "submit --json prints an object" "$("$BERTCTL" submit --json -- true | jq -c .)" '{"id":3}'
is "with --wait as well" "$(timeout $((60 * patience)) "$BERTCTL" submit --json --wait -- true | jq -c .)" '{"id":4}'
printf 'name: many\nkind: command\ncommand: ["true"]\nresources: {ranks: 8}\n' >"$work/many.yaml"
is "of an array their ids" "$("$BERTCTL" submit --json --array priority=1,2,3 "$work/many.yaml" | jq -c .)" '[5,6,7]'
ok "--array takes 1000 values: each is looked at" refuses 2 "priority: 'x' is not" "$BERTCTL" submit --array "priority=$(seq -s, 0 998),x" "$work/many.yaml"
ok "and no more" refuses 2 "^bertctl: --array: more than 1000 jobs" "$BERTCTL" submit --array "priority=$(seq -s, 0 1000)" "$work/many.yaml"
ok "also of several keys" refuses 2 "^bertctl: --array: more than 1000 jobs" "$BERTCTL" submit --array "priority=$(seq -s, 1 501)" --array resources.ranks=1,2 "$work/many.yaml"
for id in 5 6 7; do wait_job $id 30; done

# list: 101 jobs wait behind one.
holds=$("$BERTCTL" submit --name holds --ranks 8 --priority 1000 -- sh -c "$(gate held)")
wait_for 20 state_is "$holds" running
mapfile -t queued < <("$BERTCTL" submit --array "priority=$(seq -s, 1 101)" "$work/many.yaml")
last=${queued[100]}
rows() { sed "s/$escape\\[[0-9;]*m//g" | grep -cE '^ *[0-9]+ '; }
is "list has all jobs" "$("$BERTCTL" list | rows)" "$last"
is "on a terminal the newest 100, and says so" "$(on_terminal "$BERTCTL" list >"$work/out"; rows <"$work/out"; grep -c 'showing the newest 100 jobs; use --all' "$work/out")" "100
1"
is "unless --all is given" "$(on_terminal "$BERTCTL" list --all | rows)" "$last"
is "or -n" "$(on_terminal "$BERTCTL" list -n 105 | rows)" 105
is "the newest first" "$("$BERTCTL" list -n 2 --json | jq -c 'map(.id)')" "[$last,$((last - 1))]"
is "--active leaves out those that have ended" "$("$BERTCTL" list --active --json | jq -c 'map(.id) == ([range('"$last"'; '"$((holds - 1))"'; -1)])')" true
"$BERTCTL" cancel "${queued[@]}"
is "whatever they ended as" "$("$BERTCTL" list --active --json | jq -c 'map(.id)')" "[$holds]"

# A name that several jobs have.
ok "a name that one job has stands for it" quietly "$BERTCTL" status well
again=$("$BERTCTL" submit --name well -- true)
is "for the newest where several have it" "$("$BERTCTL" status --json well | jq .id)" "$again"
ok "a name that no job has is refused" refuses 3 "^bertctl: no job is named 'xyzzy'; \`bertctl list\` shows all" "$BERTCTL" status xyzzy
ok "one that is nearly a name: the name is suggested" refuses 3 "^bertctl: no job is named 'wel': did you mean 'well'?\$" "$BERTCTL" status wel
completed() { # what bash offers for a job
  local COMP_WORDS=(bertctl status "$1") COMP_CWORD=2 COMPREPLY=()
  PATH=$(dirname "$BERTCTL"):$PATH _bertctl
  echo "${COMPREPLY[@]}"
}
. "$BUILD_DIR/docs/bertctl"
is "the shell completes a name" "$(completed wel)" well
is "and an id" "$(completed "$again")" "$again"
for odd in $'a\xff' $'\xef\xbf\xbe'; do
  ok "nor has one such a name: $(printf '%q' "$odd")" refuses 3 "^bertctl: no such job: the name is not UTF-8" "$BERTCTL" status "$odd"
done

# Changes are waited for: the answer of one that is known comes with the next one, of one that is not, at once.
change() { busctl "--address=unix:path=$BERTD_SOCKET" --json=short --timeout=20 call -- org.bertd1 /org/bertd1 org.bertd1.Manager WaitChange t "$1" | jq '.data[0]'; }
if command -v busctl >/dev/null; then
  known=$(change 0)
  change "$known" >"$work/changed" &
  sleep 0.5
  ok "WaitChange waits while nothing changes" test ! -s "$work/changed"
  "$BERTCTL" submit -- true >/dev/null
  wait $!
  ok "and answers a submit with a later serial" test "$(cat "$work/changed")" -gt "$known"
else
  skip "WaitChange waits while nothing changes" "no busctl"
  skip "and answers a submit with a later serial" "no busctl"
fi

# Output that goes nowhere.
output_fails() { # ERROR COMMAND...
  local error=$1
  shift
  exits 1 timeout 60 "$BERTCTL" "$@" 2>"$work/err" && [[ $(cat "$work/err") == "bertctl: "*"standard output: $error" && $(wc -l <"$work/err") == 1 ]] || { cat "$work/err"; return 1; }
}
while read -r -a words; do
  ok "${words[*]} >/dev/full" eval 'output_fails "No space left on device" "${words[@]}" >/dev/full'
  ok "${words[*]} >&-" eval 'output_fails "Bad file descriptor" "${words[@]}" >&-'
done <<EOF
list
list --json
status
status --json
status --json 1
status -w 1
events $last
events --json $last
checkpoints --json 1
logs --json 1
wait --json 1
version
doctor --json
help
list --help
EOF
ok "bertd --help >/dev/full" exits 74 eval '"$BERTD" --help >/dev/full 2>"$work/err"'
is "says so" "$(cat "$work/err")" "bertd: standard output: No space left on device"
ok "a submission that was accepted is said to be" eval 'output_fails "No space left on device" submit -- true >/dev/full && grep -q "^bertctl: job [0-9]* is submitted; " "$work/err"'
ok "also as JSON" eval 'output_fails "No space left on device" submit --json -- true >/dev/full && grep -q "^bertctl: job [0-9]* is submitted; " "$work/err"'
# The reader ends before the list does.
ok "a reader that went away is no error to tell" eval '{ "$BERTCTL" list --json 2>"$work/err"; } | head -n 1 >/dev/null; [[ ! -s $work/err ]]'
ok "nor where SIGPIPE is ignored" eval '(trap "" PIPE; { "$BERTCTL" list --json 2>"$work/err"; } | head -n 1 >/dev/null); [[ ! -s $work/err ]]'

# Colour.
count_colours() { awk -v escape="$escape[[]" '/^bertd / {said = 1} $0 ~ escape {n = 1} END {print !said ? "nothing was said" : n ? "some" : 0}'; }
colours() { on_terminal "$@" "$BERTCTL" status | count_colours; }
is "a terminal has colours" "$(colours)" some
is "with NO_COLOR none" "$(colours env NO_COLOR=1)" 0
is "NO_COLOR set but empty counts for nothing" "$(colours env NO_COLOR=)" some
is "a pipe has none" "$("$BERTCTL" status | count_colours)" 0

# version, and which daemon answers.
is "version has both" "$("$BERTCTL" version | sed 's/ [0-9][^ ]*/ V/; s/protocol [0-9]*/protocol P/')" "bertctl V (protocol P)
bertd V (protocol P, pid $bertd_pid, $BERTD_SOCKET)"
is "as JSON, too" "$("$BERTCTL" version --json | jq -c '[.bertctl == .bertd, .bertctl_protocol == .bertd_protocol, .pid, .socket]')" "[true,true,$bertd_pid,\"$BERTD_SOCKET\"]"
mkdir -p "$work/runtime/bertd"
ln -s "$BERTD_SOCKET" "$work/runtime/bertd/bertd.sock"
# The system's socket in a mount namespace of its own; anything that listens there answers.
both() { # LINK
  # shellcheck disable=SC2016 # for that shell
  env -u BERTD_SOCKET -u BERTD_STATE_DIR XDG_RUNTIME_DIR="$work/runtime" unshare -rm sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/bertd && { [ -z "$1" ] || ln -s "$1" /run/bertd/bertd.sock; } && exec "$2" version --json' sh "$1" "$BERTCTL" 2>"$work/err"
}
if unshare -rm mount -t tmpfs tmpfs /run 2>/dev/null; then
  is "where both answer, the user's own is used" "$(both "$BERTD_SOCKET" | jq -r .socket)" "$work/runtime/bertd/bertd.sock"
  is "and a line says which" "$(cat "$work/err")" "bertctl: using your own bertd ($work/runtime/bertd/bertd.sock); for the system daemon: --socket /run/bertd/bertd.sock"
  is "where one answers, nothing is said" "$(both "" | jq -r .socket; cat "$work/err")" "$work/runtime/bertd/bertd.sock"
  rm "$work/runtime/bertd/bertd.sock"
  is "the system's, where the user has none" "$(both "$BERTD_SOCKET" | jq -r .socket; cat "$work/err")" "/run/bertd/bertd.sock"
else
  for what in "the user's own is used" "a line says which" "where one answers" "the system's"; do skip "$what" "needs mount namespaces"; done
fi

# The system's, made where there was no group for it: whoever runs bertctl is not told to join root's.
if ((EUID == 0)) && unshare -m true 2>/dev/null; then
  cp "$BERTCTL" "$work/bertctl"
  closed() { # ARGUMENT...: of bertctl, as another user, with a socket of root alone
    # shellcheck disable=SC2016 # for that shell
    env -u BERTD_SOCKET -u BERTD_STATE_DIR HOME="$work/no-home" unshare -m sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/bertd && umask 177 && python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\"/run/bertd/bertd.sock\")" && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' sh "$work/bertctl" "$@"
  }
  closed_says() { # PATTERN ARGUMENT...
    local pattern=$1 code=0
    shift
    closed "$@" >"$work/out" 2>"$work/err" || code=$?
    [[ $code == 1 ]] && grep -q "^bertctl: $pattern" "$work/err" || { echo "exit $code"; cat "$work/out" "$work/err"; return 1; }
  }
  cure="groupadd --system bertd; usermod -aG bertd nobody; systemctl restart bertd"
  ok "a system's bertd without a group: what is missing" closed_says "/run/bertd/bertd.sock: only root may use it, because the group bertd did not exist when bertd started; ask root for \`$cure\`" list
  ok "doctor says it, too" eval 'closed doctor >"$work/out"; cat "$work/out"; grep -A1 "^fail  group .*only root may use the system daemon" "$work/out" | grep -q "cure: $cure"'
else
  for what in "a system's bertd without a group" "doctor says it, too"; do skip "$what" "needs root and mount namespaces"; done
fi

# Watching and waiting, while bertd is away for a while.
timeout $((90 * patience)) "$BERTCTL" status -w "$holds" >"$work/watched" 2>&1 &
watcher=$!
(on_terminal "$BERTCTL" status -w "$holds" >"$work/drawn") &
drawer=$!
timeout $((90 * patience)) "$BERTCTL" wait "$holds" >"$work/waited" 2>&1 &
waiter=$!
ok "status -w shows the job again and again" wait_for 20 eval '[[ $(grep -c "state  *running" "$work/watched") -ge 2 ]]'
kill "$bertd_pid"
wait "$bertd_pid" 2>/dev/null
start_bertd
sleep 0.5
is "wait outlives a restart" "$(wc -c <"$work/waited") $(lives "$waiter" && echo waits)" "0 waits"
kill_bertd
touch "$work/held"
sleep 2
start_bertd
wait "$waiter"
is "wait outlives a bertd that is killed and back after 2 s: 0, silent" "$? $(wc -c <"$work/waited")" "0 0"
wait "$watcher"
is "so does status -w, which then ends" "$? $(grep -o 'state  *done' "$work/watched" | xargs)" "0 state done"
wait "$drawer"
ok "on a terminal it refreshes in place" grep -q "$escape\[[0-9]*A" "$work/drawn"
is "wait of a job that has failed" "$(wait_job 2 20 2>&1; echo $?)" "$(cat "$work/failed")
1"
is "with --json the job as well" "$(timeout $((20 * patience)) "$BERTCTL" wait --json "$holds" | jq -c '[.id, .state]')" "[$holds,\"done\"]"

# Who waits for a change asks for it once; a terminal's ages go on without a call.
printf 'kind: command\ncommand: [sh, -c, "exit 1"]\nrestart: {backoff_sec: [600, 600]}\n' >"$work/backs-off.yaml"
more=$("$BERTCTL" submit "$work/backs-off.yaml")
wait_for 20 state_is "$more" backoff
for words in "status -w $more" "status -w" "wait $more"; do
  # shellcheck disable=SC2086
  timeout $((90 * patience)) "$BERTCTL" $words >"$work/idle-${words// /_}" 2>&1 &
done
idler=$!
TERM=xterm timeout $((60 * patience)) script -qfec "$BERTCTL status -w $more" /dev/null </dev/null >"$work/idle-drawn" &
drawer=$!
wait_for 20 grep -q backoff "$work/idle-drawn"
sleep 1
wakeups() { awk '/^voluntary/ { print $2 }' "/proc/$bertd_pid/status"; }
before=$(wakeups) frames=$(grep -o "$escape\[[0-9]*A" "$work/idle-drawn" | wc -l)
sleep 5
ok "four clients that wait do not wake bertd in 5 s" test $(($(wakeups) - before)) -le 2
ok "and in a terminal ages go on" test "$(grep -o "$escape\[[0-9]*A" "$work/idle-drawn" | wc -l)" -ge $((frames + 3))
quietly "$BERTCTL" cancel "$more"
wait "$idler"
is "a change is known at once: wait" "$?" 1
wait "$drawer"
ok "status -w" eval '[[ $(grep -o "state  *[a-z]*" "$work/idle-status_-w_$more" | xargs) == "state backoff state cancelled" ]]'
ok "and of all jobs" wait_for 10 grep -q "backs-off  *cancelled" "$work/idle-status_-w"
finish
