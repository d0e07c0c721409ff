#!/bin/bash
# Who may call what: each method of the daemon, by each kind of caller, on a job in a state in which its owner may. A refusal counts by its
# reason, as a wrong state refuses everybody; the owner's call comes last and succeeds.
. "$(dirname "$0")/lib.sh"
((EUID == 0)) || skip_all "needs root"
command -v busctl >/dev/null || skip_all "no busctl"

# The method, who may call it, the state of the job it is called on, its arguments. A new method needs a row here.
#   anyone: who may connect; owner: the job's user and root; shim: the same, by another check; admin: root; systemd: anyone, where
#   bertd runs jobs by systemd (scripts/test-systemd), and here nobody
methods='
Submit          anyone  -         a{sv} 4 name s x kind s command command as 1 true cwd s /
GetJob          anyone  failed    t JOB
ListJobs        anyone  -         tub 0 100 false
FindJob         anyone  -         s x
GetEvents       anyone  failed    ttu JOB 0 100
GetCheckpoints  anyone  training  t JOB
ListCheckpoints anyone  training  tt JOB 0
GetSpec         owner   training  t JOB
Cancel          owner   running   tb JOB false
Pause           owner   running   t JOB
Resume          owner   paused    ta{sv} JOB 0
Checkpoint      owner   training  t JOB
Remove          owner   failed    t JOB
Wait            anyone  failed    t JOB
WaitChange      anyone  -         t 0
GetDaemon       anyone  -
AttemptHello    shim    training  tuss JOB 1 NONCE 0
AttemptReport   shim    training  a{sv} 3 job t JOB attempt u 1 nonce s NONCE
Lease           systemd -         a{sv} 0
Drain           admin   -         sb repair false
Undrain         admin   -
Shutdown        admin   -         b false
'
rows() { grep . <<<"$methods"; }

# The build folder may be closed to other users, and a trainer that waits is as good as one that trains.
mkdir "$work/daemon" "$work/trainer"
cp "$BERTD" "$BERTD-shim" "$work/daemon/"
cp "$BERTCTL" "$work/"
printf '#!/bin/sh\nexec sleep 1000\n' >"$work/trainer/bert-trainer"
chmod -R a+rX "$work"
chmod 755 "$work/trainer/bert-trainer"
BERTD=$work/daemon/bertd
cd "$work" || exit 99
start_bertd --slots 200
group=54321
chmod 666 "$BERTD_SOCKET" # for shims: no account is in that group
user() { echo "setpriv --reuid $1 --regid $1 $2 --"; } # UID GROUPS
declare -A as=([root]='' [owner]="$(user 65534 "--groups $group")" [member]="$(user 1 "--groups $group")" [stranger]="$(user 1 --clear-groups)")
bus=(busctl "--address=unix:path=$BERTD_SOCKET" --json=short)
# shellcheck disable=SC2206 # ${as[...]} is the words of a command
words_of() { words=(timeout $((60 * patience)) ${as[$1]} "${bus[@]}" call -- org.bertd1 /org/bertd1 org.bertd1.Manager "${@:2}"); }
call() { local words; words_of "$@"; "${words[@]}"; }                      # CALLER METHOD ARGUMENT...
denied() { local words; words_of "${@:2}"; refuses 1 "$1" "${words[@]}"; } # REASON CALLER METHOD ARGUMENT...

