#!/bin/sh
# prepare's memory does not grow with the text, and stays below 1 GB.
. "$(dirname "$0")/text-lib.sh"
[ "$sanitized" = no ] || skip_all "the sanitizers' memory is their own"
export OMP_NUM_THREADS=2
numbered_text 400 >text
"$BERT_TRAINER" vocab --size 200 --output vocab.txt text 2>err || exit 99
for _ in $(seq 200); do cat text; done >part
size=$(wc -c <part)
ok "the texts are 60 and 90 MB" test "$size" -gt 7500000
peak() { # FILE...: what prepare took at most, in MB
        python3 - "$BERT_TRAINER" prepare --vocab vocab.txt --format prose --output corpus "$@" <<'PY'
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
PY
}
# Its buffers are full, and what is to be written reaches the disk, before the first of these ends.
eight='part part part part part part part part'
# shellcheck disable=SC2086 # a list
small=$(peak $eight) large=$(peak $eight part part part part)
ok "a text is prepared in 1 GB of address space" test "${small:-0}" -gt 0
ok "a longer one takes no more memory ($small and $large MB)" test "${large:-1000}" -le $((small + 15))
finish
