#!/bin/bash
# What `bertctl submit` takes for a job and what it refuses: programs, specs from a pipe, folders, standard input, where a job runs.
. "$(dirname "$0")/lib.sh"
start_bertd
cd "$work" || exit 99
mkdir here
cd here || exit 99

# Files as people have them.
printf '#!/bin/bash\necho "hello $*"\n' >script.sh
printf '#!/usr/bin/env python3\nprint("hello")\n' >tool.py
printf 'import sys\nprint(sys.argv)\n' >train.py
printf '#!/bin/bash\r\necho hello\r\n' >dos.sh
printf '#!/usr/bin/env python3\r\nprint(1)\r\n' >dos.py
printf '#!/no/such/shell\n' >gone.sh
printf '#!/usr/bin/env no-such-python\n' >gone.py
printf '#!/usr/bin/env sh -e\n' >words.sh
printf '#!/usr/bin/env sh \n' >blank.sh
printf 'echo hello\n' >plain
printf 'a\0b\0c\n' >binary
printf '\177ELF\2\1\1aaaaaaaaaaaaaaaaaaaa' >elf
cp "$(type -P true)" prog
cp script.sh "two words.sh"
printf '#!%s\n' "$PWD/train.py" >locked.sh
chmod +x locked.sh script.sh dos.sh dos.py gone.sh gone.py words.sh blank.sh plain binary elf "two words.sh"
mkdir folder
is_a_program() { # FILE COMMAND: refused as a spec, with how to run it
  ok "submit $1" refuses 2 "^bertctl: $1: not a job spec but a program; to run it: \`bertctl submit -- $2\`\$" "$BERTCTL" submit "$1"
}
is_a_program script.sh ./script.sh
is_a_program ./script.sh ./script.sh
is_a_program train.py "python3 train.py"
is_a_program tool.py "python3 tool.py"
is_a_program prog ./prog
is_a_program plain ./plain
is_a_program "two words.sh" './"two words.sh"'
is_a_program sleep sleep
chmod -x script.sh
is_a_program script.sh "bash script.sh"
chmod +x script.sh
cp script.sh spec.yaml
ok "a script that is called a spec is a wrong spec" refuses 2 '^bertctl: spec.yaml:2: expected a mapping' "$BERTCTL" submit spec.yaml
ok "a program's own options" refuses 2 "unknown option '--lr'.*: \`bertctl submit -- ./script.sh \.\.\.\`" "$BERTCTL" submit ./script.sh --lr 3
ok "a command line without --" refuses 2 "to run a program: \`bertctl submit -- python3 train.py ...\`" "$BERTCTL" submit python3 train.py 5

refused() { # PATTERN COMMAND...
  local pattern=$1
  shift
  ok "$(printf '%.50s' "-- $*"): $pattern" refuses 2 "^bertctl: $pattern" "$BERTCTL" submit -- "$@"
}
refused "no-such-program: command not found\$" no-such-program
refused "\./trian.py: No such file or directory\$" ./trian.py
refused "script.sh: command not found; .*\`bertctl submit -- ./script.sh\`" script.sh
refused "\./train.py: Permission denied; run it as \`bertctl submit -- python3 ./train.py\`" ./train.py
refused "\./folder: Is a directory" ./folder
refused "\./train.py/x: Not a directory" ./train.py/x
refused "\./dos.sh: /bin/bash^M: bad interpreter: No such file or directory; its lines end in CR LF" ./dos.sh
refused "\./dos.py: /usr/bin/env python3^M: bad interpreter" ./dos.py
refused "\./gone.sh: /no/such/shell: bad interpreter: No such file or directory\$" ./gone.sh
refused "\./locked.sh: $PWD/train.py: bad interpreter: Permission denied\$" ./locked.sh
refused "\./gone.py: /usr/bin/env: no-such-python: bad interpreter: No such file or directory\$" ./gone.py
refused "\./words.sh: /usr/bin/env: 'sh -e': No such file or directory; with arguments: #!/usr/bin/env -S sh -e\$" ./words.sh
refused "\./binary: cannot execute binary file: Exec format error" ./binary
refused "\./elf: cannot execute binary file: Exec format error" ./elf
refused "empty command" ""
refused "python3 train.py: command not found; it is one word.*sh -c" "python3 train.py"
refused "SEED=1: command not found; .*env NAME=VALUE" SEED=1 ./script.sh
refused "cd: command not found; it is a shell builtin: \`bertctl submit -- bash -c" cd folder
ok "an empty word for a spec" refuses 2 "^bertctl: submit: SPEC.yaml: empty argument" "$BERTCTL" submit ""
printf 'kind: command\ncommand: [./trian.py]\n' >job.yaml
ok "a spec's program is looked at, too" refuses 2 "^bertctl: job.yaml: command: ./trian.py: No such file or directory" "$BERTCTL" submit job.yaml
is "none of them was submitted" "$("$BERTCTL" list --json | jq length)" 0
ok "but blanks at the end are none" "$BERTCTL" submit -- ./blank.sh
runs() { [[ $("$BERTCTL" submit --wait "$@" 2>&1) =~ ^[0-9]+$ ]]; }
for program in ./script.sh ./plain ./prog "./two words.sh"; do ok "$program runs" runs -- "$program"; done
ok "nothing of a program is run before its time" eval 'printf "#!/bin/sh\necho x >>%s/ran\n" "$work" >mark.sh; chmod +x mark.sh; runs -- ./mark.sh && [[ $(cat "$work/ran") == x ]]'
ok "one that may be executed but not read runs" eval 'cp prog closed; chmod 711 closed; runs -- ./closed'
ok "PATH is the submitter's" eval 'PATH=$PWD:$PATH runs -- script.sh'

