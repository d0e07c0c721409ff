#!/bin/sh
# bertd-shim against a fake bertd: TAP. BERTD_SHIM and FAKE_BERTD name the programs.
set -u
: "${BERTD_SHIM:=$BUILD_DIR/daemon/bertd-shim}" "${FAKE_BERTD:=$BUILD_DIR/tests/fake_bertd}"
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
tap_start
shim_pid='' fake_pid='' systemd_pid='' dir=$work/a asked=0 took=0
cleanup() {
        [ -z "$shim_pid" ] || kill -9 "$shim_pid" 2>/dev/null
        [ -z "$systemd_pid" ] || kill "$systemd_pid" 2>/dev/null
        [ -z "$fake_pid" ] || kill -9 "$fake_pid" 2>/dev/null
}
diagnose() {
        for f in "$work/out" "$dir/exit.json" "$dir/log"; do
                [ ! -f "$f" ] || sed "s|^|${f##*/}: |" "$f"
        done
}
start_fake() { # start_fake [ANSWER]
        rm -f "$work/in"
        mkfifo "$work/in"
        "$FAKE_BERTD" "$work/sock" "${1:-go}" <"$work/in" >>"$work/out" 2>&1 &
        fake_pid=$!
        exec 9>"$work/in"
        wait_for 5 test -S "$work/sock"
}
stop_fake() {
        exec 9>&-
        wait "$fake_pid" 2>/dev/null
        fake_pid=''
        rm -f "$work/sock"
}
now() { date +%s%3N; }
tell() { asked=$(now); echo "$*" >&9; }
limits='' # more keys of attempt.json
attempt() { # attempt KIND STOP GRACE_USEC SCRIPT: a fresh folder with attempt.json
        rm -rf "$dir" "$work/run"
        mkdir -p "$dir" "$work/run/checkpoints"
        : >"$work/out"
        cat >"$dir/attempt.json" <<EOF
{"version":1,"job":7,"attempt":2,"nonce":"n-$$","kind":"$1","argv":["sh","-c","$4"],"cwd":"$work","umask":23,
 "rlimits":[[7,200,200]],"environment":["PATH=$PATH","HOME=$work","BERTD_RUN_DIR=$work/run","NOTIFY_SOCKET=/nowhere"],
 "grace_usec":$3,"stop":"$2","log":"$dir/log","log_max_bytes":262144,$limits"socket":"$work/sock"}
EOF
}
shim_env=''
run_shim() {
        env ${shim_env:+"$shim_env"} "$BERTD_SHIM" --job 7 --attempt 2 --socket "$work/sock" --dir "$dir" 2>"$work/errors" &
        shim_pid=$!
}
ended() { # the shim exits 0 within 20 s
        wait_for 20 gone "$shim_pid" || return 1
        took=$(($(now) - asked)) # ms since tell
        wait "$shim_pid"
        r=$?
        shim_pid=''
        return $r
}
took_within() { at_least "$took" "$1" && at_least "$2" "$took" || { echo "took $took ms, expected $1 to $2"; return 1; }; } # MS MS
gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
record() { grep -qF -- "$1" "$dir/exit.json"; }
told() { grep -q -- "$1" "$work/out"; }
untold() { exits 1 grep -q -- "$1" "$work/out"; }
logged() { cat "$dir/log.1" "$dir/log" 2>/dev/null | grep -q -- "$1"; }
nonce_free() { ! grep -lzx "BERTD_NONCE=n-$$" /proc/[0-9]*/environ 2>/dev/null | grep -q .; }
up() { logged '^up$'; } # what a job prints once its traps are set
cat >"$work/beat.py" <<'EOF'
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
for text in sys.argv[1:]:
    s.send(text.replace("%", "\n").encode())
    time.sleep(0.25)
EOF
beat="python3 $work/beat.py" # TEXT...: a datagram each quarter of a second, by one process: starting many would take its time
# A program without systemd-notify's needs: one datagram from the shell.
notify='notify() { python3 -c \"import os,socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.connect(os.environ[\\\"NOTIFY_SOCKET\\\"]); s.send(sys.argv[1].replace(\\\"%\\\",chr(10)).encode())\" \"$1\"; };'

