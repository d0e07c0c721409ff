#!/bin/bash
# What bash completes: commands, options, fixed words, files for specs, jobs; that zsh and fish can read theirs. What is offered at all is
# compared with the options by check-completions.
set -uo pipefail
. "${SOURCE_DIR:-$(dirname "$0")/../..}/tests/lib.sh"
tap_start
made=${BUILD_DIR:?}/docs
export BERTD_SOCKET=$work/none.sock BERTD_STATE_DIR=$work/state XDG_RUNTIME_DIR=$work PATH=$work/bin:$PATH
mkdir -p "$work/bin" "$work/files/folder"
touch "$work/bin/bertctl-of-the-test" && chmod +x "$work/bin/bertctl-of-the-test"
cd "$work/files" && touch one.yaml two.yml notes.txt

completes() { # EXPECTED WORD...: what is offered for the last word; nothing is said besides
  local got
  COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMPREPLY=()
  "_${2//-/_}" >"$work/said" 2>&1
  [[ ! -s $work/said ]] || cat "$work/said"
  got=$(printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort | xargs)
  [[ ! -s $work/said ]] && equal "$got" "$1"
}
offers() { ok "${*:2} -> $1" completes "$@"; }

for name in bertctl bertd bert-trainer; do . "$made/$name"; done
offers "status" bertctl st
offers "checkpoint checkpoints" bertctl check
offers "--socket" bertctl --so
offers "status" bertctl --socket /run/x st
offers "metrics" bertctl help met
offers "--ends-with" bertctl submit --en
offers "--no-chinese --no-lowercase --no-nfkd --no-quotes --no-strip-accents" bert-trainer tokenize --no
offers "first last" bertctl submit --ends-with ""
offers "last" bertctl submit --ends-with = l
offers "auto fork systemd" bertd --launcher ""
offers "prose" bert-trainer prepare --format p
offers "folder one.yaml two.yml" bertctl submit ""
offers "one.yaml" bert-trainer pretrain o
offers "folder" bertctl submit --run-dir ""
offers "notes.txt" bert-trainer prepare --vocab n
offers "" bertctl list --lines ""
offers "" bertctl submit --comment ""
offers "" bertctl list ""
offers "bertctl-of-the-test" bertctl submit --ranks 2 -- bertctl-of
offers "notes.txt" bertctl submit -- cat n
offers "" bertctl submit -- cat --ra

# Jobs: as bertctl prints them, from the socket that was asked for; without a bertd none, without a word.
cp "$BERTCTL" "$work/bin/bertctl"
offers "" bertctl status ""
cat >"$work/bin/bertctl" <<'END'
#!/bin/sh
[ "$*" = "--socket /run/x list --json -n 100" ] || exit 4
printf '[\n  {\n    "id": 12,\n    "name": "bert-base",\n    "user": "alice",\n    "name": "two words"\n  }\n]\n'
END
chmod +x "$work/bin/bertctl"
offers "12 bert-base" bertctl --socket /run/x logs -f ""
offers "12 bert-base" bertctl --socket = /run/x logs -f ""
offers "bert-base" bertctl --socket /run/x cancel 12 b

printf '#!/bin/sh\nexec sleep 60\n' >"$work/bin/bertctl"
began=$(date +%s%N)
offers "" bertctl status ""
ok "a bertd that hangs delays nobody for more than a second" test $((($(date +%s%N) - began) / 1000000)) -lt $((900 * patience))
for shell in zsh fish; do
  for file in "$made"/$([[ $shell == zsh ]] && echo '_*' || echo '*.fish'); do
    if command -v $shell >/dev/null; then ok "$shell reads ${file##*/}" $shell -n "$file"; else skip "$shell reads ${file##*/}" "no $shell"; fi
  done
done
finish
