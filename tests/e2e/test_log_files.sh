#!/bin/bash
# The files of a job's log while it runs: rotation and its bound, what `logs` says of what was dropped, and what somebody else does to
# them; `logs -f` through all of it, and without a reader.
. "$(dirname "$0")/lib.sh"
start_bertd
# A job that writes what it is told: a line of a FIFO is a program of sh.
cat >"$work/puppet" <<'END'
exec 3<>"$1"
echo up
while read -r line <&3; do eval "$line"; done
END
begin() { # NAME [OPTION...]: $job, told by `tell NAME`; its log is $log
  mkfifo "$work/$1"
  job=$("$BERTCTL" submit "${@:2}" -- bash "$work/puppet" "$work/$1") && wait_for 20 up
  log=$(field "$job" log)
}
up() { "$BERTCTL" logs "$job" 2>/dev/null | grep -x up >/dev/null; }
tell() { echo "$2" >>"$work/$1"; } # NAME PROGRAM
logs() { timeout $((20 * patience)) "$BERTCTL" logs "$@" "$job"; }
has() { logs | grep -x -- "$1" >/dev/null; } # to the end: no SIGPIPE for bertctl
lines() { printf 'seq -f "%s%%09.0f" %s %s' "$1" "$2" "$3"; } # PREFIX FIRST LAST: a program that writes lines of 11 bytes
follow() { # FILE [OPTION...]: `logs -f` to $work/FILE
  "$BERTCTL" logs -f "${@:2}" "$job" >"$work/$1" 2>"$work/$1.err" &
  follower=$!
}
shown() { grep -qx -- "$1" "$work/$2"; }

# The bound, its beginning and its end.
begin small --log-max-size 256K --log-keep 4
follow all
all=$follower
tell small "$(lines a 1 300000); echo end"
ok "a log of 3.3 MB in 256 KB has its end" wait_for 20 has end
folder=$(dirname "$log")
ok "it takes no more, with the first 1 MB" test "$(cat "$folder"/log* | wc -c)" -le $((256 * 1024 + 1048576 + 512))
is "the first line says what was dropped" \
  "$(logs | head -n 1 | sed -E 's/^[0-9.]+ MB of older output were dropped at [0-9-]+ [0-9:]+ [A-Z]+, after the first 1 MB$/yes/')" yes
is "then comes the beginning" "$(logs | sed -n '2,4p' | xargs)" "up a000000001 a000000002"
dropped=$(logs | sed -n 's/^bertd: \([0-9]*\) bytes of older output were dropped here, the last of them at .*/\1/p')
is "all that was written is there or counted" \
  $((dropped + $(cat "$folder"/log* | wc -c) - $(tail -n 1 "$folder/log.first" | wc -c))) $((3 + 11 * 300000 + 4 + 1))
kept=$(($(logs | sed '1,/^bertd: /d' | grep -c '^a')))
is "of the end whole lines in order" "$(logs | tail -n $((kept + 1)))" "$(seq -f 'a%09.0f' $((300001 - kept)) 300000; echo end)"
is "-n counts over the files" "$(logs -n 15000 | head -n 1)" a000285002
is "and is of the end alone" "$(logs -n 2 | xargs)" "a000300000 end"
is "--json names the files in order" "$(logs --json | jq -r '.files[]' | sed 's|.*/||' | xargs)" "log.first log.3 log.2 log.1 log"
is "status says what is kept" "$("$BERTCTL" status "$job" | grep -o 'its last 256 KiB, in 4 files')" "its last 256 KiB, in 4 files"
is "and so does its JSON" "$(field "$job" log_max_size) $(field "$job" log_keep)" "262144 4"
mkfifo "$work/slowly"
logs >"$work/slowly" &
exec 5<"$work/slowly"
read -r <&5
size=$(stat -c %s "$folder/log.first")
echo added >>"$folder/log.first"
ok "what is added to the first 1 MB while it is read was read before" test "$(grep -c -e added -e end <&5)" -eq 1
exec 5<&-
truncate -s "$size" "$folder/log.first"
wait_for 20 shown end all
ok "who follows has each line once, or is told how much he missed" python3 - "$work/all" <<'END'
import re, sys
expected = 1
for line in open(sys.argv[1]):
    missed = re.match(r"bertctl: \d+ bytes of output were dropped before|bertd: \d+ bytes of older output were dropped here", line)
    if missed: expected = None
    elif line[0] == "a" and len(line) == 11: # one that the missing output begins in is shorter
        if expected not in (None, int(line[1:])): sys.exit(f"{line!r} after {expected - 1}")
        expected = int(line[1:]) + 1
sys.exit(expected != 300001)
END

# A slower writer, whom a follower keeps up with: nothing is lost or repeated over some ten rotations.
begin slow --log-max-size 64K --log-keep 8
follow steady
tell slow "for i in {0..99}; do seq -f 'b%09.0f' \$((i * 60 + 1)) \$((i * 60 + 60)); sleep 0.03; done; echo end"
ok "ten rotations while it is followed" wait_for 40 shown end steady
is "lose and repeat no line" "$(grep '^b' "$work/steady" | cksum)" "$(seq -f 'b%09.0f' 1 6000 | cksum)"
kill "$follower"

