#!/bin/bash
# What a start costs before its first step, by the size of the corpus: a tiny model takes one step, then one more from its checkpoint. The corpus is
# made of random ids, in $BENCH_FOLDER (by default a temporary folder), 2 bytes a token. Prints Markdown.
#   bench-restart.sh [MILLIONS OF TOKENS]...    2000
. "$(dirname "$0")/../cli/trainer-lib.sh"
tap_end() {
  rm -rf "$work"
  [ -z "${folder:-}" ] || rm -f "$folder"/big.{bin,idx}
}
folder=${BENCH_FOLDER:-$work}
(($#)) || set -- 2000
make_inputs

make_big() { # MILLIONS: sentences of 20 tokens, documents of 20 sentences
  python3 - "$folder/big" "$1" <<'PY'
import random, struct, sys
prefix, tokens = sys.argv[1], int(sys.argv[2]) * 10**6
sentences, length, block = tokens // 20, 20, 400_000
random.seed(1)
ids = b"".join(struct.pack("<H", random.randrange(5, 150)) for _ in range(block))
with open(prefix + ".bin", "wb") as f:
    for _ in range(tokens // block):
        f.write(ids)
import array
with open(prefix + ".idx", "wb") as f:
    f.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, sentences, sentences // 20 + 1))
    some = array.array("i", [length]) * 1_000_000
    for at in range(0, sentences, 1_000_000):
        f.write(some[: min(1_000_000, sentences - at)].tobytes())
    for first, n, step in ((0, sentences, length * 2), (0, sentences // 20 + 1, 20)):
        for at in range(first, n, 1_000_000):
            f.write(array.array("q", range(at * step, min(at + 1_000_000, n) * step, step)).tobytes())
PY
}
seconds() { # RANKS STEPS: until the last of so many steps, from the newest checkpoint; and of all processes, computing
  sed "s/ steps: [0-9]*/ steps: $2/" big.yaml >now.yaml
  TIMEFORMAT='%R %U %S'
  { time train "$1" now.yaml --run-dir "run$1" >log 2>&1; } 2>took || { tail -n 3 log >&2; exit 1; }
  awk '{ printf "%.2f | %.2f", $1, $2 + $3 }' took
}
write_spec big.yaml 1 1
sed -i "s|\[corpus\]|[$folder/big]|; s|validation: \[corpus-validation\], ||; s|, evaluate_every: 4, evaluate_samples: 9||; s|sequence_length: 32|sequence_length: 64|" big.yaml
echo '| tokens in the corpus | ranks | first start and a step, s | of that computing | started again and a step, s | of that computing |'
echo '|---|---|---|---|---|---|'
for millions; do
  make_big "$millions"
  for ranks in 1 2; do
    rm -rf "run$ranks"
    first=$(seconds $ranks 1) || exit 1
    again=$(for steps in 2 3 4; do seconds $ranks $steps; echo; done | sort -n | sed -n 2p) || exit 1
    echo "| $millions M | $ranks | $first | $again |"
  done
done
tap_finished=1