# 1. a plain run: environment, limits, umask, folder, output, exit code
start_fake
attempt command term 1000000 'umask; ulimit -n; pwd; env; echo to-stderr >&2; exit 3'
run_shim
ok 'a command that exits 3: the shim ends' ended
ok 'hello came first' told '^hello 7 2 n-'
ok 'the record holds the exit code' record '"exit_code":3'
ok 'and its class' record '"class":"failed"'
ok 'the end was reported' told 'exited=1'
ok 'umask is the submitter'"'"'s' logged '^0027$'
ok 'limits are too' logged '^200$'
ok 'the working directory too' logged "^$work\$"
ok 'stderr is in the log' logged '^to-stderr$'
ok 'the nonce is in the environment' logged "^BERTD_NONCE=n-$$"
ok 'an inherited NOTIFY_SOCKET is replaced' logged "^NOTIFY_SOCKET=$dir/notify\$"
ok 'the socket is removed' test ! -e "$dir/notify"
run_shim
ok 'a second shim on an ended attempt does nothing' ended

# 2. what cannot start
attempt command term 1000000 'true'
sed -i 's/"sh","-c"/"no-such-command-here"/' "$dir/attempt.json"
run_shim
ok 'a missing command: the shim ends' ended
ok 'says which, to its user' record '"private":"no-such-command-here: command not found"'
ok 'and to others why' record '"reason":"the program could not be started: No such file or directory","class":"user-error"'
ok 'with the exit code of shells' record '"exit_code":127'
mkdir "$work/scripts"
printf '#!/bin/bash\r\ntrue\r\n' >"$work/scripts/crlf"
printf '#! /no/such/python -u\n' >"$work/scripts/tool"
chmod +x "$work"/scripts/*
starts() { # PROGRAM: in an attempt of its own
        attempt command term 1000000 'true'
        sed -i "s|\"sh\",\"-c\"|\"$1\"|" "$dir/attempt.json"
        run_shim
        ended
}
why() { [ "$(jq -r .private "$dir/exit.json")" = "$1" ] || { jq . "$dir/exit.json"; return 1; }; }
starts ./scripts/crlf
ok 'a script whose lines end in CR LF is told as a shell tells it' why "./scripts/crlf: /bin/bash^M: bad interpreter: No such file or directory; its lines end in CR LF: \`sed -i 's/\\r\$//' ./scripts/crlf\`"
starts "$work/scripts/tool"
ok 'one without its interpreter, too' why "$work/scripts/tool: /no/such/python: bad interpreter: No such file or directory"
ok 'with the exit code and the class of a missing command' record '"exit_code":127'
: >"$work/scripts/plain"
starts ./scripts/plain
ok 'a file that may not be executed' why "./scripts/plain: Permission denied"
attempt command term 1000000 'true'
sed -i 's|"cwd":"[^"]*"|"cwd":"/no/such/folder"|' "$dir/attempt.json"
run_shim
ok 'a missing folder: the shim ends' ended
ok 'names the folder' record '"reason":"working directory /no/such/folder: No such file or directory","class":"user-error"'
attempt command term 1000000 'true'
: >"$dir/tombstone"
run_shim
ok 'a tombstone: the shim ends' ended
ok 'and ran nothing' test ! -e "$dir/exit.json" -a ! -e "$dir/log"
attempt command term 1000000 'true'
echo '{"version":1' >"$dir/attempt.json"
run_shim
ok 'a cut attempt.json is refused' eval 'wait_for 20 gone "$shim_pid" && not ended'
ok 'with its name and line' grep -q 'attempt.json:[12]: ' "$work/errors"
stop_fake
attempt command term 1000000 'touch ran'
start_fake stop
run_shim
ok 'bertd says stop: the shim ends' ended
ok 'and ran nothing' test ! -e "$work/ran" -a ! -e "$dir/exit.json"
stop_fake

# 3. progress
attempt pretrain usr1 3000000 "$notify"' echo 123456 > run/checkpoints/step-000000012.ckpt; notify READY=1%X_BERTD_STEP=11%X_BERTD_STEPS=40%X_BERTD_LOSS=2.5%X_BERTD_RATE=9%STATUS=warm; notify X_BERTD_STEP=12%X_BERTD_CHECKPOINT=$PWD/run/checkpoints/step-000000012.ckpt; notify X_BERTD_RANK=1%X_BERTD_STEP=99; notify X_BERTD_CHECKPOINT=/etc/passwd; notify X_BERTD_LOSS=x; exit 0'
start_fake
run_shim
ok 'a job with progress ends' ended
ok 'numbers arrive' told 'ready=1 step=1[12] steps=40 status=warm loss=2.5 rate=9'
ok 'a checkpoint arrives with its size' told 'checkpoint_step=12 .*checkpoint_path=.*step-000000012.ckpt checkpoint_size=7'
ok 'other paths and ranks do not' untold 'passwd\|step=99'
ok 'a finished job is finished' record '"reason":"finished","class":"finished","step":12'

# 4. stopping
trap_loop="$notify"' trap \"echo usr1; exit 75\" USR1; trap \"echo usr2\" USR2; notify READY=1; while :; do sleep 0.05; done'
attempt pretrain usr1 5000000 "$trap_loop"
run_shim
wait_for 5 told 'ready=1'
tell checkpoint
ok 'Checkpoint is SIGUSR2' wait_for 5 logged '^usr2$'
tell stop 5000000
ok 'Stop ends the job' ended
ok 'by SIGUSR1, exit 75' record '"exit_code":75'
ok 'as asked' record '"stopped_by":"request"'
ok 'class stopped' record '"class":"stopped"'

attempt pretrain usr1 5000000 'trap \"\" TERM USR1; echo up; while :; do sleep 0.05; done'
run_shim
wait_for 5 up
tell stop 60000000
ok 'not ready, deaf: is killed' ended
ok 'after 2 s, not after the grace time' took_within 1900 $((2000 + 1000 * patience))
ok 'class stopped, no exit code' record '"exit_code":-1,"signal":9'

attempt command term 5000000 'trap \"echo term; exit 0\" TERM; echo up; while :; do sleep 0.05; done'
run_shim
wait_for 5 up
kill "$shim_pid"
ok 'SIGTERM to the shim stops the job' ended
ok 'by SIGTERM' logged '^term$'

attempt command term 1000000 'trap \"\" TERM; (setsid sleep 300 & setsid sh -c \"sleep 300 & exec sleep 301\" &) ; echo up; sleep 300'
run_shim
wait_for 5 up
ok 'processes of a job are found by its nonce' not nonce_free
tell stop 1000000
ok 'a deaf command is killed' ended
ok 'at the end of the grace time' took_within 950 $((1000 + 1000 * patience))
ok 'with all that it started, sessions of their own too' nonce_free
attempt command term 1000000 'setsid sleep 300 & exit 0'
run_shim
ok 'an orphan does not outlive the job' ended
ok 'nor hold up its end' nonce_free
attempt pretrain usr1 60000000 'trap \"\" TERM; (sleep 300; true) & exit 0'
asked=$(now)
run_shim
ok 'what a trainer leaves is killed' ended
ok 'at once' took_within 0 $((1500 * patience))
ok 'all of it' nonce_free
attempt command term 1000000 'trap \"echo term\" TERM; echo up; while :; do sleep 0.05; done'
run_shim
wait_for 5 up
tell stop 0
ok 'Stop(0) ends the job' ended
ok 'at once' took_within 0 $((1500 * patience))
ok 'by SIGKILL' record '"exit_code":-1,"signal":9'
ok 'and by nothing before it' exits 1 grep term "$dir/log"

# what shows a process's memory is not waited for, neither where a job ends nor where it hangs
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0"
shim_env="LD_PRELOAD=$(preloaded block)"
attempt command term 1000000 'trap \"\" TERM; (setsid env -i sleep 3'$$' &); echo up; while :; do sleep 0.05; done'
run_shim
wait_for 5 up
tell stop 0
ok 'a process whose memory is locked does not hold up the end' ended
ok 'at once' took_within 0 $((1500 * patience))
ok 'one without an environment is gone as well' exits 1 pgrep -f "^sleep 3$$\$"
limits='"hang_sec":1,"start_sec":1,'
attempt command term 1000000 'sleep 301'
run_shim
ok 'of a hang it holds up the evidence alone' wait_for 20 eval 'grep -qs "^== wchan" "$dir"/hang-1/pid-*.txt'
tell stop 0
ok 'a stop meanwhile ends the job' ended
ok 'whose class is hang' record '"class":"hang"'
limits='' shim_env=''

# 5. a checkpoint that grows extends the grace time, at most four times
attempt pretrain usr1 1000000 "$notify"' trap \"for i in 1 2 3 4 5; do echo x >> run/checkpoints/.step-5.tmp; sleep 0.5; done; exit 75\" USR1; notify READY=1; while :; do sleep 0.05; done'
run_shim
wait_for 5 told 'ready=1'
tell stop 1000000
ok 'a job that writes a checkpoint gets longer' ended
ok 'and ends by itself' record '"exit_code":75'

# the shutdown of a host: systemd's SIGTERM, and its patience while the bytes advance
cat >"$work/systemd.py" <<'EOF'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(4096).decode().replace("\n", " "), flush=True)
EOF
attempt pretrain usr1 1000000 "$notify"' trap \"for i in 1 2 3 4 5; do echo x >> run/checkpoints/.step-5.tmp; sleep 0.5; done; exit 75\" USR1; notify READY=1; while :; do sleep 0.05; done'
python3 "$work/systemd.py" "$work/systemd" >"$work/systemd.out" &
systemd_pid=$!
wait_for 5 test -S "$work/systemd"
export NOTIFY_SOCKET="$work/systemd"
run_shim
unset NOTIFY_SOCKET
wait_for 5 told 'ready=1'
kill "$shim_pid"
ok 'systemd stops the unit: the job ends by itself' eval 'ended && record "\"exit_code\":75" && record "\"stopped_by\":\"request\""'
kill "$systemd_pid"
ok 'systemd heard READY and STOPPING' eval 'grep -q "^READY=1" "$work/systemd.out" && grep -q "^STOPPING=1 EXTEND_TIMEOUT_USEC=" "$work/systemd.out"'
ok 'and was asked for more time' eval 'test "$(grep -c "^EXTEND_TIMEOUT_USEC=" "$work/systemd.out")" -ge 2'
# no descriptor is free: the job is killed all the same, and the record written
attempt command term 1000000 'trap \"\" TERM; while :; do sleep 0.05; done'
shim_env=ASAN_OPTIONS=detect_leaks=0 # the search for leaks needs descriptors
run_shim
shim_env=''
wait_for 5 told 'pid='
prlimit --pid "$shim_pid" --nofile=3:3
tell stop 0
ok 'without a free descriptor a stop still ends the job' ended
ok 'and is recorded' record '"class":"stopped"'
ok 'nothing is left' wait_for 5 nonce_free

# 6. bertd goes away and comes back
attempt command term 5000000 'i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 0'
run_shim
wait_for 5 told 'pid='
child=$(sed -n 's/.* pid=\([0-9]*\).*/\1/p' "$work/out" | head -1)
kill -9 "$fake_pid"
stop_fake
sleep 0.3
: >"$work/out"
start_fake
ok 'a new bertd gets a hello' wait_for 5 told '^hello 7 2'
ok 'and the whole state' wait_for 5 told "pid=$child"
ok 'the job did not notice' ended
ok 'and lost no output' eval 'test "$(grep -c ^line "$dir/log")" = 60'
attempt command term 5000000 'sleep 300'
run_shim
wait_for 5 told 'pid='
kill -9 "$fake_pid"
stop_fake
start_fake stop
ok 'a new bertd says stop: all is killed' ended
ok 'nothing is left' nonce_free
stop_fake
attempt command term 5000000 'date +%s%3N'
run_shim
sleep 1 # time for a mistake
came=$(now)
start_fake
ok 'without bertd the shim waits, and ends' ended
ok 'its job starts when bertd has come' at_least "$(cat "$dir/log")" "$came"

