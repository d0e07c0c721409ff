#!/bin/bash
# checkpoint.copy_to: copies of a run's checkpoints in another folder or, over ssh, on another host; what is refused there; and the heartbeat in the
# run folder. ssh is one of ours, which runs `bertctl receive` here.
. "$(dirname "$0")/lib.sh"
make_corpus || skip_all 'no corpus'
mkdir "$work/bin" "$work/foreign"
cat >"$work/bin/ssh" <<SH
#!/bin/sh
[ -z "\${SSH_AUTH_SOCK:-}\${DISPLAY:-}\${KRB5CCNAME:-}" ] || echo "a login's variables" >>"$work/ssh.said"
echo "\$*" >>"$work/ssh.said"
[ ! -e "$work/refuse" ] || { echo "h2: Permission denied (publickey)." >&2; exit 255; }
[ ! -e "$work/hang" ] || exec sleep 1000
echo "Welcome to h2, says a .bashrc"
exec "$BERTCTL" receive
SH
chmod +x "$work/bin/ssh"
export PATH=$work/bin:$PATH SSH_AUTH_SOCK=/nowhere DISPLAY=:0
start_bertd
diagnose() { "$BERTCTL" status "$job"; log_of "$job" | grep -a bertd: | tail -n 5; }

spec() { # NAME STEPS COPY_TO [RUN_DIR [EVERY]]
  make_spec "$1" 1 "$2" "run_dir: $work/${4:-$1}"
  sed -i "s|^checkpoint: .*|checkpoint: {every_steps: ${5:-20}, keep: 2, copy_to: '$3'}|" "$work/$1.yaml"
}
names() { (cd "$1/checkpoints" && echo *); }
same() { # RUN_DIR COPIES: each copy has the bytes of the run's own
  local f
  for f in "$2"/checkpoints/*; do cmp "$1/checkpoints/${f##*/}" "$f" || return 1; done
}
has_step() { [[ $(field "$1" step) -ge $2 ]]; }
log_of() { cat "$BERTD_STATE_DIR/jobs/$1"/attempt-*/log 2>/dev/null || "$BERTCTL" logs "$1"; }
last_two="step-000000080.ckpt step-000000100.ckpt"

# A folder
spec plain 100 "$work/plain-copies"
job=$("$BERTCTL" submit "$work/plain.yaml")
ok "a run with copies" wait_for 60 state_is "$job" done
is "the last ones are copied, as many as the run keeps" "$(names "$work/plain-copies")" "$last_two"
ok "byte for byte" same "$work/plain" "$work/plain-copies"
ok "with the time of the original" test ! "$work/plain-copies/checkpoints/step-000000100.ckpt" -nt "$work/plain/checkpoints/step-000000100.ckpt"
is "the folder says whose they are" "$(jq -r .of "$work/plain-copies/.bertd-copies")" "$(uname -n | cut -d. -f1):$work/plain"
ok "the heartbeat of a run that is done is gone" test ! -e "$work/plain/heartbeat"
ok "no copy is a temporary file" no_file "$work/plain-copies" '*.tmp'

