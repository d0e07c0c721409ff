#!/bin/bash
# README's picture is what the programs print: `bertctl status` and `bertctl list` of real jobs, in a terminal, as an SVG. bertd's wall clock is
# moved (tests/fault/libclock.c), so that each job is as old as the picture says; names of this machine are replaced.
#   test_picture.sh --write     makes docs/terminal.svg anew; with meson: meson test -C build picture --test-args=--write
. "$(dirname "$0")/lib.sh"
picture=$source_dir/docs/terminal.svg columns=110
command -v tmux >/dev/null || skip_all "no tmux"
command -v systemd-notify >/dev/null || skip_all "no systemd-notify"

export CLOCK_OFFSET=$work/offset
ago() { # SECONDS: what bertd's clock is from now on
  python3 -c 'import struct, sys; open(sys.argv[1], "r+b" if sys.argv[3] else "wb").write(struct.pack("<q", -int(sys.argv[2])))' "$CLOCK_OFFSET" "$1" "${2-again}"
}
cat >"$work/bertd" <<END
#!/bin/sh
exec env LD_PRELOAD=$(preloaded clock) '$BERTD' "\$@"
END
chmod +x "$work/bertd"
submit() { # NAME RANKS COMMAND...
  "$BERTCTL" submit --name "$1" --ranks "$2" -- sh -c "$3"
}
report() { # STEP LOSS RATE: a job that is there, and waits
  echo "systemd-notify X_BERTD_STEP=$1 X_BERTD_STEPS=7038 X_BERTD_LOSS=$2 X_BERTD_RATE=$3; exec sleep 1000"
}

ago $((3 * 86400)) ""
BERTD=$work/bertd start_bertd
submit prepare-wiki 1 true >/dev/null && wait_job prepare-wiki
ago $((2 * 86400))
stage=$(submit bert-small 2 "$(report 3519 2.214 1840)")
wait_for 20 step_past "$stage" 3519
"$BERTCTL" pause "$stage" && wait_for 20 state_is "$stage" paused
ago $((5 * 3600))
base=$(submit bert-base 4 "$(report 4182 1.873 912)")
ago $((2 * 3600))
submit tune-lr 1 'echo "ValueError: shapes differ" >&2; exit 2' >/dev/null && wait_job tune-lr
ago 5400
large=$(submit bert-large 8 true)
ago 0
ok "jobs of every kind are there" eval 'wait_for 20 step_past "$base" 4182 && wait_for 20 state_is "$large" queued && state_is tune-lr failed && state_is prepare-wiki done'

cat >"$work/show" <<END
printf '\033[1m$\033[0m bertctl status\n'; '$BERTCTL' status
printf '\n\033[1m$\033[0m bertctl list\n'; '$BERTCTL' list
touch '$work/shown'; sleep 100
END
screen() { # what a terminal shows of both commands, with names of no machine
  env -u NO_COLOR -u TMUX TERM=xterm-256color LC_ALL=C.UTF-8 tmux -u -S "$work/tmux" -f /dev/null new-session -d -x "$columns" -y 40 "sh '$work/show'"
  wait_for 20 test -e "$work/shown"
  tmux -S "$work/tmux" capture-pane -e -p >"$work/screen"
  tmux -S "$work/tmux" kill-server
  sed -E "s/bertd [0-9.]+ \\(pid [0-9]+\\)/bertd 1.0 (pid 2157)/; s/  $(printf %-4s "$(id -un)")  /  root  /" "$work/screen"
}
screen >"$work/text"
python3 "$source_dir/tests/e2e/screen_svg.py" "$columns" "bertctl status and bertctl list" <"$work/text" >"$work/terminal.svg"
ok "the screen has colours" grep -q $'\033\\[3[0-9]m' "$work/text"
if [[ ${1:-} == --write ]]; then cp "$work/terminal.svg" "$picture"; fi
if [[ $(id -un) != ?????* ]]; then
  ok "README's picture is what the programs print: else renew it, as this test's head says" diff "$picture" "$work/terminal.svg"
else
  skip "README's picture is what the programs print" "the user's name makes its column wider"
fi
ok "and README shows it" grep -q '(docs/terminal.svg)' "$source_dir/README.md"
sed 's/\x1b\[[0-9;]*m//g; s/^/# /' "$work/text"
finish
