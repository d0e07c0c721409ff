#!/bin/sh
# Ranks on hosts that share no folder: rank 1 runs with an empty file system over all that rank 0 alone is to need (spec, configuration, vocabulary,
# run folder) and under another host name; corpora and files of texts are at the same path. The bits are those of two ranks on one host.
. "$(dirname "$0")/trainer-lib.sh"
have_ranks 2 || finish
own=$(uname -n | sed 's/\..*//')
if [ "$(id -u)" -eq 0 ]; then apart='unshare -mu'; else apart='unshare -rmu'; fi
quietly $apart mount -t tmpfs none /mnt || skip_all 'no mount namespaces'
mkdir data head
cd data || exit 99
make_inputs
train 1 spec.yaml --run-dir alone >alone.log 2>&1
mv tiny.json vocab.txt spec.yaml ../head
cd ../head || exit 99

# hosts RANKS_THERE ARGUMENT…: rank 0 here, the others on h2
cat >../there <<'SH2'
#!/bin/sh
mount -t tmpfs none "$HEAD_FOLDER" && hostname h2 && cd / || exit 99
for folder in ${WITHOUT:-}; do mount -t tmpfs none "$folder" || exit 99; done
unset BERTD_RUN_DIR BERTD_RESUME
exec "$TRAINER" "$@"
SH2
cat >../hosts <<SH2
#!/bin/sh
n=\$1
shift
exec timeout $((60 * patience)) mpirun --oversubscribe --bind-to none -n 1 "$TRAINER" "\$@" : -n "\$n" $apart "$work/there" "\$@"
SH2
chmod +x ../there ../hosts
hosts=$work/hosts
export HEAD_FOLDER=$work/head TRAINER OMPI_MCA_btl=self,tcp
same() { "$TRAINER" diff "$1" "$2" >/dev/null; }
data() { sed "s,\[corpus\],[$work/data/corpus],; s,\[corpus-validation\],[$work/data/corpus-validation]," "$@"; }
# Pretraining, from the start and resumed
data spec.yaml >../one.yaml && mv ../one.yaml spec.yaml
sed 's/ steps: 20/ steps: 10/' spec.yaml >half.yaml
one=$work/head/one two=$work/head/two
train 2 "$work/head/spec.yaml" --run-dir "$one" >../one.log 2>&1
ok 'pretraining' $hosts 1 pretrain "$work/head/spec.yaml" --run-dir "$two"
ok 'has the bits of one host' same "$(ckpt "$one" 20)" "$(ckpt "$two" 20)"
hashes() { sed -n 's/.*"step": \([0-9]*\),.*"first_k": \([0-9]*\),.*"sample_hash": \("[0-9a-f]*"\).*/\1 \2 \3/p' "$1/metrics.jsonl"; }
hashes "$one" >../one.hashes && hashes "$two" >../two.hashes
ok 'and its samples' cmp ../one.hashes ../two.hashes
ok 'at each step' test "$(wc -l <../two.hashes)" -eq 20
rm "$(ckpt "$two" 20)"
BERTD_RUN_DIR=$two BERTD_RESUME=$(ckpt "$two" 10)
export BERTD_RUN_DIR BERTD_RESUME
ok 'resumed by variables that only rank 0 has' $hosts 1 pretrain "$work/head/spec.yaml"
unset BERTD_RUN_DIR BERTD_RESUME
ok 'has the bits of one host' same "$(ckpt "$one" 20)" "$(ckpt "$two" 20)"
ok 'three ranks' $hosts 2 pretrain "$work/head/spec.yaml" --run-dir "$work/head/three"

# The same with another node for Open MPI, whose agent is ours: two ranks there have the window map in memory once.
cat >../agent <<SH2
#!/bin/sh
shift
printf '%s\\n' "\$*" >"$work/orted"
exec $apart sh -c 'mount -t tmpfs none "$work/head" && hostname h2 && cd / && exec sh "$work/orted"'
SH2
chmod +x ../agent
nodes="timeout $((60 * patience)) mpirun --oversubscribe --bind-to none -H $own:1,h2:2 --mca plm_rsh_agent $work/agent -wdir / -n 3 -x OMP_NUM_THREADS"
ok 'three ranks on two nodes' $nodes "$TRAINER" pretrain "$work/head/spec.yaml" --run-dir "$work/head/nodes"
ok 'have the bits of one node' same "$(ckpt "$work/head/three" 20)" "$(ckpt "$work/head/nodes" 20)"
sed 's/ steps: 20/ steps: 100000/; s/every_steps: 10/every_steps: 0/; s/evaluate_every: 4, //' spec.yaml >endless.yaml
$nodes "$TRAINER" pretrain "$work/head/endless.yaml" --run-dir "$work/head/endless" >../endless.log 2>&1 &
job=$!
wait_for 30 test -s endless/metrics.jsonl
grep -l "endless" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | while read -r pid; do
        awk '/memfd:window map/ { print $5 }' "/proc/$pid/maps" 2>/dev/null