# A host; a run that is killed copies what it goes on from
spec far 100000 "h2:$work/far-copies" far 200
job=$("$BERTCTL" submit "$work/far.yaml")
ok "over ssh" wait_for 60 test -e "$work/far-copies/checkpoints/step-000000200.ckpt"
is "one command, which needs no quotes" "$(tail -n 1 "$work/ssh.said" | sed 's/.* -- //')" "h2 bertctl receive"
ok "without a question, an agent, a shared connection" grep -q -e '-oBatchMode=yes .*-oControlMaster=no .*-oControlPath=none' "$work/ssh.said"
ok "nor a login's variables" not grep -q variables "$work/ssh.said"
ok "the heartbeat says where the run lives" wait_for 10 test -s "$work/far/heartbeat"
is "by host and job" "$(jq -r '.host, .job, .attempt' "$work/far/heartbeat" | xargs)" "$(uname -n | cut -d. -f1) $job 1"
ok "a shim of it lives" lives "$(jq .pid "$work/far/heartbeat")"
touch "$work/refuse"
ok "a failure is shown" wait_for 30 eval '[[ $(field "$job" status) == *"checkpoints are not copied: h2: Permission denied"* ]]'
step=$(field "$job" step)
ok "and the run goes on" wait_for 30 has_step "$job" $((step + 100))
is "one line of the log tells" "$(log_of "$job" | grep -c 'is not copied to h2:.*Permission denied')" 1
rm -r "$work/far-copies" "$work/refuse"
ok "it is tried again" wait_for 40 test -e "$work/far-copies/.bertd-copies"
ok "which the log tells" wait_for 10 eval 'log_of "$job" | grep -q "is copied to h2:.* again"'
touch "$work/hang"
before=$(wc -l <"$work/ssh.said")
ok "a receiver that hangs" wait_for 30 eval '[[ $(wc -l <"$work/ssh.said") -gt $before ]]'
step=$(field "$job" step)
ok "delays no step" wait_for 30 has_step "$job" $((step + 200))
is "and no other copy is begun beside it" "$(wc -l <"$work/ssh.said")" $((before + 1))
rm "$work/hang"
rm -r "$work/far-copies"
kill -KILL $(of_job "$job" bert-trainer)
ok "after a death the checkpoint to go on from is copied at once" wait_for 30 test -e "$work/far-copies/.bertd-copies"
echo '{}' >"$work/far/bertd.json"
"$BERTCTL" pause "$job"
ok "a pause" wait_for 90 state_is "$job" paused
newest=$(names "$work/far" | xargs -n 1 | tail -n 1)
ok "leaves a copy of its checkpoint" cmp "$work/far/checkpoints/$newest" "$work/far-copies/checkpoints/$newest"
ok "and of what another bertd continues with" cmp "$work/far/bertd.json" "$work/far-copies/bertd.json"
ok "and no heartbeat" test ! -e "$work/far/heartbeat"
"$BERTCTL" cancel "$job"

