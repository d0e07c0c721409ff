# What all shell tests share, for sh and bash: points of TAP, waiting with a limit, refusals, a job's fields. A test sources it, or the
# library of its kind (cli/trainer-lib.sh, cli/text-lib.sh, e2e/lib.sh), which has called `tap_start`, and ends with `finish`.
# A test may define `diagnose`, what to print where a point failed, and `cleanup`, what to end and remove at its end.
set -u
source_dir=${SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
BERTCTL=${BERTCTL:-bertctl}
patience=${TEST_PATIENCE:-2}    # limits are this many times what is expected of a machine with nothing else to do
sanitized=${TEST_SANITIZED:-no} # yes where everything takes several times as long
tap_points=0 tap_failed=0 tap_finished=0

tap_start() { # makes the folder $work; KEEP=1 leaves it
  work=$(mktemp -d /tmp/bertd-test.XXXXXX) || exit 99
  chmod 755 "$work"
  trap tap_end EXIT
}
tap_end() {
  [ "${BASHPID:-$$}" = $$ ] || exit 99 # bash runs the trap in a child, too, that a signal meets right after its fork
  if [ "$tap_finished" -eq 0 ]; then echo "Bail out! The test ended before its end."; fi
  cleanup
  [ -n "${KEEP:-}" ] || rm -rf "$work"
  if [ "$tap_finished" -eq 0 ]; then exit 99; fi
  exit $((tap_failed > 0))
}
finish() {
  echo "1..$tap_points"
  tap_finished=1
  exit
}
skip_all() { # REASON: before the first point
  echo "1..0 # SKIP $*"
  tap_finished=1
  exit
}
cleanup() { :; }
diagnose() { :; }

ok() { # DESCRIPTION COMMAND...: a point; what the command printed is shown where it failed
  local description
  [ $# -gt 1 ] || set -- "$@" false # without a command it could not fail
  description=$1
  shift
  tap_points=$((tap_points + 1))
  if "$@" >"$work/.said" 2>&1; then
    echo "ok $tap_points - $description"
  else
    echo "not ok $tap_points - $description"
    tap_failed=$((tap_failed + 1))
    { cat "$work/.said"; diagnose; } 2>&1 </dev/null | sed 's/^/# /'
  fi
}
is() { # DESCRIPTION GOT EXPECTED
  ok "$1" equal "$2" "$3"
}
skip() { # DESCRIPTION REASON: a point that cannot be made here
  tap_points=$((tap_points + 1))
  echo "ok $tap_points - $1 # SKIP $2"
}
equal() {
  [ "$1" = "$2" ] || { echo "got '$1', expected '$2'"; return 1; }
}
not() { # COMMAND...: it fails, and not by a signal, a time limit or a sanitizer
  local status
  status=0
  "$@" || status=$?
  [ $status -gt 0 ] && [ $status -lt 124 ] && [ $status -ne 99 ] || { echo "exit $status, expected a failure"; return 1; }
}
exits() { # CODE COMMAND...
  local status want
  want=$1 status=0
  shift
  "$@" || status=$?
  [ $status -eq "$want" ] || { echo "exit $status, expected $want"; return 1; }
}
no_file() { # FOLDER NAME: none of that name (find's pattern) is below the folder, which is there
  local found
  found=$(find "$1" -name "$2") && [ -z "$found" ] || { echo "$found"; return 1; }
}
quietly() { "$@" >/dev/null 2>&1; }

for_people() { # FILE: no message in it is of a NULL, of a place in a library's source or of a name in C
  ! grep -E '\(null\)|[a-z_]+\.(c|cc|cpp|h)[:(][0-9]|SQLITE_[A-Z]|JSON_[A-Z]|\b(O_(RDONLY|RDWR|CREAT)|E(NOENT|ACCES|PERM|IO|INVAL|NOMEM|EXIST|NOSPC|ROFS|BUSY|AGAIN|NOTDIR|ISDIR|BADF))\b' "$1"
}
refuses() { # CODE PATTERN COMMAND...: ends with CODE, one line on stderr that has PATTERN, nothing on stdout
  local status want pattern
  want=$1 pattern=$2 status=0
  shift 2
  timeout $((60 * patience)) "$@" >"$work/.out" 2>"$work/.err" </dev/null || status=$?
  [ $status -eq "$want" ] && [ ! -s "$work/.out" ] && [ "$(wc -l <"$work/.err")" -eq 1 ] && grep -q -e "$pattern" "$work/.err" && for_people "$work/.err" ||
    { echo "exit $status, expected $want and one line with /$pattern/:"; cat "$work/.out" "$work/.err"; return 1; }
}

wait_for() { # SECONDS COMMAND...: polls until the command succeeds
  local limit
  limit=$(($(date +%s) + $1 * patience))
  shift
  until "$@"; do
    [ "$(date +%s)" -lt $limit ] || return 1
    sleep 0.1
  done
}

preloaded() { # NAME: where a library of tests/fault lies for LD_PRELOAD, in whose paths a blank may not be
  cp "$BUILD_DIR/tests/lib$1.so" "$work/" && echo "$work/lib$1.so"
}
free_ports() { # N: so many of this host that nobody has now
  python3 -c 'import socket, sys; print(*[s.getsockname()[1] for s in [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]])' "$1"
}
field() { "$BERTCTL" status --json "$1" 2>/dev/null | jq -r ".$2"; } # JOB KEY
state_is() { [ "$(field "$1" state)" = "$2" ]; }                    # JOB STATE
step_past() { at_least "$(field "$1" step)" "$2"; }                 # JOB STEP
attempt_past() { at_least "$(field "$1" attempts)" "$2"; }          # JOB ATTEMPTS
at_least() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  [ "$1" -ge "$2" ]
}
wait_job() { # JOB [SECONDS]: what `bertctl wait` returns; says so where the job has not ended by then
  local status
  status=0
  timeout $((${2:-120} * patience)) "$BERTCTL" wait "$1" || status=$?
  [ $status -ne 124 ] || echo "# job $1 has not ended in $((${2:-120} * patience)) s"
  return $status
}