# Niceness and CPUs.
told() { "$BERTCTL" logs "$(nice -n "$1" taskset -c "$2" "$BERTCTL" submit --wait -- sh -c 'nice; taskset -cp $$ | sed "s/.*: //"')" | xargs; }
first=$(taskset -cp $$ | sed 's/.*: \([0-9]*\).*/\1/') all=$(taskset -cp $$ | sed 's/.*: //')
nicer=$(nice -n 3 nice)
is "a job is as nice as its submitter" "$(told 3 "$all")" "$nicer $all"
is "status shows it" "$(field "$("$BERTCTL" list -n 1 --json | jq '.[0].id')" nice)" "$nicer"
is "and runs on his CPUs" "$(told 0 "$first")" "$(nice) $first"
told_policy() { "$BERTCTL" logs "$("$@" "$BERTCTL" submit --wait -- sh -c 'chrt -p $$ | sed -n "s/.*policy: //p"; ionice')" | xargs; }
usual=$(ionice)
is "a scheduling policy is the submitter's as well" "$(told_policy chrt -b 0)" "SCHED_BATCH $usual"
is "and an I/O priority" "$(told_policy ionice -c 3)" "SCHED_OTHER idle"
is "both at once" "$(told_policy chrt -i 0 ionice -c 2 -n 7)" "SCHED_IDLE best-effort: prio 7"
job=$(taskset -c "$first" nice -n 3 "$BERTCTL" submit -- sh -c 'trap "exit 1" TERM; taskset -cp $$; sleep 1000 & wait')
wait_for 20 state_is "$job" running
ok "so does one of a running job" refuses 1 "^bertctl: job $job is running: cannot remove it; \`bertctl cancel $job\` ends it" "$BERTCTL" rm "$job"
"$BERTCTL" pause "$job"
wait_for 20 state_is "$job" paused
ok "rm of a paused job says what frees it" refuses 1 "^bertctl: job $job is paused: cannot remove it; \`bertctl cancel $job\` ends it" "$BERTCTL" rm "$job"
kill_bertd
sqlite3 "$BERTD_STATE_DIR/state.db" "UPDATE input SET cpu_list='4000' WHERE job=$job; UPDATE job SET nice=-5 WHERE id=$job"
start_bertd
"$BERTCTL" resume "$job"
log_has() { "$BERTCTL" logs "$1" 2>/dev/null | grep -q -- "$2"; }
ok "CPUs that are not there any more: it runs on any" wait_for 20 log_has "$job" ": $all\$"
ok "and says so" log_has "$job" '^bertd: CPUs 4000 of the submitter: not available; the job runs on any$'
"$BERTCTL" cancel --now "$job"

# Standard input.
told="^bertctl: standard input is ignored: a job reads /dev/null"
stdin_said() { [[ $(grep -c "$told" "$work/err") == "$1" ]] || { cat "$work/err"; return 1; }; }
"$BERTCTL" submit -- ./script.sh <train.py >/dev/null 2>"$work/err"
ok "a file on standard input: said once" stdin_said 1
"$BERTCTL" submit job.yaml <train.py >/dev/null 2>&1
sed -i 's/trian.py/script.sh/' job.yaml
"$BERTCTL" submit job.yaml <train.py >/dev/null 2>"$work/err"
ok "of a spec's command as well" stdin_said 1
{ echo config; sleep 1; } | { sleep 0.3; "$BERTCTL" submit -- ./script.sh >/dev/null 2>"$work/err"; }
ok "a pipe that has bytes" stdin_said 1
"$BERTCTL" submit --array priority=1,2,3 job.yaml <train.py >/dev/null 2>"$work/err"
ok "once for an array" stdin_said 1
sleep 1 | "$BERTCTL" submit -- ./script.sh >/dev/null 2>"$work/err"
ok "one that has none: nothing" stdin_said 0
"$BERTCTL" submit -- ./script.sh </dev/null >/dev/null 2>"$work/err"
ok "nor of /dev/null" stdin_said 0
"$BERTCTL" submit -- ./script.sh <&- >/dev/null 2>"$work/err"
ok "nor where it is closed" stdin_said 0
job=$("$BERTCTL" submit --wait -- sh -c 'wc -c; readlink /proc/self/fd/0' <train.py 2>/dev/null)
is "the job reads /dev/null" "$("$BERTCTL" logs "$job" | xargs)" "0 /dev/null"

refuses_stdin() { # CODE PATTERN: of `submit -`
  local code=0
  "$BERTCTL" submit - >"$work/out" 2>"$work/err" || code=$?
  [[ $code == "$1" && ! -s $work/out ]] && grep -q -- "$2" "$work/err" || { echo "exit $code:"; cat "$work/out" "$work/err"; return 1; }
}

# A spec from standard input or a pipe; its paths are of the current folder.
printf 'kind: command\ncommand: [./script.sh]\nrun_dir: runs/a\n' >job.yaml
told_run_dir() { field "$("$BERTCTL" submit "$@")" run_dir; }
is "submit -" "$(told_run_dir - <job.yaml)" "$work/here/runs/a"
is "from a pipe" "$(sleep 0.2 | cat - job.yaml | told_run_dir -)" "$work/here/runs/a"
is "submit <(...)" "$(told_run_dir <(sleep 0.2; cat job.yaml))" "$work/here/runs/a"
is "submit /dev/stdin, of a file elsewhere" "$(cp job.yaml ..; told_run_dir /dev/stdin <../job.yaml)" "$work/here/runs/a"
is "its name" "$(field "$("$BERTCTL" submit - <job.yaml)" name)" job
is "an array of it" "$("$BERTCTL" submit --array priority=1,2,3 - <job.yaml | wc -l)" 3
ok "what is wrong with it is told with its line" refuses_stdin 2 "^bertctl: -:2: unknown key 'comand': did you mean command?" <<'END'
kind: command
comand: [x]
END
ok "an empty one" eval 'not "$BERTCTL" submit - </dev/null 2>"$work/err" && grep -q "^bertctl: -: empty" "$work/err"'
ok "one that is too long" eval 'not timeout 20 "$BERTCTL" submit - </dev/zero 2>"$work/err" && grep -q "^bertctl: -: more than the 262144 bytes" "$work/err"'
mkfifo fifo
ok "a FIFO that nobody writes to does not hold it up" refuses 2 "^bertctl: fifo: empty" timeout 20 "$BERTCTL" submit fifo

# Folders.
export HOME=$work/home
mkdir "$HOME"
is "--run-dir=~/x is of the home folder" "$(field "$("$BERTCTL" submit --run-dir=~/x -- ./script.sh)" run_dir)" "$HOME/x"
is "also as the shell leaves it" "$(field "$("$BERTCTL" submit '--run-dir=~/x' -- ./script.sh)" run_dir)" "$HOME/x"
is "in a spec" "$(field "$(printf 'kind: command\ncommand: ["true"]\nrun_dir: ~/y\n' | "$BERTCTL" submit -)" run_dir)" "$HOME/y"
is "set over a spec" "$(field "$("$BERTCTL" submit --set 'run_dir=~/z' job.yaml)" run_dir)" "$HOME/z"
ok "another's home is not known" refuses 2 "^bertctl: --run-dir: ~alice/x: only ~/" "$BERTCTL" submit '--run-dir=~alice/x' -- true
ok "a variable is not expanded" refuses 2 "^bertctl: --run-dir: .HOME/x: variables are not expanded" "$BERTCTL" submit '--run-dir=$HOME/x' -- true
ok "a value that was left out is missed" refuses 2 "^bertctl: --ends-with: first|last is missing" "$BERTCTL" submit --ends-with -- true
ok "nor a home that is none" refuses 2 "^bertctl: --run-dir: ~/x: no home folder; set HOME" env HOME=nowhere "$BERTCTL" submit '--run-dir=~/x' -- true
sed -i "s,runs/a,~alice/y," job.yaml
ok "nor in a spec" refuses 2 "^bertctl: job.yaml:3: run_dir: ~alice/y: only ~/" "$BERTCTL" submit job.yaml
ok "nor in --socket" refuses 2 "~alice/s: only ~/" "$BERTCTL" --socket='~alice/s' list
ln -s "$BERTD_SOCKET" "$HOME/sock"
ok "--socket=~/sock" env -u BERTD_SOCKET "$BERTCTL" --socket='~/sock' list
mkdir "$HOME/bin"
cp script.sh "$HOME/bin/told.sh"
ok "on_exit" eval 'printf "kind: command\ncommand: [true]\non_exit: ~/bin/told.sh\n" | sed "s/true/\"true\"/" | "$BERTCTL" submit -'
ok "bertd's --state-dir=~/x" eval 'timeout 5 "$BERTD" --launcher fork "--state-dir=~/state" "--socket=~/b.sock" >/dev/null 2>&1; [[ -e $HOME/state/state.db ]]'
ok "no folder is called ~" no_file "$work" '~*'
newline=$work/$'two\nlines'
mkdir "$newline" "$work/removed" "$work/closed"
ok "a folder with a newline in its name" refuses 2 "^bertctl: cwd: '$work/two lines' contains a newline" sh -c 'cd "$1" && exec "$2" submit -- true' sh "$newline" "$BERTCTL"
ok "also as run_dir" refuses 2 "^bertctl: run_dir: '.*/a b' contains a newline" "$BERTCTL" submit --run-dir $'a\nb' -- true
ok "or another control character" refuses 2 "^bertctl: run_dir: '.*/a b' contains a control character" "$BERTCTL" submit --run-dir $'a\tb' -- true
ok "a folder that was removed" refuses 2 "^bertctl: cwd: $work/removed: the current folder was removed; submit from another folder" sh -c 'cd "$1" && rmdir "$1" && exec "$2" submit -- true' sh "$work/removed" "$BERTCTL"
ok "one that was made again" refuses 2 "^bertctl: cwd: $work/removed: the current folder was removed" sh -c 'mkdir "$1"; cd "$1" && rmdir "$1" && mkdir "$1" && exec "$2" submit -- true' sh "$work/removed" "$BERTCTL"
ok "other commands work there" sh -c 'cd "$1" && rmdir "$1" && exec "$2" list >/dev/null' sh "$work/removed" "$BERTCTL"
mkdir "$work/closed/inner"
chmod 700 "$work/closed"
if ((EUID == 0)); then
  cp "$BERTCTL" "$work/bertctl"
  ok "one that its user may not enter by its name" refuses 2 "^bertctl: cwd: $work/closed/inner: Permission denied" sh -c 'chmod 755 "$1/inner"; cd "$1/inner" && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$2" submit -- true' sh "$work/closed" "$work/bertctl"
else
  skip "one that its user may not enter by its name" "needs root"
fi

# The state of another machine-id beside one's own.
kill_bertd
beside=$work/states/0123456789abcdef0123456789abcdef
mkdir -p "$beside"
export BERTD_STATE_DIR=$work/states/ffffffffffffffffffffffffffffffff
start_bertd
is "an empty list beside nothing: nothing is said" "$("$BERTCTL" list 2>&1)" ""
touch "$beside/state.db"
ok "beside another machine's: said with the cure" eval '[[ -z $("$BERTCTL" list 2>"$work/err") ]] && grep -q "^bertctl: no jobs here, but $beside has jobs of another machine-id; .*bertd --detach --state-dir $beside" "$work/err"'
"$BERTCTL" submit --wait -- true >/dev/null
is "once it has a job of its own, no more" "$("$BERTCTL" list --active 2>&1)" ""
"$BERTCTL" shutdown
finish