# 7. logs: rotation keeps the end, the bound holds
attempt command term 1000000 'seq 1 200000; echo the-end'
run_shim
ok 'a talkative job ends' ended
ok 'its last line is there' eval 'tail -n 1 "$dir/log" | grep -qx the-end'
ok 'the log is bounded' eval 'test "$(cat "$dir/log" "$dir/log.1" | wc -c)" -le 400000'

# 8. kill -9 of the shim takes the job with it
attempt command term 1000000 'exec sleep 300'
run_shim
wait_for 5 told 'pid='
kill -9 "$shim_pid"
shim_pid=''
ok 'the job dies with its shim' wait_for 5 nonce_free

# 9. hangs: a beat is an eighth of the limit
limits='"hang_sec":2,"start_sec":30,'
attempt command term 1000000 "$beat"' X_BERTD_STEP=1%X_BERTD_SAMPLES=32-63 X_BERTD_STEP=2%X_BERTD_SAMPLES=64-95; (setsid sleep 302 &); sleep 301'
run_shim
ok 'a job without steps is ended' ended
ok 'its class is hang' record '"class":"hang"'
ok 'the reason has step, limit and folder' record '(limit 2 s) at step 2; stacks in '"$dir/hang-1"
ok 'the record names the evidence' record "\"evidence\":\"$dir/hang-1\""
ok 'and the samples of the step that did not end' record '"samples_first":64,"samples_last":95'
ok 'every process has a file' eval 'grep -lq "sleep 301" "$dir"/hang-1/pid-*.txt && grep -lq "sleep 302" "$dir"/hang-1/pid-*.txt'
ok 'with its status and wait channel' eval 'grep -q "^State:" "$dir"/hang-1/*.txt && grep -q "^== wchan" "$dir"/hang-1/*.txt'
ok 'only its user may read it' eval 'test "$(stat -c %a "$dir/hang-1")" = 700'
ok 'nothing is left' nonce_free
ln -s /tmp "$work/evil"
attempt command term 1000000 "$notify"' notify X_BERTD_STEP=1; ln -s '"$work/evil"' a/hang-1; sleep 301'
run_shim
ok 'a link in the evidence'"'"'s place: the job is ended' ended
ok 'and another folder taken' eval 'test -d "$dir/hang-2" -a -L "$dir/hang-1"'
limits='"hang_sec":2,"start_sec":2,'
attempt pretrain usr1 1000000 'sleep 301'
run_shim
ok 'a job that never comes to a step is ended' ended
ok 'by the limit of the start' record '"reason":"no first step for 2 s (limit 2 s); stacks in'
limits='"hang_sec":2,"start_sec":30,'
attempt command term 1000000 "$beat"' $(seq -f X_BERTD_STEP=%g 14)'
run_shim
ok 'a job that steps is left alone' eval 'ended && record "\"class\":\"finished\""'
attempt command term 1000000 "$beat"' X_BERTD_STEP=1 X_BERTD_BUSY=evaluation $(yes WATCHDOG=1 | head -n 14) X_BERTD_BUSY=; echo over; sleep 301'
run_shim
ok 'one that is busy between steps too' wait_for 20 logged '^over$'
ok 'until it is no more' eval 'ended && record "\"class\":\"hang\""'
attempt command term 1000000 "$beat"' $(seq -f X_BERTD_STEP=%g 20)'
run_shim
wait_for 5 told 'step=2'
kill -STOP "$shim_pid"
sleep 3
kill -CONT "$shim_pid"
ok 'a shim that was stopped does not blame the job' eval 'ended && record "\"class\":\"finished\""'
limits='"hang_sec":0,"start_sec":-1,'
attempt command term 1000000 "$notify"' notify X_BERTD_STEP=1; sleep 4'
run_shim
ok '0 is never' eval 'ended && record "\"class\":\"finished\""'
limits=''
stop_fake

finish