# This host's disk is lost: the run continues from its copies.
rm -r "$work/far"
saved=$(names "$work/far-copies" | xargs -n 1 | tail -n 1 | tr -dc 0-9)
make_spec far 1 $((10#$saved + 20))
jq '.host = "h9" | .job = 71' "$work/far-copies/bertd.json" >"$work/theirs" && cat "$work/theirs" >"$work/far-copies/bertd.json"
job=$("$BERTCTL" submit --continue "$work/far-copies" "$work/far.yaml" 2>"$work/said")
ok "copies that another host has just made: a warning" grep -qE "^bertctl: $work/far-copies: copied from h9 [0-9]+ s ago; if the run lives there, .*\`ssh h9 bertctl cancel 71\`\$" "$work/said"
ok "a run continues from its copies" wait_for 60 state_is "$job" done
ok "which are its own now" test ! -e "$work/far-copies/.bertd-copies"
ok "from the newest one" eval 'log_of "$job" | grep -q "resuming from $work/far-copies/.* step $((10#$saved)) of"'

ok "and takes no more copies there" test ! -e "$work/far-copies/.bertd-copies"

# Folders that are not the run's
echo mine >"$work/foreign/file"
spec other 60 "$work/foreign"
job=$("$BERTCTL" submit "$work/other.yaml")
ok "a folder with other files: the run is done without copies" wait_for 60 state_is "$job" done
ok "which its log tells" eval 'log_of "$job" | grep -q "is not copied to $work/foreign: .*not empty, and without .bertd-copies"'
is "nothing was touched" "$(cd "$work/foreign" && echo * .bertd*)" "file .bertd*"
spec second 60 "$work/plain-copies"
job=$("$BERTCTL" submit "$work/second.yaml")
ok "another run's folder" wait_for 60 state_is "$job" done
ok "is not used" eval 'log_of "$job" | grep -q "has the copies of .*:$work/plain; give each run a separate folder"'
is "and keeps its copies" "$(names "$work/plain-copies")" "$last_two"
spec self 60 "$work/self"
job=$("$BERTCTL" submit "$work/self.yaml")
ok "the run's own folder" wait_for 60 state_is "$job" done
ok "is not used" eval 'log_of "$job" | grep -qE "a run lives in this folder|not empty, and without"'

# The receiver
receive() { printf "$@" | "$BERTCTL" receive 2>/dev/null; }
empty='ef46db3751d8e999\n' # of no bytes
request() { # NAME FOLDER [OF [SIZE [KEEP]]]
  printf '{"folder":"%s","of":"%s","name":"%s","size":%s,"modified":%s000000,"keep":%s}\\n' "$2" "${3:-h1:/run}" "$1" "${4:-0}" "${6:-1000}" "${5:-3}"
}
answers_of() { jq -r '.type + " " + (.reason // "")' | xargs; }
one=step-000000001.ckpt
is "a copy" "$(receive "$(request $one "$work/got")$empty" | answers_of)" "send stored"
is "that is there already" "$(receive "$(request $one "$work/got")" | answers_of)" "have"
is "several files in one session" "$(receive "$(request step-000000002.ckpt "$work/got" h1:/run 0 3 2000)$empty$(request bertd.json "$work/got")$empty" | answers_of)" "send stored send stored"
is "where a run can be continued" "$(cd "$work/got" && echo checkpoints/* *.json)" "checkpoints/step-000000001.ckpt checkpoints/step-000000002.ckpt bertd.json"
is "the oldest goes by its time, not by its step" "$(receive "$(request step-000000000.ckpt "$work/got" h1:/run 0 2 3000)$empty" | answers_of; names "$work/got")" \
  "send stored
step-000000000.ckpt step-000000002.ckpt"
is "the one just stored stays" "$(receive "$(request $one "$work/got" h1:/run 0 1 1)$empty" | answers_of; names "$work/got")" "send stored
$one"
touch "$work/got/checkpoints/step-000000009.ckpt.tmp" "$work/got/checkpoints/own.tmp"
is "a copy after one that was killed" "$(receive "$(request step-000000003.ckpt "$work/got" h1:/run 0 1 4000)$empty" | answers_of; names "$work/got")" "send stored
own.tmp step-000000003.ckpt"
rm "$work/got/checkpoints/own.tmp"
is "bytes that changed on the way" "$(receive "$(request step-000000004.ckpt "$work/got" h1:/run 3)abc$empty" | answers_of)" "send refused $work/got/step-000000004.ckpt: the copy arrived damaged"
is "bytes that are missing" "$(receive "$(request step-000000004.ckpt "$work/got" h1:/run 3)a" | answers_of)" "send refused $work/got/step-000000004.ckpt: the sender ended"
is "leave nothing" "$(names "$work/got")" step-000000003.ckpt
for name in ../x step-1.ckpt .bertd-copies step-000000001.ckpt.tmp metrics.jsonl; do
  ok "not a name: $name" eval '[[ $(receive "$(request "$name" "$work/got")$empty" | answers_of) == "refused $name: expected bertd.json or the name of a checkpoint" ]]'
done
for folder in got /tmp/../etc "$work//got" ''; do
  ok "not a folder: '$folder'" eval '[[ $(receive "$(request $one "$folder")$empty" | answers_of) == "refused "*"expected an absolute path"* ]]'
done
is "not a request" "$(receive 'hello\n' | answers_of)" "refused not a request for a copy: is bertd there of the same version?"
is "a folder that cannot be made" "$(receive "$(request $one "$work/absent/got")" | answers_of)" "refused $work/absent/got: No such file or directory"
touch "$work/got/heartbeat"
is "a run lives there" "$(receive "$(request $one "$work/got")" | answers_of)" "refused $work/got: a run lives in this folder; name another one for copies"
touch -d '3 minutes ago' "$work/got/heartbeat"
is "one that died does not" "$(receive "$(request $one "$work/got" h1:/run 0 3 9)$empty" | answers_of)" "send stored"
ln -s "$work/foreign/file" "$work/got/checkpoints/step-000000007.ckpt.tmp"
is "no link is followed" "$(receive "$(request step-000000007.ckpt "$work/got")$empty" | answers_of; cat "$work/foreign/file")" "send refused $work/got/step-000000007.ckpt.tmp: Too many levels of symbolic links
mine"
mkfifo "$work/pipe"
"$BERTCTL" receive <"$work/pipe" >"$work/first.said" &
receiver=$!
exec 9>"$work/pipe"
printf "$(request step-000000008.ckpt "$work/got" h1:/run 5)" >&9
ok "two at once" wait_for 10 grep -q send "$work/first.said"
is "are one too many" "$(receive "$(request step-000000009.ckpt "$work/got")" | answers_of)" "refused $work/got: another copy is being received"
exec 9>&-
wait $receiver
finish
