#!/bin/bash
# What bertd-job(5) says of a spec's name, paths, run folder and on_exit.
. "$(dirname "$0")/lib.sh"
start_bertd
mkdir -p "$work/home" "$work/specs" "$work/bin"
export HOME=$work/home PATH=$work/bin:$PATH
cat >"$work/bin/notify-me" <<END
#!/bin/sh
pwd >$work/notified.new
mv $work/notified.new $work/notified
END
chmod +x "$work/bin/notify-me"
cp "$work/bin/notify-me" "$work/specs/hook"
sed -i "s|$work/notified|$work/hooked|g" "$work/specs/hook"
cat >"$work/specs/by-file.yaml" <<'END'
kind: command
command: [sh, -c, 'pwd; echo "$BERTD_RUN_DIR"']
run_dir: ~/runs/a
on_exit: notify-me
END
sed 's|~/runs/a|runs/b|; s|notify-me|./hook|; 1i name: named' "$work/specs/by-file.yaml" >"$work/specs/other.yaml"
mkdir "$work/shell"
cd "$work/shell" || exit 99
job=$("$BERTCTL" submit "$work/specs/by-file.yaml")
ok "a job of a spec in another folder is done" wait_job "$job" 30
is "without a name it has the file's" "$(field "$job" name)" by-file
is "it runs where bertctl did, with a run folder in the user's home for ~/" "$("$BERTCTL" logs "$job" | xargs)" "$work/shell $work/home/runs/a"
ok "which was made" test -d "$work/home/runs/a"
is "and is the job's" "$(field "$job" run_dir)" "$work/home/runs/a"
ok "a name of on_exit is looked for in PATH" wait_for 20 test -s "$work/notified"
is "and runs in the job's folder" "$(cat "$work/notified")" "$work/shell"
job=$("$BERTCTL" submit "$work/specs/other.yaml")
wait_job "$job" 30
is "relative paths are taken from the spec's folder: run_dir" "$(field "$job" name) $(field "$job" run_dir)" "named $work/specs/runs/b"
ok "on_exit" wait_for 20 test -s "$work/hooked"
finish
