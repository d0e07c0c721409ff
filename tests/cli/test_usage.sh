#!/bin/bash
# A wrong command line of bert-trainer, each of its subcommands, bertd and bertd-shim: exit 2 and one line that names the word, the problem
# and whose help to read. bertctl's are in test_bertctl_usage.sh.
. "$(dirname "$0")/trainer-lib.sh"
export BERTD_STATE_DIR=$work/state BERTD_SOCKET=$work/bertd.sock
BERTD=${BERTD:?BERTD is the path of bertd}

refused() { # PATTERN WORD...: of bert-trainer
  local pattern=$1
  shift
  ok "bert-trainer $*" refuses 2 "^bert-trainer: $pattern; see bert-trainer $1 --help\$" "$TRAINER" "$@"
}
helps() { "$TRAINER" "$1" --help >out 2>err && [[ ! -s err ]] && grep -q "^usage: bert-trainer $1" out; }
fits() { # LINES WORD...: what bert-trainer prints has at most so many lines, none wider than 80 columns
  "$TRAINER" "${@:2}" >out && LC_ALL=C.UTF-8 awk -v lines="$1" '{ if (length > 80) { print; wide = 1 } } END { exit wide || NR > lines }' out
}
same_help() { "$TRAINER" help "$1" >out && "$TRAINER" "$1" --help | cmp - out; }

# Each subcommand with what it needs first: an option with an argument, then its words; what is missing without either.
while read -r command option words; do
  read -r -a words <<<"$words"
  ok "bert-trainer $command --help" helps "$command"
  refused "--frobnicate: unknown option" "$command" --frobnicate
  refused "-z: unknown option" "$command" "${words[@]}" -z
  refused "--help=x: takes no argument" "$command" --help=x
  [[ $option == - ]] || refused "$option: argument missing" "$command" "${words[@]}" "$option"
done <<'END'
vocab --size
tokenize --vocab
prepare --output
params --micro-batch a.json
pretrain --run-dir a.yaml
finetune --resume a.yaml
evaluate --task a.ckpt a.csv
predict --device a.ckpt
import --output hf
export --vocab a.ckpt
fill-mask --top a.ckpt
embed --pooling a.ckpt
inspect - a.ckpt
diff - a.ckpt b.ckpt
version -
help -
END
ok "bert-trainer --help fits a screen" fits 43 --help
is "its groups" "$(grep -E '^[A-Z].*:$' out)" "Prepare text:
Train a model:
Apply a trained model:
Exchange models with Hugging Face:
Look at models and checkpoints:
This program:
Examples:"
commands=$(sed -n 's/^  \([a-z-]*\)   *[a-z].*/\1/p' out)
ok "it has every command" equal "$(echo $commands)" "vocab tokenize prepare pretrain finetune evaluate predict embed fill-mask import export params inspect diff version help"
for command in $commands; do
  ok "bert-trainer $command --help fits 80 columns" fits 63 "$command" --help
  ok "bert-trainer help $command" same_help "$command"
done
ok "bert-trainer help is --help" eval '"$TRAINER" help >out && "$TRAINER" --help | cmp - out'
ok "help of an unknown command" refuses 2 "^bert-trainer: no command pretrian: did you mean pretrain?\$" "$TRAINER" help pretrian
refused "b: one argument too many" help vocab b
refused "a: one argument too many" version a
ok "bert-trainer --version" eval '"$TRAINER" --version >out && "$TRAINER" version | cmp - out && grep -q "^bert-trainer [0-9]" out'
refused "-y: unknown option" tokenize --vocab=x -yz
refused "--output FILE: missing" vocab text
refused "--vocab FILE: missing" tokenize text
refused "--vocab FILE: missing" prepare --output corpus text
refused "--output PREFIX: missing" prepare --vocab vocab.txt text
refused "CONFIG.json: missing" params
refused "b.json: one argument too many" params a.json b.json
for command in pretrain finetune; do
  refused "SPEC.yaml: missing" $command --run-dir run
  refused "--run-dir DIR: missing" $command a.yaml
  refused "b.yaml: one argument too many" $command a.yaml b.yaml --run-dir run