# What others do to the file.
begin meddled --log-max-size 64K
follow meddled.log
tell meddled 'echo one'
ok "a line comes" wait_for 20 shown one meddled.log
rm "$log"
ok "the log is removed: logs of the silent job say so" eval 'logs 2>&1 | grep -x "bertd: the log was removed: 7 bytes of older output were dropped with it" >/dev/null'
tell meddled 'echo two'
ok "and have what comes" wait_for 20 has two
ok "as has who follows" wait_for 20 shown two meddled.log
tell meddled "$(lines c 1 20000); echo three"
ok "the bound holds" eval 'wait_for 20 has three && test $(cat "$(dirname "$log")"/log{,.1} | wc -c) -le 66000'
ok "and he sees all" wait_for 20 shown three meddled.log
: >"$log"
ok "truncated: logs say so" wait_for 20 has 'bertd: the log was truncated: [0-9]* bytes of older output were dropped'
tell meddled 'echo four'
ok "who follows sees what comes at once" wait_for 10 shown four meddled.log
is "without a hole" "$(tr -d '\0' <"$log" | wc -c)" "$(wc -c <"$log")"
cp "$log" "$work/copied"
: >"$log" # as copytruncate does, and so much at once that it is longer than before
tell meddled "$(lines d 1 200); echo five"
ok "truncated and longer than before: nothing is passed over" eval 'wait_for 10 shown five meddled.log && shown d000000001 meddled.log'
mv "$log" "$log.old"
ok "moved away: a new one is there" wait_for 10 test -s "$log"
tell meddled 'echo six'
ok "with what comes" eval 'wait_for 10 has six && wait_for 10 shown six meddled.log'
is "what was shown is not repeated" "$(grep -c '^c000017500$' "$work/meddled.log")" 1
mv "$log" "$log.old"
install -m 640 /dev/null "$log" # as logrotate's create
tell meddled 'echo seven'
ok "logrotate's new file is used" eval 'wait_for 10 has seven && wait_for 10 shown seven meddled.log'
rm "$log"
mkdir "$log"
ok "a folder in its place is moved aside" wait_for 10 test -f "$log"
tell meddled 'echo eight'
ok "and output goes on" eval 'wait_for 10 has eight && wait_for 10 shown eight meddled.log'
echo secret >"$work/secret"
ln -sf "$work/secret" "$log.link" && mv -T "$log.link" "$log"
tell meddled 'echo nine'
ok "so is a link" eval 'wait_for 10 has nine && wait_for 10 shown nine meddled.log'
is "behind which nothing is written" "$(cat "$work/secret")" secret
mkfifo "$log.fifo" && mv "$log.fifo" "$log"
tell meddled 'echo ten'
ok "and a FIFO" eval 'wait_for 10 has ten && wait_for 10 shown ten meddled.log'
chmod 000 "$log"
tell meddled 'echo eleven'
ok "a mode does not stop the output" wait_for 10 grep -qx eleven "$log"
rm -r "$(dirname "$log")"
ok "the folder is removed: it is made again" wait_for 10 test -f "$log"
tell meddled 'echo twelve'
ok "and logs go on" eval 'wait_for 10 has twelve && wait_for 10 shown twelve meddled.log'
is "the job did not notice" "$(field "$job" state) $(field "$job" attempts)" "running 1"
kill "$follower"

# Carriage returns.
begin bar
tell bar 'printf "line\n 10%%\r 50%%\r100%%\nwindows\r\nnow  1%%\rnow  2%%\r"'
ok "-n takes a line of carriage returns as its last state" wait_for 10 eval '[[ $(logs -n 4) == $(printf "line\n100%%\nwindows\nnow  2%%") ]]'
is "without -n bytes are as they are" "$(logs | grep -c "10%")" 1
follow bar.log -n 1
wait_for 10 test -s "$work/bar.log"
tell bar 'printf "now  3%%\n"'
wait_for 10 shown '.*now  3%' bar.log
is "followed, what comes overwrites it" "$(cat "$work/bar.log")" $'now  2%\rnow  3%'
kill "$follower"

# Nobody reads.
ends() { # COMMAND READER...: bertctl's command ends with who reads it
  local command=$1
  shift
  timeout $((10 * patience)) "$BERTCTL" $command | "$@" >/dev/null
  ((PIPESTATUS[0] != 124))
}
ok "logs -f of a silent job ends with its reader" ends "logs -f $job" head -n 1
waiting=$("$BERTCTL" submit --ranks 8 -- true)
ok "of a job that waits, too" ends "logs -f $waiting" true
"$BERTCTL" cancel --now "$waiting"
python3 - "$BERTCTL" "$job" <<'END'
import os, pty, signal, sys, time
pid, fd = pty.fork()
if pid == 0:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.execv(sys.argv[1], [sys.argv[1], "logs", "-f", sys.argv[2]])
os.read(fd, 100)
os.close(fd)
for _ in range(100):
    if os.waitpid(pid, os.WNOHANG)[0]: sys.exit(0)
    time.sleep(0.1)
os.kill(pid, signal.SIGKILL)
sys.exit(1)
END
ok "and with its terminal, though it ignores SIGHUP" test $? -eq 0
ok "a wrong size" refuses 2 "^bertctl: --log-max-size: 'much' is not a whole number of bytes, or one with K, M, G or T" "$BERTCTL" submit --log-max-size much -- true
finish