done | sort >../maps
ok 'a window map is in the memory of another host' test -s ../maps
is 'of each there once, for two ranks' "$(uniq -c ../maps | awk '{ print $1 }' | sort -u)" 2
pid=$(pgrep -P $job)
kill -KILL $pid
wait $job 2>/dev/null

# A run that loses hosts and gets them back: steps 1 to 5 on three ranks, to 10 on two, to 15 on one, the rest on three
sed 's/every_steps: 10/every_steps: 5/' spec.yaml >often.yaml
shrunk=$work/head/shrunk
for there in 2 1 0 2; do
        case $there in
        0) "$TRAINER" pretrain "$work/head/often.yaml" --run-dir "$shrunk" ;;
        *) $hosts $there pretrain "$work/head/often.yaml" --run-dir "$shrunk" ;;
        esac >>../shrunk.log 2>&1 || break
        for last in 5 10 15; do [ -e ../has-$last ] || break; done
        [ -e ../has-15 ] || { : >../has-$last && for step in 10 15 20; do [ $step -le $last ] || rm "$(ckpt "$shrunk" $step)"; done; }
done
ok 'three ranks, two, one, three' test -e "$(ckpt "$shrunk" 20)"
is 'each continued from where the other was' "$(sed -n 's/^resuming from .*, step \([0-9]*\) of 20$/\1/p' ../shrunk.log | xargs)" '5 10 15'
hashes "$shrunk" >../shrunk.hashes
ok 'saw the same samples at each step' cmp ../one.hashes ../shrunk.hashes
losses() { sed -n 's/^{"step": \([0-9]*\), "loss": \([0-9.]*\), .*"sample_hash.*/\1 \2/p' "$1/metrics.jsonl"; }
losses "$one" >../one.losses && losses "$shrunk" | paste -d ' ' - ../one.losses >../both.losses
ok 'with the same loss, but for rounding' awk 'NF != 4 || $1 != $3 || ($2 - $4) ^ 2 > (1e-5 * $4) ^ 2 { bad = 1; print } END { exit bad || NR != 20 }' ../both.losses

# Weights to begin with, a checkpoint and a folder
sed "s,vocab: vocab.txt,init: $(ckpt "$one" 20)," half.yaml >begun.yaml
sed -i 's/config: tiny.json, //' begun.yaml
ok 'a checkpoint to begin with' $hosts 1 pretrain "$work/head/begun.yaml" --run-dir "$work/head/begun"
train 2 "$work/head/begun.yaml" --run-dir "$work/head/begun-one" >../begun.log 2>&1
ok 'has the bits of one host' same "$(ckpt "$work/head/begun-one" 10)" "$(ckpt "$work/head/begun" 10)"
"$TRAINER" export "$(ckpt "$one" 20)" --output folder >/dev/null 2>&1
sed "s,init: [^}]*,init: folder," begun.yaml >folder.yaml
ok 'a Hugging Face folder' $hosts 1 pretrain "$work/head/folder.yaml" --run-dir "$work/head/of-folder"
ok 'has the same bits' same "$(ckpt "$work/head/begun-one" 10)" "$(ckpt "$work/head/of-folder" 10)"

# Stages, classification of several tasks, a best checkpoint and a test set
awk 'BEGIN { print "label,text"; for (i = 0; i < 24; i++) print i % 2 ? "core,the kernel maps the page" : "net,the socket sends a packet" }' >../data/texts.csv
awk 'BEGIN { print "label,text"; for (i = 0; i < 24; i++) print i % 3 ? "fast,the lock wakes a thread" : "slow,the timer drops the clock" }' >../data/other.csv
cat >stages.yaml <<SPEC
kind: finetune
checkpoint: {every_sec: 0}
model: {init: $(ckpt "$one" 20)}
data: {train: [$work/data/texts.csv], sequence_length: 16}
train: {global_batch: 4, micro_batch: 2, steps: 4, evaluate_every: 2}
stages:
- {data: {objective: mlm}}
- {data: {objective: classify, split: 0.25, test: [$work/data/texts.csv]}}
SPEC
cat >tasks.yaml <<SPEC
kind: finetune
checkpoint: {every_sec: 0}
model: {config: tiny.json, vocab: vocab.txt}
data: {sequence_length: 16}
train: {global_batch: 4, micro_batch: 2, steps: 4}
stages:
- tasks:
  - {task: area, train: [$work/data/texts.csv]}
  - {task: pace, train: [$work/data/other.csv]}
SPEC
mkdir ../tmp
TMPDIR=$work/tmp
export TMPDIR
for spec in stages tasks; do
        ok "finetune: $spec" $hosts 1 finetune "$work/head/$spec.yaml" --run-dir "$work/head/$spec"
        timeout $((60 * patience)) mpirun --oversubscribe --bind-to none -n 2 "$TRAINER" finetune "$work/head/$spec.yaml" --run-dir "$work/head/$spec-one" >../$spec.log 2>&1
        last=$(ls "$spec/checkpoints" | tail -1)
        ok 'has the bits of one host' same "$spec-one/checkpoints/$last" "$spec/checkpoints/$last"