done
refused "CHECKPOINT FILE: missing" evaluate a.ckpt
refused "CHECKPOINT: missing" predict
refused "c: one argument too many" predict a.ckpt b c
refused "HF_DIR: missing" import --output a.ckpt
refused "--output CHECKPOINT: missing" import hf
refused "CHECKPOINT: missing" export --output hf
refused "--output HF_DIR: missing" export a.ckpt
refused "CHECKPOINT: missing" fill-mask
refused "CHECKPOINT: missing" inspect
refused "b.ckpt: one argument too many" inspect a.ckpt b.ckpt
refused "CHECKPOINT CHECKPOINT: missing" diff a.ckpt
refused "c.ckpt: one argument too many" diff a.ckpt b.ckpt c.ckpt
ok "fill-mask --top 0" refuses 2 "^bert-trainer: --top: '0', expected 1 to" "$TRAINER" fill-mask --top 0 a.ckpt
ok "params --micro-batch x" refuses 2 "^bert-trainer: --micro-batch: 'x', expected 1 to" "$TRAINER" params --micro-batch x a.json
ok "predict --device tpu" refuses 2 "^bert-trainer: --device: 'tpu', expected auto, cpu or cuda" "$TRAINER" predict --device tpu a.ckpt
ok "predict --device cdua" refuses 2 "^bert-trainer: --device: 'cdua', .*: did you mean cuda?\$" "$TRAINER" predict --device cdua a.ckpt
ok "prepare --format proes" refuses 2 "^bert-trainer: --format: 'proes', expected lines, prose, wikitext or jsonl: did you mean prose?\$" "$TRAINER" prepare --format proes
ok "evaluate --format xml" refuses 2 "^bert-trainer: --format: 'xml', expected" "$TRAINER" evaluate --format xml a.ckpt a
ok "bert-trainer alone" refuses 2 "^bert-trainer: COMMAND: missing; see bert-trainer --help\$" "$TRAINER"
ok "one that is nearly a command" refuses 2 "^bert-trainer: no command pretrian: did you mean pretrain?\$" "$TRAINER" pretrian
ok "an option that is nearly one" refuses 2 "^bert-trainer: --rundir: unknown option: did you mean --run-dir?; see bert-trainer pretrain --help\$" "$TRAINER" pretrain --rundir x
ok "an option where a command belongs" refuses 2 "^bert-trainer: no option --verbose (bert-trainer --help lists them)\$" "$TRAINER" --verbose
ok "an unknown command" refuses 2 "^bert-trainer: no command frobnicate (bert-trainer --help lists them)\$" "$TRAINER" frobnicate

ok "bertd --help fits 80 columns" eval '"$BERTD" --help >out && ! grep -E "^.{81}" out && grep -q "^  bertd --detach" out'
daemon() { ok "bertd ${*:2}" refuses 2 "^bertd: $1" "$BERTD" "${@:2}"; }
daemon "--frobnicate: unknown option; see bertd --help\$" --frobnicate
daemon "--sockte=x: unknown option: did you mean --socket?; see bertd --help\$" --sockte=x
daemon "-z: unknown option; see bertd --help\$" -z
daemon "--detach=x: takes no argument; see bertd --help\$" --detach=x
for option in state-dir socket slots gpus launcher; do daemon "--$option: argument missing; see bertd --help\$" --$option; done
daemon "surplus: one argument too many; see bertd --help\$" surplus
daemon '--state-dir: empty' --state-dir ''
daemon '--slots: "0", expected 1 to' --slots 0
daemon '--gpus: empty, expected a number or a list' --gpus ''
daemon '--gpus: 65, expected 0 to 64' --gpus 65
daemon '--gpus: "1" is given twice' --gpus 0,1,1
daemon '--gpus: "," has an empty name' --gpus ,
daemon '--launcher: '"'x'"', expected auto, systemd or fork$' --launcher x
daemon "--launcher: 'sytemd', .*: did you mean systemd?\$" --launcher sytemd
daemon '--frobnicate: unknown option' --detach --frobnicate
ok "none of them has made a state folder" test ! -e "$BERTD_STATE_DIR"
for words in "" --frobnicate "--job x" "--job 1 --attempt"; do
  # shellcheck disable=SC2086 # words
  ok "bertd-shim $words" refuses 2 '^usage: bertd-shim --job N.*(bertd starts it)$' "$(dirname "$BERTD")/bertd-shim" $words
done
finish