submit() { # CALLER STATE: prints the new job's id
  local command=(sleep 1000)
  case $2 in
  training) call "$1" Submit 'a{sv}' 4 name s x kind s pretrain spec s 'seed: 1' cwd s / | jq '.data[0]'; return ;;
  failed) command=(sh -c 'echo secret-output >&2; exit 65') ;;
  esac
  # shellcheck disable=SC2086
  ${as[$1]} "$work/bertctl" submit -- "${command[@]}"
}
settle() { # STATE JOB
  local state=$1
  [[ $state != training && $state != paused ]] || state=running
  wait_for 30 state_is "$2" "$state" || return
  [[ $1 == paused ]] || return 0
  "$BERTCTL" pause "$2" && wait_for 30 state_is "$2" paused
}
declare -A job_of
make_jobs() { # one of the owner for each row that needs one; where owners only may call, another of his, for root, and one of root's
  local method who state arguments key
  while read -r method who state arguments; do
    [[ $state != - ]] || continue
    job_of[$method]=$(submit owner "$state") || return
    [[ $who == owner ]] || continue
    job_of[$method.other]=$(submit owner "$state") || return
    job_of[$method.root]=$(submit root "$state") || return
  done < <(rows)
  while read -r method who state arguments; do
    for key in "$method" "$method.other" "$method.root"; do
      [[ -z ${job_of[$key]:-} ]] || settle "$state" "${job_of[$key]}" || { echo "$key: job ${job_of[$key]} is not $state"; return 1; }
    done
  done < <(rows)
}
on() { # JOB: the row's arguments on that job
  local nonce=
  [[ $arguments != *NONCE* ]] || nonce=$(jq -r .nonce "$BERTD_STATE_DIR/jobs/$1/attempt-1/attempt.json")
  nonce=${arguments//NONCE/$nonce}
  read -r -a on <<<"${nonce//JOB/$1}"
}

served=$(busctl "--address=unix:path=$BERTD_SOCKET" introspect org.bertd1 /org/bertd1 |
  awk '$2 == "interface" {its = $1} $2 == "method" && its !~ /^org\.freedesktop\.DBus\./ {print substr($1, 2)}' | sort | xargs)
is "each method that bertd serves has a row" "$served" "$(rows | awk '{print $1}' | sort | xargs)"
ok "there are jobs in all states" make_jobs
((tap_failed == 0)) || finish
chgrp "$group" "$BERTD_SOCKET"
chmod 660 "$BERTD_SOCKET"

# What is not for everybody's eyes: of a job that failed, and said why.
ended=${job_of[GetJob]}
seen() { call "$1" "${@:3}" | jq -r "$2"; } # CALLER FILTER METHOD ARGUMENT...
hidden_keys() { comm -13 <(seen member "$@" | sort) <(seen owner "$@" | sort) | xargs; }
# Those that bus.h marks with an asterisk; the command is GetJob's alone.
owners=$(sed -n '/a{sv} of a job/,/^ \*$/s/^ \*   \([a-z_]*\) [a-z]* \*\( .*\)\?$/\1/p' "$SOURCE_DIR/include/bertd/bus.h" | sort | xargs)
is "GetJob hides what is its owner's" "$(hidden_keys '.data[0] | keys[]' GetJob t "$ended")" "$owners"
is "ListJobs too" "$(hidden_keys ".data[0][] | select(.id.data == $ended) | keys[]" ListJobs tub 0 100 false)" "${owners/command /}"
for caller in member owner root; do
  is "GetJob: a reason for $caller" "$(seen $caller '.data[0].reason.data | contains("exit code 65")' GetJob t "$ended")" true
  is "GetEvents: a reason for $caller" "$(seen $caller '.data[0] | any(.[5] | contains("exit code 65"))' GetEvents ttu "$ended" 0 100)" true
  says=$([[ $caller == member ]] && echo false || echo true)
  is "GetJob: what the job wrote for $caller: $says" "$(seen $caller '.data[0].reason.data | contains("secret-output")' GetJob t "$ended")" "$says"
  is "GetEvents: what the job wrote for $caller: $says" "$(seen $caller '.data[0] | any(.[5] | contains("secret-output"))' GetEvents ttu "$ended" 0 100)" "$says"
done
mine=$BERTD_STATE_DIR/jobs/${job_of[GetSpec.root]}
# shellcheck disable=SC2086
unreadable() { [[ -e $1 ]] && refuses 1 "Permission denied" ${as[member]} cat "$1"; }
for file in "$mine/spec.yaml" "$mine/attempt-1/log" "$mine/attempt-1/attempt.json" "$BERTD_STATE_DIR/state.db"; do
  ok "another user cannot read ${file##*/}" unreadable "$file"
done
arguments="JOB 1 NONCE 0"
on "${job_of[AttemptHello]}"
is "AttemptHello: its user who is not its shim is to stop" "$(seen owner '.data[0]' AttemptHello tuss "${on[@]}")" 1
ok "AttemptReport: its user needs its nonce" denied "no such running attempt" owner AttemptReport 'a{sv}' 3 job t "${job_of[AttemptReport]}" attempt u 1 nonce s wrong
ok "AttemptReport: an unknown key that holds more than numbers or texts is refused" denied "Invalid argument" owner AttemptReport 'a{sv}' 1 later av 1 s x
ok "AttemptReport: one that holds a text is passed over" denied "no such running attempt" owner AttemptReport 'a{sv}' 4 job t "${job_of[AttemptReport]}" attempt u 1 nonce s wrong later s x

while read -r method who state arguments; do
  job=${job_of[$method]:-}
  on "${job:-0}"
  ok "$method: not by one whom the socket is closed to" denied "Permission denied" stranger "$method" "${on[@]}"
  case $who in
  anyone) callers=(member root owner) ;;
  owner)
    ok "$method: not by another user" denied "job $job belongs to nobody" member "$method" "${on[@]}"
    on "${job_of[$method.root]}"
    ok "$method: nor of a job of root's" denied "job ${job_of[$method.root]} belongs to root" owner "$method" "${on[@]}"
    ok "$method: by root" call root "$method" "${on[@]}"
    on "${job_of[$method.other]}"
    ok "$method: by root for the owner" call root "$method" "${on[@]}"
    on "$job"
    callers=(owner)
    ;;
  shim)
    ok "$method: not by another user" denied "not the job's user" member "$method" "${on[@]}"
    callers=(owner)
    ;;
  admin)
    for caller in member owner; do ok "$method: not by $caller" denied "only root or the daemon's user may" "$caller" "$method" "${on[@]}"; done
    callers=(root)
    ;;
  systemd)
    for caller in member owner root; do ok "$method: not by $caller, with the fork launcher" denied "lends nothing" "$caller" "$method" "${on[@]}"; done
    callers=()
    ;;
  esac
  for caller in "${callers[@]}"; do ok "$method: by $caller" call "$caller" "$method" "${on[@]}"; done
done < <(rows)
finish