done
ok 'a corpus of texts is removed there' no_file ../tmp 'bert-trainer.*'

# The pace of each rank: rank 1 is stopped most of the time, several times a step however fast the machine, then left alone
sed 's/global_batch: 7, micro_batch: 2/global_batch: 1024, micro_batch: 128/; s/ steps: 20/ steps: 100000/; s/evaluate_every: 4, //; s/every_steps: 10/every_steps: 0/' spec.yaml >long.yaml
cat >../pace.py <<'PY'
import os, signal, socket, subprocess, sys, time
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind("\0pace-%d" % os.getpid())
listener.settimeout(0.004)
run = subprocess.Popen(sys.argv[1:], env=dict(os.environ, NOTIFY_SOCKET="@pace-%d" % os.getpid()), stderr=open("pace.log", "w"))

def on_h2():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline").read().split("\0")
            if words[1:2] == ["pretrain"] and sys.argv[-1] in words and os.readlink(f"/proc/{pid}/ns/uts") != os.readlink("/proc/self/ns/uts"):
                return int(pid)
        except OSError:
            pass

def said(stop):  # the next word of a slow rank
    end, rank = time.monotonic() + 60, None
    while time.monotonic() < end:
        rank = stop and (rank or on_h2())
        if rank: os.kill(rank, signal.SIGSTOP)
        time.sleep(0.02 if stop else 0)
        if rank: os.kill(rank, signal.SIGCONT)
        try: text = listener.recv(4096).decode()
        except TimeoutError: continue
        if text.startswith("X_BERTD_SLOWEST="): return text.strip().partition("=")[2]

slow = said(True)
while slow and not slow.startswith("h2,"): slow = said(True)
over = slow
for _ in range(20):  # the ratio may change first
    if over: over = said(False)
print(slow, repr(over))
run.send_signal(signal.SIGUSR1)
run.wait(60)
PY
python3 ../pace.py mpirun --oversubscribe --bind-to none -n 1 "$TRAINER" pretrain "$work/head/long.yaml" --run-dir "$work/head/paced" : -n 1 $apart "$work/there" pretrain "$work/head/long.yaml" --run-dir "$work/head/paced" >../pace.said
ok 'a rank that is slow is named with its host, until it no longer is' grep -qE "^h2,1,([1-9]|1[0-9])\.[0-9]{2} ''$" ../pace.said
pace() { jq -s -e "map(select(.loss)) | $1" paced/metrics.jsonl >/dev/null; }
ok 'each step tells how long ranks computed' pace 'length > 20 and all(0 < .compute_min and .compute_min <= .compute_median and .compute_median <= .compute_max)'
ok 'and who was slowest' pace '[.[].slowest] | map(select(. == {rank: 1, host: "h2"})) | length >= 10'
ok 'one rank has none' not grep -q compute ../data/alone/metrics.jsonl

# What is to be on each host, and is not
mkdir ../more && cp ../data/corpus.* ../data/corpus-validation.* ../data/texts.csv ../more/
sed "s,$work/data,$work/more," spec.yaml >lacks.yaml
sed "s,$work/data,$work/more," stages.yaml >lacks-texts.yaml
lacks="refuses_after_progress 66"
export WITHOUT=$work/more
ok 'a corpus that h2 lacks' $lacks "rank 1 on h2: .*$work/more/corpus.idx: No such file" $hosts 1 pretrain "$work/head/lacks.yaml" --run-dir "$work/head/lacks"
ok 'texts that h2 lacks' $lacks "rank 1 on h2: .*$work/more/texts.csv: No such file" $hosts 1 finetune "$work/head/lacks-texts.yaml" --run-dir "$work/head/lacks"
unset WITHOUT
cat >../there-other <<'SH2'
#!/bin/sh
mount --bind "$OTHER/corpus.json" "$MORE/corpus.json" && exec "$(dirname "$0")/there" "$@"
SH2
chmod +x ../there-other
mkdir ../other && sed 's/"lowercase": true/"lowercase": false/' ../more/corpus.json >../other/corpus.json
ok 'a sidecar that differs on h2' refuses_after_progress 65 "rank 1 on h2: data.train: $work/more/corpus.json differs from that of rank 0 on $own" \
        env OTHER="$work/other" MORE="$work/more" timeout 60 mpirun --oversubscribe --bind-to none -n 1 "$TRAINER" pretrain lacks.yaml --run-dir lacks : -n 1 $apart "$work/there-other" pretrain lacks.yaml --run-dir lacks
ok 'nothing was written' test ! -e lacks/metrics.jsonl
ok 'a spec that rank 0 lacks' $lacks "rank 0 on $own: $work/head/absent.yaml: No such file" $hosts 1 pretrain "$work/head/absent.yaml" --run-dir "$work/head/lacks"
ok 'no run folder' refuses_after_progress 2 run-dir $hosts 1 pretrain "$work/head/spec.yaml"
finish
